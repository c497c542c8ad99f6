# SPDX-License-Identifier: MIT
"""The tasks whose units a hired worker runs: each is looked up once, and made anew for each unit."""

from __future__ import annotations

from pydra.cluster.tasks.failure import RunFailure, failure_of
from pydra.cluster.worker.loader import SESSION, CodeFault, load_class, make_task

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from pydra.cluster.tasks.task import Task
    from pydra.cluster.worker.surroundings import Surroundings


class Branches:
    """
    Finds the tasks of branches, below the root of one instance.

    In a session, the first level of a branch is the task key of a root of the user's own.
    """

    def __init__(self, package: str, task_key: str, surroundings: Surroundings) -> None:
        """Load the root, unless it is a session; `CodeFault` if that fails."""
        self._package = package
        self._surroundings = surroundings
        self._root = None if task_key == SESSION else self._made(task_key)
        self._roots: dict[str, Task] = {}
        self._found: dict[str, tuple[str, Task] | RunFailure] = {}

    def find(self, branch: str) -> tuple[str, Task] | RunFailure:
        """
        The task of a branch, not to be run itself, and its key below its root; or why there is none.

        The constructors that are called for it are user code.
        """
        levels = [level.partition(":")[0] for level in branch.split("/")]
        path = "/".join(levels)
        found = self._found.get(path)
        if found is None:
            try:
                found = self._looked_up(levels)
            except CodeFault as fault:
                found = RunFailure(fault.code, str(fault), fault.traceback)
            except BaseException as fault:  # noqa: BLE001 - user code may raise anything, SystemExit included
                found = failure_of(fault)
            self._found[path] = found
        return found

    def _looked_up(self, levels: list[str]) -> tuple[str, Task]:
        root, keys = self._root, levels
        if root is None:
            task_key, *keys = levels
            root = self._roots.get(task_key)
            if root is None:
                root = self._roots[task_key] = self._made(task_key)
        key = ".".join(keys)
        return key, root.get_subtask(f"{type(root).__name__}.{key}") if keys else root

    def _made(self, task_key: str) -> Task:
        task = make_task(load_class(self._package, task_key), task_key)
        task._worker = self._surroundings
        return task
