# SPDX-License-Identifier: MIT
"""
Units without a cluster: they run in this process, one after another, when their answers are asked for.

Arguments and results are packed and unpacked as on a cluster, so what cannot travel there fails here too. A
unit has this thread, so its time limit is not enforced.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from time import monotonic

from pydra.cluster.tasks.call import call_task
from pydra.cluster.tasks.failure import RunFailure, failure_of
from pydra.errors import TaskCancelled

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydra.cluster.interfaces import Answered
    from pydra.cluster.tasks.task import Task

TURN_S = 0.05
"""How long units may go on before their answers are handed out."""


def wait(seconds: float) -> None:
    """Let time pass; an interrupt from the keyboard ends it."""
    lock = allocate_lock()
    lock.acquire()
    lock.acquire(timeout=seconds)


class StandaloneUnits:
    """Runs the units that one task asks for."""

    def __init__(
        self,
        owner: Task,
        clock: Callable[[], float] = monotonic,
        pause: Callable[[float], None] = wait,
    ) -> None:
        self._owner = owner
        self._clock = clock
        self._pause = pause
        self._models: dict[str, Task] = {}
        self._asked: deque[tuple[str, int, bytes]] = deque()

    def ask(
        self,
        branch: str,
        indexes: Sequence[int],
        args: Sequence[bytes],
        time_limit: float = 0.0,
        guarantee: int = 0,
    ) -> None:
        """Put units in the queue."""
        self._check()
        self._asked.extend((branch, index, packed) for index, packed in zip(indexes, args, strict=True))

    def answers(self, timeout: float | None = None) -> Sequence[Answered]:
        """Run units for a moment, one at least; if there is none, wait out the ``timeout``."""
        self._check()
        if not self._asked:
            self._pause(timeout or 0.0)
            return []
        answered: list[Answered] = []
        until = self._clock() + TURN_S
        while self._asked:
            answered.append(self._run(*self._asked.popleft()))
            if self._owner.STOP_FLAG or self._clock() >= until:
                break
        return answered

    def forget(self, branch: str) -> None:
        """Drop what did not begin."""
        self._asked = deque(one for one in self._asked if one[0] != branch)

    def path(self, branch: str) -> str:
        """Its name for people; there is no instance."""
        return branch

    def _check(self) -> None:
        if self._owner.STOP_FLAG:
            raise TaskCancelled("The task was stopped.")

    def _run(self, branch: str, index: int, args: bytes) -> Answered:
        try:
            task = self._model(branch)._remade()
        except Exception as fault:  # noqa: BLE001 - an author's constructors may raise anything
            told = failure_of(fault)
            return branch, index, b"", (told.code, told.message, told.traceback)
        self._owner._running_unit = task
        try:
            answer = call_task(task, args)
        finally:
            self._owner._running_unit = None
        if isinstance(answer, RunFailure):
            return branch, index, b"", (answer.code, answer.message, answer.traceback)
        return branch, index, answer, None

    def _model(self, branch: str) -> Task:
        """The task that the units of a branch are made after."""
        found = self._models.get(branch)
        if found is None:
            root = self._owner
            while root.parent is not None:
                root = root.parent
            found = self._models[branch] = root.get_subtask(f"{root.get_key()}.{branch}")
        return found
