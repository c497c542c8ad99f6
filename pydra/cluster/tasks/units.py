# SPDX-License-Identifier: MIT
"""Who runs the units that a task asks for, and how they are called."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from pydra.cluster.interfaces import Units
    from pydra.cluster.tasks.task import Task


def units_of(task: Task) -> Units:
    """The units of the worker that ``task`` runs on; without one, this process runs them."""
    worker = task.get_worker()
    if worker is not None:
        return worker.units
    from pydra.cluster.tasks.standalone import StandaloneUnits  # noqa: PLC0415 - a worker never needs it

    return StandaloneUnits(task)


def branch_of(subtask: Task) -> str:
    """The name of the units that run ``subtask``: its key below the class of the root."""
    return subtask.get_key().partition(".")[2]
