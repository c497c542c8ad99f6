# SPDX-License-Identifier: MIT
"""What simulated workers do: they speak the frames of real ones, and take their time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.wire import frames
from pydra.model.options import Guarantee
from pydra.model.unit import SESSION_TASK
from tests.simulation.lines import Lines
from tests.simulation.promises import Promises
from tests.simulation.works import LEAVES, RETRIES, Works, digest_of
from tests.support.workers import KILLED, OVERDUE, ScriptedWorker, ScriptedWorkers

T = TypeVar("T")

CRASHED = WorkerExit(139, "killed by SIGSEGV")

ASK_SIZE = 512 * 1024
"""Bytes of arguments that one frame asks with."""

WINDOW = 16
"""Units that a simulated task asks for ahead."""

WRITES_EVERY = 5
"""Units, one of which writes a line."""

FLUSH_S = 0.01
"""Seconds for which a worker keeps a result, so that more go with it."""

DYING_S = 5.0
"""Seconds that the death of a worker may take."""

HEARS_S = 0.0005
"""Seconds that a frame is under way."""

Unit = tuple[int, str, int]
"""Instance, branch and index."""


class Diary:
    """What the workers of all nodes did and were told; what should not be is noted in ``faults``."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.begun: Counter[Unit] = Counter()
        """How often each unit began."""
        self.failed: Counter[Unit] = Counter()
        """How often each unit failed by itself."""
        self.given: dict[tuple[str, str, int], bytes | None] = {}
        """What a batch gave for a unit of a branch; None for a failure."""
        self.lines = Lines()
        self.began: dict[str, float] = {}
        """When the root of each attempt began."""
        self.roots: Counter[int] = Counter()
        """How often the root of each instance began."""
        self.results: dict[str, bytes] = {}
        """What the root of each attempt gave."""
        self.promises = Promises(self.faults.append)


class Asker:
    """The part of a task that asks for the units of one branch, again for those that fail, and waits."""

    def __init__(
        self, worker: ProgrammedWorker, branch: str, count: int, retries: int, done: Callable[[int], None]
    ) -> None:
        self._worker = worker
        self.branch = branch
        self._next = worker.firsts.get(branch, 0)
        self._count = self._next + count
        self._retries = retries
        self._done = done
        self._outstanding: set[int] = set()
        self._resting: set[int] = set()
        self._tried: Counter[int] = Counter()
        self._failed = 0
        self._is_over = False

    def go_on(self) -> None:
        """Ask for as many as there is room for."""
        room = WINDOW - len(self._outstanding) - len(self._resting)
        first, self._next = self._next, max(self._next, min(self._count, self._next + room))
        if first < self._next:
            self._ask(list(range(first, self._next)))
        elif not self._outstanding and not self._resting and not self._is_over:
            self._is_over = True
            self._done(self._failed)

    def forget(self) -> None:
        """No more of it is wanted."""
        self._is_over = True
        self._worker.firsts[self.branch] = self._next
        self._worker.says(frames.FORGET, self.branch)

    def _ask(self, indexes: list[int]) -> None:
        args = [self._worker.works.args(self._worker.instance, self.branch, index) for index in indexes]
        if len(indexes) > 1 and sum(map(len, args)) > ASK_SIZE:
            half = len(indexes) // 2
            self._ask(indexes[:half])
            self._ask(indexes[half:])
            return
        self._outstanding.update(indexes)
        digests = b"".join(map(digest_of, args))
        work = self._worker.works.work(self._worker.instance)
        promised = [int(work.units_guarantee)] if work.units_guarantee else []
        self._worker.says(frames.ASK, self.branch, indexes, args, digests, work.unit_limit, *promised)

    def _again(self, index: int) -> None:
        self._resting.remove(index)
        if not self._is_over:
            self._ask([index])

    def results(self, indexes: list[int], results: list[bytes], failures: dict[int, Any]) -> None:
        """Some are there."""
        worker = self._worker
        for position, index in enumerate(indexes):
            if self._is_over:
                return
            if index not in self._outstanding:
                worker.diary.faults.append(f"{self.branch}:{index} came to {worker.name} twice")
                continue
            self._outstanding.remove(index)
            begin = f"{worker.instance}/{self.branch}:{index} by ".encode()
            if position not in failures:
                if not results[position].startswith(begin):
                    worker.diary.faults.append(f"{self.branch}:{index} came with {results[position][:80]!r}")
            elif self._tried[index] < self._retries:
                self._tried[index] += 1
                self._resting.add(index)
                worker.later(0.5 * self._tried[index], self._again, index)
            else:
                self._failed += 1
                if worker.works.work(worker.instance).gives_up:
                    self.forget()
                    self._done(self._failed)
        self.go_on()


class ProgrammedWorker(ScriptedWorker):
    """A worker that does the work of its instance by itself."""

    def __init__(
        self,
        pool: ProgrammedWorkers,
        works: Works,
        random: Random,
        diary: Diary,
        clock: Clock,
        *arguments: Any,
    ) -> None:
        super().__init__(clock, *arguments)
        self._pool = pool
        self.works = works
        self.random = random
        self.diary = diary
        self.name = ""
        self.instance = 0
        self._batches: deque[tuple[str, str, list[int]]] = deque()
        self._position = 0
        self._is_running = False
        self._is_stopping = False
        self.is_serving = False
        """It runs units, and no root."""
        self._asker: Asker | None = None
        self.firsts: dict[str, int] = {}
        """Results of units before these may be under way still, though they were forgotten."""
        self._more = b""
        self._results: list[bytes] = []
        self._failures: dict[int, list[str]] = {}
        self._busy_s = 0.0

    def send(self, frame: list[object]) -> None:
        """The node says something; what follows comes later."""
        before = len(self.sent)
        super().send(frame)
        given = self.sent[before:]
        del self.sent[1:]  # only that it is at work is looked at from outside
        for each in given:
            self.later(HEARS_S, self._take, each)

    def kill(self) -> None:
        """It does nothing more; in some runs it takes a while until it is gone."""
        if self.is_killed or self.is_gone or not self.works.has_slow_deaths:
            super().kill()
        else:
            self._die(KILLED)

    def _overdue(self) -> None:
        if not self.is_killed:
            self._die(OVERDUE)

    def _die(self, ending: WorkerExit) -> None:
        self.is_killed = True
        self._clock.callLater(self.random.uniform(0.0, DYING_S), self.exits, ending)

    def _hear(self, call: Callable[[T], None], what: T) -> None:
        self._pool.when_it_goes(lambda: call(what))

    def exits(self, ending: WorkerExit) -> None:
        """It is gone, and its node hears of it."""
        if not self.is_gone:
            self._pool.passed("loses a worker")
        super().exits(ending)

    def later(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Do something after a while, if it is still there."""

        def now() -> None:
            if not self.is_gone and not self.is_killed:
                call(*arguments)

        self._clock.callLater(seconds, now)

    def _take(self, frame: list[Any]) -> None:
        match frame:
            case [frames.RUN, name, instance, task_key, *_]:
                self.name, self.instance = name, instance
                self.diary.roots[instance] += 1
                self.diary.began[name] = self._clock.seconds()
                self._pool.names.append(name)
                is_session = task_key == SESSION_TASK
                guarantee = Guarantee.NONE if is_session else self.works.work(instance).guarantee
                self.diary.promises.begins((instance, "", 0), guarantee, self)
                if task_key != SESSION_TASK:
                    self.later(0.01, self._begin_root)
            case [frames.SERVE, name, instance, *_]:
                self.name, self.instance, self.is_serving = name, instance, True
                self._pool.names.append(name)
                self.later(0.01, self.says, frames.READY)
            case [frames.MORE, part]:
                self._more += part
            case [frames.UNITS, batch, branch, indexes, args]:
                for index, given in zip(indexes, args, strict=True):
                    if self.works.args(self.instance, branch, index) != self._more + given:
                        self.diary.faults.append(f"{branch}:{index} was given {given[:80]!r}")
                self._more = b""
                self._batches.append((batch, branch, indexes))
                self._next_unit()
            case [frames.RESULTS, branch, indexes, results, failures]:
                self._give(branch, indexes, results, failures)
            case [frames.STOP]:
                if self.random.random() < 0.4:
                    return  # its task does not look at the flag
                self._is_stopping = True
                self.later(self.random.uniform(0, 15), self.says, frames.STOPPED)
            case _:
                self.diary.faults.append(f"{self.name} was sent {frame[0]}")

    def _give(self, branch: str, indexes: list[int], results: list[bytes], failures: dict[int, Any]) -> None:
        results[0], self._more = self._more + results[0], b""
        if indexes[0] < self.firsts.get(branch, 0):
            return
        if self._asker is None or self._asker.branch != branch:
            self.diary.faults.append(f"{self.name} was given results of {branch}, and asked for none")
        else:
            self._asker.results(indexes, results, failures)

    # The root.

    def _write(self) -> None:
        self.writes(f"{self.diary.lines.write(self.name, self._clock.seconds())}\n".encode())

    def _begin_root(self) -> None:
        work = self.works.work(self.instance)
        self._write()
        self.says(frames.PROGRESS, self.random.randint(-1, 100), "begun")
        if work.kills:
            self.later(work.duration, self.exits, CRASHED)
        elif work.units < 0:
            self.later(work.duration, self._end_root, 0)
        else:
            self._asker = Asker(self, "Sub", work.units, RETRIES, self._end_root)
            self._asker.go_on()

    def _end_root(self, failed: int) -> None:
        work = self.works.work(self.instance)
        if self._is_stopping:
            return
        self._write()
        if work.fails or (failed and work.gives_up):
            self.says(frames.FAILED, "failed", "ValueError: x", "")
        else:
            result = f"result of {self.name}".encode()
            self.diary.results[self.name] = result = result.ljust(70_000 * work.is_large, b".")
            self.says(frames.RESULT, result)

    # Units.

    def _next_unit(self) -> None:
        if self._is_running or not self._batches:
            return
        self._is_running = True
        _, branch, indexes = self._batches[0]
        unit = indexes[self._position]
        self.diary.begun[self.instance, branch, unit] += 1
        promised = self.works.guarantee(self.instance, branch)
        self.diary.promises.begins((self.instance, branch, unit), promised, self)
        fate = self.works.fate(self.instance, branch, unit)
        if fate.kills:
            self.later(fate.duration, self.exits, CRASHED)
        elif fate.hangs:
            return
        elif self.works.is_nested(self.instance, branch):
            self._asker = Asker(self, f"{branch}:{unit}/Leaf", LEAVES, 0, lambda _: self._end_unit())
            self._asker.go_on()
        else:
            self.later(fate.duration, self._end_unit)

    def _end_unit(self) -> None:
        batch, branch, indexes = self._batches[0]
        self._asker = None
        key = (self.instance, branch, indexes[self._position])
        fate = self.works.fate(*key)
        self.diary.promises.ends(key, self)
        batch_name = batch.partition("+")[0]
        if self.diary.failed[key] < fate.fails:
            self.diary.failed[key] += 1
            self._failures[len(self._results)] = ["failed", "ValueError: y", ""]
            self._results.append(b"")
            self.diary.given[batch_name, branch, key[2]] = None
        else:
            result = self.works.result(*key, batch_name)
            self._results.append(result)
            self.diary.given[batch_name, branch, key[2]] = result
        if key[2] % WRITES_EVERY == 0:
            self._write()
        self._busy_s += fate.duration
        self._position += 1
        is_last = self._position == len(indexes)
        if is_last or fate.is_large:
            self._flush()
        elif len(self._results) == 1:
            self.later(FLUSH_S, self._flush)
        if is_last:
            self._batches.popleft()
            self._position = 0
        self._is_running = False
        self._next_unit()

    def _flush(self) -> None:
        if not self._results:
            return
        results, failures, busy_s = self._results, self._failures, self._busy_s
        self._results, self._failures, self._busy_s = [], {}, 0.0
        start = self._position - len(results)
        self.says(frames.DONE, self._batches[0][0], start, results, failures, busy_s)


class ProgrammedWorkers(ScriptedWorkers):
    """Where a simulated node takes its workers from."""

    def __init__(
        self,
        works: Works,
        random: Random,
        diary: Diary,
        clock: Clock,
        passed: Callable[[str], None],
        when_it_goes: Callable[[Callable[[], None]], None],
    ) -> None:
        super().__init__(clock)
        self.names: list[str] = []
        """Of all workers that there were."""
        self._works = works
        self._random = random
        self._diary = diary
        self.passed = passed
        self.when_it_goes = when_it_goes
        """Has its daemon do something, as soon as it does not stand still."""

    async def take(self, *arguments: Any, **named: Any) -> ScriptedWorker:
        """A worker; none comes once the node is dead."""
        self.passed("takes a worker")
        worker = await super().take(*arguments, **named)
        self.passed("took a worker")
        if worker.is_gone:
            await Deferred()
        return worker

    def _make(self, *arguments: Any) -> ProgrammedWorker:
        about = (self._works, self._random, self._diary, self._clock)
        return ProgrammedWorker(self, *about, *arguments)

    def living(self) -> list[ProgrammedWorker]:
        """Those that are there and at work."""
        self.taken = [worker for worker in self.taken if not worker.is_gone]
        return [worker for worker in self.taken if not worker.is_killed]
