# SPDX-License-Identifier: MIT
"""
The names of branches and units, and the tasks that they name.

A branch is the path of the asker's own unit (nothing for a root), a slash, and the key of the subtask below
the asker's task, without the class of the asker. ``Par`` that is a root asks for units of ``Sub``; as child 1
of a container for ``1.Par.Sub``. Its unit ``Sub:7``, if ``Sub`` asks for units itself, asks for
``Sub:7/Other``. A parallel child of a container is a branch of its own, ``1.Class``, with the one index 0.
"""

from __future__ import annotations

from pydra.errors import TaskError, TaskNotFoundException

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from pydra.cluster.tasks.task import Task

BRANCH_LIMIT = 1024
"""Characters of a branch, as ``pydra.model.unit`` has it; that loads msgspec."""


def asker_of(task: Task) -> Task:
    """The task that asks for the units of ``task``: the one that a worker runs, a root or a unit."""
    while not task._unit and task.parent is not None:
        task = task.parent
    return task


def branch_of(subtask: Task) -> str:
    """The branch of the units that run ``subtask``; `TaskError` if its name is too long."""
    keys: list[str] = []
    asker = subtask
    while (parent := asker.parent) is not None:
        keys.append(asker._key)
        asker = parent
        if asker._unit:
            break
    key = ".".join(reversed(keys))
    branch = f"{asker._unit}/{key}" if asker._unit else key
    if len(branch) > BRANCH_LIMIT:
        raise TaskError(
            f"{subtask.get_key()} stands too deep: its units have a name of {len(branch)} characters; "
            f"the limit is {BRANCH_LIMIT}."
        )
    return branch


def key_of(branch: str) -> str:
    """The key, below the root, of the task that the units of a branch run: ``Sub.Other``."""
    *above, last = branch.split("/")
    return ".".join([*(level.rpartition(":")[0] for level in above), last])


class Branch:
    """The tasks of one branch below a root; `TaskNotFoundException` if the root has no such subtask."""

    __slots__ = ("_model", "branch")

    def __init__(self, root: Task, branch: str) -> None:
        self.branch = branch
        key = key_of(branch)
        if not key:
            raise TaskNotFoundException(f"{root.get_key()} has no subtask without a name.")
        self._model = root.get_subtask(f"{root._key}.{key}")

    def task(self, index: int) -> Task:
        """A fresh task that runs the unit ``index``, and knows that it does."""
        task = self._model._remade()
        task._unit = f"{self.branch}:{index}"
        return task
