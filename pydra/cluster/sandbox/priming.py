# SPDX-License-Identifier: MIT
"""
Which modules are worth importing ahead: those in use, the latest first, within a memory budget.

A primed worker has imported the module of one task of one package version, and is used once, for that version
alone. Nothing is gained in CPU time by that; what is gained is that the task does not wait for it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from pydra.cluster.interfaces import WorkerExit, WorkerListener
from pydra.cluster.sandbox.worker_process import SandboxedWorker
from pydra.cluster.wire.frames import PRIMED
from pydra.model.ids import PackageName, PackageVersion
from pydra.model.package import Needs

IN_USE_S = 300.0
"""A module that was not used for this long is not imported ahead any more."""

RUSH_S = 30.0
"""As often as a module was used in this time, so many workers are primed with it."""

SHUNNED_S = 300.0
"""How long a module is left alone that failed, hung or ended its process when it was imported ahead."""

GUESSED_MEMORY = 32 * 1024 * 1024
"""Bytes that a primed worker is expected to take before one has told."""

SMALLEST_MEMORY = 2 * 1024 * 1024
"""Bytes that each is counted for at least, whatever it tells."""

OUTPUT_LIMIT = 64 * 1024
"""Bytes that may be written to descriptors 1 and 2 ahead of the task."""

_KEYS_LIMIT = 256


class Subject(NamedTuple):
    """What is imported ahead."""

    package: PackageName
    version: PackageVersion
    needs: Needs
    module: str


class Budget(NamedTuple):
    """How much may be primed at a time."""

    workers: int
    """How many of them."""
    memory: int
    """Bytes."""


NOTHING = Budget(0, 0)


class PrimedWorker:
    """
    A worker that imports, or has imported, a module ahead; its listener until it is taken.

    ``told`` is called once: with what it said, or the reason why it will say nothing; ``gone`` when it ended.
    """

    def __init__(
        self,
        worker: SandboxedWorker,
        subject: Subject,
        told: Callable[[PrimedWorker, str], None],
        gone: Callable[[PrimedWorker], None],
    ) -> None:
        self.worker = worker
        self.subject = subject
        self.memory = 0
        """Bytes, as it says."""
        self.is_primed = False
        self._told = told
        self._gone = gone
        self._output = b""

    def hand_over(self, listener: WorkerListener) -> SandboxedWorker:
        """Give it away, with what it wrote so far."""
        self.worker.pass_to(listener)
        if self._output:
            listener.output_received(self._output)
        return self.worker

    def frame_received(self, frame: list[object]) -> None:
        """PRIMED, once; it has nothing else to say."""
        match frame:
            case [int() as kind, str() as fault, int() as memory] if kind == PRIMED and not self.is_primed:
                self.is_primed = True
                self.memory = max(memory, SMALLEST_MEMORY)
                self._told(self, fault)
            case _:
                self._told(self, "it broke the protocol")

    def output_received(self, data: bytes) -> None:
        """Keep it for the task's log."""
        self._output += data
        if len(self._output) > OUTPUT_LIMIT:
            self._output = b""
            self._told(self, "it writes too much")

    def exited(self, ending: WorkerExit) -> None:
        """It ended unused."""
        self._gone(self)


class Priming:
    """What was used, what is primed, and so what is to be primed next, or to be ended."""

    def __init__(self, seconds: Callable[[], float], budget: Budget) -> None:
        self._seconds = seconds
        self._budget = budget
        self._uses: OrderedDict[Subject, deque[float]] = OrderedDict()
        """When each was used last, the latest at the end."""
        self._memory: dict[Subject, int] = {}
        self._shunned: dict[Subject, float] = {}
        self._primed: list[PrimedWorker] = []
        """Those that are being primed too."""

    def used(self, subject: Subject) -> None:
        """A task of it begins."""
        if not self._budget.memory:
            return
        uses = self._uses.setdefault(subject, deque(maxlen=max(self._budget.workers, 1)))
        uses.append(self._seconds())
        self._uses.move_to_end(subject)
        if len(self._uses) > _KEYS_LIMIT:
            self._memory.pop(self._uses.popitem(last=False)[0], None)

    def take(self, subject: Subject) -> PrimedWorker | None:
        """One that has imported it, from now on the caller's."""
        for primed in self._primed:
            if primed.is_primed and primed.subject == subject:
                self._primed.remove(primed)
                return primed
        return None

    def add(self, primed: PrimedWorker) -> None:
        """It is being primed."""
        self._primed.append(primed)

    def learn(self, primed: PrimedWorker) -> None:
        """It told its memory."""
        self._memory[primed.subject] = primed.memory

    def remove(self, primed: PrimedWorker) -> bool:
        """It is gone, or will be; False if that was known."""
        if primed not in self._primed:
            return False
        self._primed.remove(primed)
        return True

    def shun(self, subject: Subject) -> None:
        """Importing it ahead was no good."""
        now = self._seconds()
        self._shunned = {one: until for one, until in self._shunned.items() if until > now}
        self._shunned[subject] = now + SHUNNED_S

    def next(self) -> Subject | None:
        """What is to be primed next; None if all that is wanted is there, or on its way."""
        there = [primed.subject for primed in self._primed]
        for subject in self._wanted():
            if subject not in there:
                return subject
            there.remove(subject)
        return None

    def surplus(self) -> list[PrimedWorker]:
        """Those that are not wanted any more."""
        wanted = self._wanted()
        found = []
        for primed in self._primed:
            if primed.subject in wanted:
                wanted.remove(primed.subject)
            elif primed.is_primed:
                found.append(primed)
        return found

    @property
    def is_empty(self) -> bool:
        """True if none is primed."""
        return not self._primed

    def clear(self) -> None:
        """Forget all that are primed."""
        self._primed.clear()

    def _wanted(self) -> list[Subject]:
        now = self._seconds()
        wanted: list[Subject] = []
        memory = 0
        for subject in reversed(self._uses):
            uses = self._uses[subject]
            if now - uses[-1] > IN_USE_S or len(wanted) >= self._budget.workers:
                break
            if self._shunned.get(subject, 0.0) > now:
                continue
            each = self._memory.get(subject, GUESSED_MEMORY)
            for _ in range(max(1, sum(now - at <= RUSH_S for at in uses))):
                if len(wanted) < self._budget.workers and memory + each <= self._budget.memory:
                    wanted.append(subject)
                    memory += each
        return wanted
