# SPDX-License-Identifier: MIT
"""
Children of a container that run at the same time, each as a unit of its own.

The child at place 1 is the unit 0 of the branch ``1.Class``. All get the arguments of the container. What
stands in the container itself are models: each unit runs a fresh one, wherever it runs.
"""

from __future__ import annotations

from collections import deque

from pydra.cluster.tasks.failure import ToldTraceback
from pydra.cluster.tasks.task import CANCELLED, COMPLETE, FAILED, RUNNING
from pydra.cluster.tasks.unit_loop import ITEM_LIMIT, LOOK_S, WINDOW_BYTES, WINDOW_UNITS
from pydra.cluster.tasks.units import branch_of
from pydra.cluster.wire import payload
from pydra.errors import TaskCancelled, TaskError, WireError

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydra.cluster.interfaces import Units
    from pydra.cluster.tasks.task import Task


class ChildFailed(Exception):
    """The unit of a child failed."""

    def __init__(self, child: Task, failure: tuple[str, str, str]) -> None:
        self.child = child
        _, self.words, traceback = failure
        self.__cause__ = ToldTraceback(traceback) if traceback else None
        super().__init__(self.words)


class ParallelChildren:
    """One run of all children of a container."""

    def __init__(self, container: Task, children: Sequence[Task], units: Units) -> None:
        self._container = container
        self._units = units
        self._tasks = children
        self._waiting = deque(range(len(self._tasks)))
        self._asked: dict[str, int] = {}
        self._results: list[object] = [None] * len(self._tasks)

    def run(self, arguments: dict[str, object]) -> list[object] | None:
        """The results in the order of the children; None if the container was stopped. `ChildFailed`."""
        args = _packed(arguments)
        window = max(1, min(WINDOW_UNITS, WINDOW_BYTES // len(args)))
        try:
            while not self._container.STOP_FLAG:
                while self._waiting and len(self._asked) < window:
                    self._ask(self._waiting.popleft(), args)
                if not self._asked:
                    return self._results
                for branch, _, result, failure in self._units.answers(LOOK_S):
                    place = self._asked.pop(branch, None)
                    if place is not None:
                        self._settle(place, result, failure)
            return None
        finally:
            self._forget()

    def _ask(self, place: int, args: bytes) -> None:
        task = self._tasks[place]
        branch = branch_of(task)
        task._status = RUNNING
        self._asked[branch] = place
        self._units.ask(branch, [0], [args], guarantee=task._guarantee())

    def _settle(self, place: int, result: bytes, failure: tuple[str, str, str] | None) -> None:
        task = self._tasks[place]
        if failure is None:
            try:
                self._results[place] = payload.unpack(result)
            except WireError as fault:
                failure = (fault.code, f"Its result cannot be read: {fault}", "")
        if failure is not None:
            task._status = FAILED
            raise ChildFailed(task, failure)
        task._status = COMPLETE

    def _forget(self) -> None:
        """Nothing more is awaited of those that did not end."""
        for place in self._asked.values():
            self._tasks[place]._status = CANCELLED
        try:
            for branch in self._asked:
                self._units.forget(branch)
        except TaskCancelled:
            return  # all of it was forgotten with the instance


def _packed(arguments: dict[str, object]) -> bytes:
    try:
        args = payload.pack(arguments, "args")
    except (TypeError, ValueError) as fault:
        raise TaskError(f"The arguments cannot be sent to the subtasks: {fault}") from None
    if len(args) > ITEM_LIMIT:
        size, limit = len(args) / 2**20, ITEM_LIMIT // 2**20
        raise TaskError(f"The subtasks' arguments are {size:.1f} MiB packed; the limit is {limit} MiB.")
    return args
