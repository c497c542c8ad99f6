# SPDX-License-Identifier: MIT
"""
The units of one session, on their way into the store and the scheduler, and back out of the store.

Units are stored before they are acknowledged, and run while that is under way; those with a guarantee run
after it. Whoever runs them, their results end in the store; here are only the numbers of those that do not
have one yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pydra.cluster.interfaces import InThread, Store
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.sessions.unstored import Unstored
from pydra.cluster.master.store_retry import StoreRetry
from pydra.cluster.master.units.rounds import UnitRounds
from pydra.cluster.scheduler.unit_values import UnitInput, UnitsAsked, UnitsForgotten
from pydra.cluster.store.blobs import Blobs
from pydra.model.changes import InsertUnits
from pydra.model.ids import InstanceId
from pydra.model.instance import INLINE_LIMIT, Instance, Payload
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE, OUTSTANDING_BYTES, OUTSTANDING_LIMIT, UnitRow

AT_ONCE = 200
"""Units that are read at once; with the largest inline results they are 12 MiB."""


@attrs.frozen
class SessionAround:
    """
    What all sessions share; ``live`` has the instances that are not final, and ``moment_s`` is for how long
    units may run before they are stored.
    """

    clock: IReactorTime
    store: Store
    blobs: Blobs
    uses: BlobUses
    in_thread: InThread
    feed: Callable[[UnitInput], object]
    units: UnitRounds
    live: Mapping[InstanceId, Instance]
    persistent: StoreRetry
    moment_s: float


@attrs.frozen
class Known:
    """Which units of a message were known before: those that have ended, and those with other arguments."""

    ended: list[int] = attrs.field(factory=list)
    others: list[int] = attrs.field(factory=list)


class Over(Exception):
    """The instance is final; nothing of it is stored any more."""


class SessionUnits:
    """
    The units of one session.

    The indexes of a new session grow in most cases, so that units are new is seen without asking the store.
    """

    def __init__(
        self,
        around: SessionAround,
        instance: InstanceId,
        branch: str,
        time_limit: float,
        is_guarded: bool,
        is_new: bool,
    ) -> None:
        self._around = around
        self._instance = instance
        self.branch = branch
        self._time_limit = time_limit
        self._is_guarded = is_guarded
        self._is_sure = is_new
        """What is in no store has no result, nor is one on its way there."""
        self._highest: int | None = -1 if is_new else None
        """No unit above it was ever seen; None if that is not known."""
        self._running: dict[int, int] = {}
        """Units that the scheduler has, and the size of their arguments."""
        self._coming: dict[int, bytes] = {}
        """The digests of the arguments of those that are being looked up or stored."""
        self._storing: set[int] = set()
        """Units with a guarantee that run as soon as they are stored."""
        self._bytes = 0
        self._looking = self._looking_bytes = 0
        self._unstored = Unstored(around.clock, around.moment_s)

    def has_room(self, count: int, size: int, owed: int) -> bool:
        """Whether so many more units with so many bytes of arguments are within the limits."""
        units = len(self._running) + self._looking + owed + count
        return units <= OUTSTANDING_LIMIT and self._bytes + self._looking_bytes + size <= OUTSTANDING_BYTES

    async def add(self, indexes: Sequence[int], args: Sequence[bytes]) -> Known:
        """Store and run units; returns when they are stored, and raises `Over` if they never are."""
        digests = digests_of(args)
        coming, known = self._coming, Known()
        earlier = [index for index in indexes if index in coming]
        for index, digest in zip(indexes, digests, strict=True):
            if coming.setdefault(index, digest) != digest:
                known.others.append(index)
        try:
            highest = self._highest
            if highest is not None:
                self._highest = max(highest, *indexes)
            if highest is not None and min(indexes) > highest:
                await self._store_and_run(indexes, args, digests, range(len(indexes)))
            else:
                await self._add_some(indexes, args, digests, known, earlier)
        finally:
            for index in set(indexes).difference(earlier):
                del coming[index]
        return known

    async def _add_some(
        self,
        indexes: Sequence[int],
        args: Sequence[bytes],
        digests: Sequence[bytes],
        known: Known,
        earlier: Sequence[int],
    ) -> None:
        """Store and run those that are not known; those ``earlier`` somebody else is about to run."""
        runs_already = (self._running.keys() & set(indexes)).union(earlier)
        with self._outstanding(args):
            rows = {row.index: row for row in await self.rows(indexes)}
        refused = set(known.others)
        missing: list[int] = []
        runs: list[int] = []
        for at, index in enumerate(indexes):
            row = rows.get(index)
            if index in refused:
                continue
            if row is not None and row.digest != digests[at]:
                known.others.append(index)
            elif row is not None and row.status.is_final:
                known.ended.append(index)
            elif row is not None and row.status is Status.RUNNING:
                self._running.setdefault(index, 0)
            else:
                if index not in runs_already:
                    runs.append(len(missing))
                missing.append(at)
        if missing:
            some = ([indexes[at] for at in missing], [args[at] for at in missing])
            await self._store_and_run(*some, [digests[at] for at in missing], runs)

    def recorded(self, indexes: Collection[int]) -> set[int]:
        """The results of these units are stored; those that do not run for the client now."""
        others = set(indexes) - self._running.keys()
        self._bytes -= sum(map(self._running.pop, indexes, repeat(0)))
        return others

    def acknowledge(self, indexes: Collection[int]) -> None:
        """Those of them that were not stored before their results are stored now, and are told to be."""
        self._unstored.recorded(indexes)

    def stop(self) -> None:
        """Leave no timer behind."""
        self._unstored.stop()

    def forget(self) -> None:
        """
        The scheduler has nothing more that did not begin, until ``refill``.

        What is on its way to the scheduler still comes there, and waits as long as its instance pauses.
        """
        self._running.clear()
        self._bytes = 0
        self._is_sure = False  # what is in batches goes on
        self._around.units.forget(UnitsForgotten(self._instance, None, self.branch))

    async def refill(self) -> None:
        """Run what the store has without a result."""
        rows = await self._around.persistent.insist(lambda: self._around.store.queued_units(self._instance))
        begun = await self._around.persistent.insist(self._around.store.running_units)
        for row in begun:
            if row.instance == self._instance and row.guarantee & Guarantee.ONCE:
                # It is the scheduler's: only what comes of it is waited for.
                if row.branch == self.branch:
                    self._running.setdefault(row.index, 0)
            elif row.instance == self._instance:
                rows.append(row)
        taken = self._running.keys() | self._storing
        own = [row for row in rows if row.branch == self.branch and row.index not in taken]
        rows = list({row.index: row for row in own}.values())  # one may have begun between the two questions
        if rows:
            args = [row.args for row in rows]
            await self._run([row.index for row in rows], args, [row.digest for row in rows])

    async def look_up(self, indexes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Which of these units have ended, and which never came."""
        asked = [index for index in dict.fromkeys(indexes) if index not in self._running]
        ended: list[int] = []
        found: set[int] = set()
        for start in range(0, len(asked), AT_ONCE):
            rows = await self.rows(asked[start : start + AT_ONCE])
            found.update(row.index for row in rows)
            ended += [row.index for row in rows if row.status.is_final]
        return ended, [index for index in asked if index not in found and index not in self._running]

    async def rows(self, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that are stored."""
        around = self._around
        return await around.persistent.insist(
            lambda: around.store.units(self._instance, self.branch, indexes)
        )

    async def _store_and_run(
        self, indexes: Sequence[int], args: Sequence[bytes], digests: Sequence[bytes], runs: Sequence[int]
    ) -> None:
        """Store these units, and run those at some positions of them; returns when they are stored."""
        change = InsertUnits(self._instance, self.branch, indexes, args, b"".join(digests))
        stored = Deferred.fromCoroutine(self._store(change))
        if self._is_guarded:
            # What the scheduler stores of it has no arguments, and must not come first.
            run = {indexes[at] for at in runs}
            self._storing |= run
            try:
                with self._outstanding(args):
                    await stored
            finally:
                self._storing -= run
        if len(runs) == len(indexes):
            await self._run(indexes, args, digests)
        elif runs:
            some = ([indexes[at] for at in runs], [args[at] for at in runs])
            await self._run(*some, [digests[at] for at in runs])
        await stored

    async def _store(self, change: InsertUnits) -> None:
        if not self._is_guarded and await self._unstored.are_recorded(change.indexes):
            return
        around = self._around
        [committed] = await around.persistent.insist(lambda: around.store.commit([change]))
        if not committed.applied:
            raise Over

    @contextmanager
    def _outstanding(self, args: Sequence[bytes]) -> Iterator[None]:
        """Units with these arguments count, though they do not run yet."""
        size = sum(map(len, args))
        self._looking += len(args)
        self._looking_bytes += size
        try:
            yield
        finally:
            self._looking -= len(args)
            self._looking_bytes -= size

    async def _run(self, indexes: Sequence[int], args: Sequence[bytes], digests: Sequence[bytes]) -> None:
        around = self._around
        sizes = list(map(len, args))
        self._running.update(zip(indexes, sizes, strict=True))
        self._bytes += sum(sizes)
        blobs: dict[int, Payload] = {}
        sent = list(args)
        if max(sizes) > INLINE_LIMIT:
            for at, size in enumerate(sizes):
                if size > INLINE_LIMIT:
                    blobs[at] = await self._kept(args[at])
                    sent[at] = b""
        if self._instance in around.live:
            around.uses.take(self._instance, self.branch, indexes, blobs)
            about = (self._instance, None, self.branch, list(indexes), sent, b"".join(digests), blobs)
            asked = UnitsAsked(*about, self._time_limit)
            if self._is_sure:
                around.feed(asked)
            else:
                around.units.look_up(asked)
        for blob in blobs.values():
            around.uses.let_go(blob.sha256)

    async def _kept(self, data: bytes) -> Payload:
        """The blob of large arguments, for the nodes; it is held."""
        around, digest = self._around, hashlib.sha256(data).hexdigest()
        await around.uses.hold(digest)
        await around.persistent.insist(lambda: around.in_thread(around.blobs.put, data))
        return Payload(len(data), sha256=digest)


def digests_of(args: Sequence[bytes]) -> list[bytes]:
    """The digests of the arguments of units."""
    return [hashlib.blake2b(each, digest_size=DIGEST_SIZE).digest() for each in args]
