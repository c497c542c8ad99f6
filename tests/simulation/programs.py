# SPDX-License-Identifier: MIT
"""What simulated workers do: they speak the frames of real ones, and take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
from twisted.internet.task import Clock

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.wire import frames
from pydra.model.unit import DIGEST_SIZE
from tests.simulation.plan import Plan
from tests.support.workers import ScriptedWorker, ScriptedWorkers

CRASHED = WorkerExit(139, "killed by SIGSEGV")
MIXED_UNITS = (0, 1, 2, 7, 30, 120)
WINDOW = 16
"""Units that a simulated main worker asks for ahead."""


class Work(msgspec.Struct, frozen=True):
    """What an instance is, decided by its number: the same in each of its attempts."""

    units: int
    """Of branch ``Sub``; -1 if it asks for none."""
    nested: bool
    """Its units ask for units themselves, two each."""
    duration: float
    unit_duration: float
    poison: frozenset[int]
    """Units that kill their worker."""
    fails: bool
    kills: bool
    """Its root kills its worker."""


def work_of(plan: Plan, instance: int) -> Work:
    """The work of an instance."""
    random = Random(f"work {plan.seed} {instance}")
    units = random.choice(MIXED_UNITS) if random.random() < plan.parallel else -1
    return Work(
        units=units,
        nested=units > 0 and random.random() < 0.2,
        duration=random.uniform(0.0, 20.0),
        unit_duration=random.uniform(0.0, plan.longest_unit),
        poison=frozenset(unit for unit in range(units) if random.random() < plan.poison),
        fails=random.random() < 0.05,
        kills=random.random() < plan.poison,
    )


def result_of_unit(instance: int, branch: str, unit: int) -> bytes:
    """What a unit returns, whoever runs it and however often."""
    return f"{instance}/{branch}:{unit}".encode()


class Diary:
    """What the workers of all nodes did and were told; what should not be is noted in ``faults``."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.begun: dict[tuple[int, str, int], int] = {}
        """How often each unit began."""
        self.results: dict[str, bytes] = {}
        """What the root of each attempt gave."""


class Asker:
    """The part of a task that asks for the units of one branch and waits for all of them."""

    def __init__(
        self, worker: ProgrammedWorker, branch: str, count: int, done: Callable[[int], None]
    ) -> None:
        self._worker = worker
        self.branch = branch
        self._count = count
        self._done = done
        self._next = 0
        self._outstanding: set[int] = set()
        self._failed = 0

    def start(self) -> None:
        """Ask for the first ones."""
        self._ask()

    def _ask(self) -> None:
        first, last = self._next, min(self._count, self._next + WINDOW - len(self._outstanding))
        if first < last:
            indexes = list(range(first, last))
            args = [f"args {self.branch}:{index}".encode() for index in indexes]
            digests = b"".join(blake2b(each, digest_size=DIGEST_SIZE).digest() for each in args)
            self._next = last
            self._outstanding.update(indexes)
            self._worker.says(frames.ASK, self.branch, indexes, args, digests, 0.0)
        elif not self._outstanding:
            self._done(self._failed)

    def results(self, indexes: list[int], results: list[bytes], failures: dict[int, Any]) -> None:
        """Some are there."""
        for position, index in enumerate(indexes):
            if index not in self._outstanding:
                self._worker.diary.faults.append(f"{self.branch}:{index} came to {self._worker.name} twice")
                continue
            self._outstanding.remove(index)
            if position in failures:
                self._failed += 1
            elif results[position] != result_of_unit(self._worker.instance, self.branch, index):
                self._worker.diary.faults.append(f"{self.branch}:{index} came with {results[position]!r}")
        self._ask()


class ProgrammedWorker(ScriptedWorker):
    """A worker that does the work of its instance by itself."""

    def __init__(self, plan: Plan, random: Random, diary: Diary, clock: Clock, *arguments: Any) -> None:
        super().__init__(clock, *arguments)
        self.plan = plan
        self.random = random
        self.diary = diary
        self.clock = clock
        self.name = ""
        self.instance = 0
        self._batches: deque[tuple[str, str, list[int]]] = deque()
        self._position = 0
        self._is_running = False
        self._is_stopping = False
        self._is_serving = False
        self._asker: Asker | None = None

    def send(self, frame: list[object]) -> None:
        """The node says something; what follows comes later."""
        before = len(self.sent)
        super().send(frame)
        for given in self.sent[before:]:
            self._take(given)
        del self.sent[1:]  # only that it is at work is looked at from outside

    def _take(self, frame: list[Any]) -> None:
        match frame:
            case [frames.RUN, name, instance, *_]:
                self.name, self.instance = name, instance
                self._begin_root(work_of(self.plan, instance))
            case [frames.SERVE, name, instance, *_]:
                self.name, self.instance, self._is_serving = name, instance, True
            case [frames.UNITS, batch, branch, indexes, args]:
                assert len(indexes) == len(args)
                self._batches.append((batch, branch, indexes))
                self._next_unit()
            case [frames.RESULTS, branch, indexes, results, failures]:
                if self._asker is None or self._asker.branch != branch:
                    self.diary.faults.append(f"{self.name} was given results of {branch}, and asked for none")
                else:
                    self._asker.results(indexes, results, failures)
            case [frames.STOP]:
                self._is_stopping = True
                self._after(self.random.uniform(0, 15), self.says, frames.STOPPED)

    def _begin_root(self, work: Work) -> None:
        if work.kills:
            self._after(work.duration, self.exits, CRASHED)
        elif work.units < 0:
            self._after(work.duration, self._end_root, work)
        else:
            self._asker = Asker(self, "Sub", work.units, lambda failed: self._end_root(work))
            self._after(0.01, self._asker.start)

    def _end_root(self, work: Work) -> None:
        if self._is_stopping:
            return
        if work.fails:
            self.says(frames.FAILED, "failed", "ValueError: x", "")
        else:
            result = f"result of {self.name}".encode()
            self.diary.results[self.name] = result
            self.says(frames.RESULT, result)

    def _next_unit(self) -> None:
        if self._is_running or not self._batches:
            return
        self._is_running = True
        _, branch, indexes = self._batches[0]
        unit = indexes[self._position]
        key = (self.instance, branch, unit)
        self.diary.begun[key] = self.diary.begun.get(key, 0) + 1
        work = work_of(self.plan, self.instance)
        if branch == "Sub" and unit in work.poison:
            self._after(work.unit_duration, self.exits, CRASHED)
        elif branch == "Sub" and work.nested:
            self._asker = Asker(
                self, f"Sub:{unit}/Leaf", 2, lambda failed: self._end_unit(work.unit_duration)
            )
            self._asker.start()
        else:
            self._after(work.unit_duration, self._end_unit, work.unit_duration)

    def _end_unit(self, busy_s: float) -> None:
        batch, branch, indexes = self._batches[0]
        self._asker = None
        unit = indexes[self._position]
        failures = {}
        result = result_of_unit(self.instance, branch, unit)
        if Random(f"unit {self.plan.seed} {self.instance} {branch} {unit}").random() < 0.03:
            failures, result = {0: ["failed", "ValueError: y", ""]}, b""
        self.says(frames.DONE, batch, self._position, [result], failures, busy_s)
        self._position += 1
        if self._position == len(indexes):
            self._batches.popleft()
            self._position = 0
        self._is_running = False
        self._next_unit()

    def _after(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Later, if it is still there."""

        def later() -> None:
            if not self.is_gone and not self.is_killed:
                call(*arguments)

        self.clock.callLater(seconds, later)


class ProgrammedWorkers(ScriptedWorkers):
    """Where a simulated node takes its workers from."""

    def __init__(self, plan: Plan, random: Random, diary: Diary, clock: Clock) -> None:
        super().__init__(clock)
        self._plan = plan
        self._random = random
        self._diary = diary

    def _make(self, *arguments: Any) -> ProgrammedWorker:
        return ProgrammedWorker(self._plan, self._random, self._diary, self._clock, *arguments)

    def living(self) -> list[ProgrammedWorker]:
        """Those that are there and at work."""
        self.taken = [worker for worker in self.taken if not worker.is_gone]
        return [worker for worker in self.taken if not worker.is_killed]
