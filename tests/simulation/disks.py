# SPDX-License-Identifier: MIT
"""What keeps things: a store whose commits take time, and journals that lose what was not synced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from pydra.cluster.node.journal import Journal, framed
from pydra.errors import StoreError
from pydra.model.changes import Change, Committed
from tests.support.fakes import MemoryStore

EXACT_S = 0.05
"""Timers that are not longer are exact."""

MOST_CALLS = 20_000
"""Of timers at one instant."""

WRITTEN = {"_write": "the journal", "write_at": "a log", "_replace": "the epoch"}
"""What functions write that are called in the thread of a disk."""


class SlowStore(MemoryStore):
    """A store that outlives masters; a crash of one may find commits under way."""

    def __init__(self, clock: Clock, random: Random, slowest_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._random = random
        self._slowest_s = slowest_s
        self._free_at = 0.0
        self._under_way: list[Deferred[None]] = []

    async def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """Make all changes or none, after those before and a while."""
        changes = tuple(changes)
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now) + self._random.uniform(0.0, self._slowest_s)
        waiting: Deferred[None] = Deferred()
        self._under_way.append(waiting)
        self._clock.callLater(self._free_at - now, self._make, waiting)
        await waiting
        return await super().commit(changes)

    def crash(self, made: bool) -> None:
        """Who commits is killed: what is under way is made, or nothing of it is."""
        under_way, self._under_way = self._under_way, []
        if made:
            self.release()
            for waiting in under_way:
                waiting.callback(None)
        else:
            self._held = None
        self.accept()
        self._free_at = 0.0

    def _make(self, waiting: Deferred[None]) -> None:
        if waiting in self._under_way:
            self._under_way.remove(waiting)
            waiting.callback(None)


class MastersStore:
    """The store as one master has it, who commits nothing after its end, or after another took over."""

    def __init__(self, store: SlowStore, passed: Callable[[str], None], is_dead: Callable[[], bool]) -> None:
        self.epoch = store.epoch
        self.is_deposed = False
        self._store = store
        self._passed = passed
        self._is_dead = is_dead

    async def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """Make all changes or none; `StoreError` if another master has the store."""
        if self.is_deposed:
            raise StoreError("Another master has taken the store.")
        changes = tuple(changes)
        names = dict.fromkeys(type(change).__name__ for change in changes)
        for name in names:
            self._passed(f"asks {name}")
        if self._is_dead():
            await Deferred()
        outcomes = await self._store.commit(changes)
        for name in names:
            self._passed(f"made {name}")
        if self._is_dead():
            await Deferred()
        return outcomes

    def __getattr__(self, name: str) -> Any:
        """Whatever is read."""
        return getattr(self._store, name)


class Pace:
    """
    A clock by which one daemon waits, whose timers are early or late by a share of what was asked for.

    Whoever is dead is not woken.
    """

    def __init__(self, clock: Clock, pace: float, is_dead: Callable[[], bool]) -> None:
        self._clock = clock
        self._pace = pace
        self._is_dead = is_dead
        self._at = clock.seconds()
        self._calls = 0
        self._made: list[IDelayedCall] = []
        self._stands_until = 0.0
        self.seconds = clock.seconds

    def callLater(self, delay: float, call: Callable[..., Any], *arguments: Any) -> IDelayedCall:
        """As on the other clock, in its own time; `AssertionError` if that stands still."""
        now = self._clock.seconds()
        if now > self._at or delay > EXACT_S:
            self._at, self._calls = now, 0
        self._calls += 1
        assert self._calls < MOST_CALLS, "a daemon does one thing after the other, and no time passes"
        wait_s = max(delay * self._pace if delay > EXACT_S else delay, self._stands_until - now)
        made = self._clock.callLater(wait_s, self._wake, call, arguments)
        if len(self._made) > MOST_CALLS:
            self._made = [each for each in self._made if each.active()]
        self._made.append(made)
        return made

    def _wake(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if not self._is_dead():
            call(*arguments)

    def stand_still(self, until: float) -> None:
        """Its daemon does nothing until then; its timers are late, or, if it goes on earlier, due now."""
        now = self._clock.seconds()
        self._made = [each for each in self._made if each.active()]
        for each in sorted(self._made, key=lambda each: each.getTime()):
            if each.getTime() < until or each.getTime() == self._stands_until:
                each.reset(until - now)
        self._stands_until = until

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Those of everybody."""
        return self._clock.getDelayedCalls()


class CrashingJournal(Journal):
    """A journal that knows what of it is on the disk for good."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._path = directory / "journal"
        self._safe = 0
        self._before: bytes | None = None
        """The file that was there before one that was made anew, until that is synced."""

    @property
    def is_safe(self) -> bool:
        """All that was written is on the disk for good."""
        return self._before is None and self._safe == self.size

    def open(self) -> list[bytes]:
        """Whatever is read is safe."""
        records = super().open()
        self._safe = self.size
        return records

    def append(self, records: Sequence[bytes], sync: bool) -> None:
        """Write records."""
        super().append(records, sync)
        if sync:
            self._synced()

    def sync(self) -> None:
        """All of it is safe."""
        super().sync()
        self._synced()

    def rewrite(self, records: Sequence[bytes], sync: bool) -> None:
        """Have other records."""
        if self._before is None and not sync:
            self._before = self._path.read_bytes()[: self._safe]
        super().rewrite(records, sync)
        self._safe = 0
        if sync:
            self._synced()

    def cut_off(self, random: Random) -> None:
        """The machine lost its power: of what was not synced, any part is there."""
        if self._before is not None and random.random() < 0.5:
            self._path.write_bytes(self._before)
        else:
            self._keep(random.randint(min(self._safe, self.size), self.size))

    def tear(self, records: Sequence[bytes], random: Random) -> None:
        """The daemon was killed while it wrote these: any part of them is there."""
        data = framed(records)
        with self._path.open("ab") as file:
            file.write(data[: random.randint(0, len(data))])

    def _synced(self) -> None:
        self._safe, self._before = self.size, None

    def _keep(self, size: int) -> None:
        with self._path.open("r+b") as file:
            file.truncate(size)


class DiskThread:
    """An ``InThread`` that takes a while, one function after the other; a crash may find one half done."""

    def __init__(self, clock: Clock, random: Random, slowest_s: float, passed: Callable[[str], None]) -> None:
        self._clock = clock
        self._random = random
        self._slowest_s = slowest_s
        self._passed = passed
        self._free_at = 0.0
        self.is_slow = False
        self.is_dead = False
        self.stands_until = 0.0
        """Its daemon, with all its threads, does nothing before."""
        self.under_way: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it, later; never, once the daemon is dead."""
        if self.is_slow and self._slowest_s:
            call = (function, arguments)
            self.under_way.append(call)
            now = self._clock.seconds()
            self._free_at = max(self._free_at, now) + self._random.uniform(0.0, self._slowest_s)
            await _later(self._clock, self._free_at - now)
            while (wait_s := self.stands_until - self._clock.seconds()) > 0:
                await _later(self._clock, wait_s)
            if not self.is_dead:
                self.under_way.remove(call)
        what = WRITTEN.get(function.__name__, "")
        self._passed(f"writes {what}")
        if self.is_dead:
            await Deferred()
        done = function(*arguments)
        self._passed(f"wrote {what}")
        if self.is_dead:
            await Deferred()
        return done


def _later(clock: Clock, seconds: float) -> Awaitable[None]:
    waiting: Deferred[None] = Deferred()
    clock.callLater(seconds, waiting.callback, None)
    return waiting
