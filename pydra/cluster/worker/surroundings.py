# SPDX-License-Identifier: MIT
"""What a task sees of the worker that it runs on, and which unit that runs."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from pydra.cluster.interfaces import Units
    from pydra.cluster.tasks.task import Task


class Place:
    """The unit that runs now; without a branch it is the root."""

    __slots__ = ("branch", "index", "instance", "key", "task")

    def __init__(self) -> None:
        self.instance = 0
        self.branch = ""
        self.index = 0
        self.key = ""
        """Of the unit's task, below the class of the root; empty for a task that is a root itself."""
        self.task: Task | None = None
        """Its task, once there is one."""

    def label(self) -> list[object]:
        """What says whose a line of the log is; nothing for the root."""
        return [self.branch, self.index] if self.branch else []

    def branch_of(self, key: str) -> str:
        """
        The branch that units of the subtask ``key`` make, which this unit asks for.

        Both keys are below the class of the root; in a branch the path of the unit stands for its own.
        """
        if not self.branch:
            return key
        if self.key:
            key = key.removeprefix(f"{self.key}.")
        return f"{self.branch}:{self.index}/{key}"


class Surroundings:
    """The worker as a task sees it (``get_worker()``)."""

    def __init__(
        self, worker_key: str, instance: int, attempt: str, capture: Callable[[], None], units: Units
    ) -> None:
        self.worker_key = worker_key
        self.instance = instance
        self.attempt = attempt
        self.capture_logging = capture
        self.units = units
