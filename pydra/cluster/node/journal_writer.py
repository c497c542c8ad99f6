# SPDX-License-Identifier: MIT
"""
Writes a journal, from the reactor: what is added while a write is under way goes into the next.

A thread writes, but for a few records that need no sync while it is idle: those are in the page cache in less
time than a thread takes to wake up, so they are written at once, as long as the disk does not let that wait.

If the disk refuses, everything stays in memory and those who wait for it are told as if it were written:
then a kill of this process costs what is not written yet. It is tried again until the disk takes it.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from weakref import WeakSet

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.cluster.node.delivery import BLOB_CHUNK, Blob, NotNeeded, chunks_of
from pydra.cluster.node.journal import HEAD_SIZE, Journal
from pydra.cluster.node.spool import Spool
from pydra.cluster.wire.ahead import read_ahead
from pydra.model.instance import Payload

RETRY_S = 1.0
"""Seconds after which a disk that refused is tried again."""

SPARE = 8 * 1024 * 1024
"""Bytes of what is not needed any more that the file may have, beyond half of what is needed."""

LAZY_LIMIT = 256 * 1024
"""Bytes of records that nobody waits for, before they are written all the same."""

QUICK_SIZE = 64 * 1024
"""Bytes of records that may be written at once, without the thread."""

SLOW_S, WARY_S = 0.01, 10.0
"""Seconds after which a write at once was a slow one, and for how long only the thread writes then."""

_READ_SIZE = 16 * BLOB_CHUNK


@attrs.define
class _Work:
    """What the next turn of the thread does."""

    records: list[bytes] = attrs.Factory(list)
    written: list[Callable[[], None]] = attrs.Factory(list)
    size: int = 0
    is_synced: bool = False
    """It outlives the machine, whether the writer ``is_safe`` or not."""
    blobs: dict[str, bytes | Spool | None] = attrs.Factory(dict)
    """To be written, or (None) removed."""


class JournalWriter:
    """
    A journal and who waits for it.

    ``live``, set by whose records they are, gives those that are needed, when the file is made anew;
    ``made_anew`` is called when that is done, which it always is after a disk was full.

    While ``is_safe`` is set, what is written is synced: it outlives the machine too. Up to ``quick_size``
    bytes may be written without the thread.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, journal: Journal, in_thread: InThread, quick_size: int = QUICK_SIZE
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._in_thread = in_thread
        self._quick_size = quick_size
        self._wary_until = 0.0
        """The disk was slow: until then, it is the thread that waits for it."""
        self.live: Callable[[], Iterable[bytes]] = tuple
        self.made_anew: Callable[[], None] = lambda: None
        self._next = _Work()
        self._is_loaded = False
        self._is_writing = False
        self._wants_sync = False
        self._retry: IDelayedCall | None = None
        self._idle: Deferred[None] | None = None
        self._blobs: Counter[str] = Counter()
        """How often each blob is needed."""
        self._sizes: dict[str, int] = {}
        self._found: dict[str, int] = {}
        """Blobs of an earlier process, by name, and their sizes."""
        self._unwritten: dict[str, bytes | Spool] = {}
        """Blobs that are in memory still, or have no name yet."""
        self._spools: WeakSet[Spool] = WeakSet()
        self.blob_bytes = 0
        """Bytes of the blobs that are needed."""
        self._live_bytes = 0
        """Bytes that the file would have, made anew."""
        self.is_safe = True
        self.fault = ""
        """Why the disk takes nothing at the moment."""

    async def load(self) -> list[bytes]:
        """All records of an earlier process; once, before anything else. `OSError`."""
        records: list[bytes] = await self._in_thread(self._journal.open)
        self._found = await self._in_thread(self._journal.blobs)
        self._sizes = dict(self._found)
        return records

    async def loaded(self) -> None:
        """All that is needed of it was told: other blobs go, and other records."""
        for digest in [digest for digest in self._sizes if digest not in self._blobs]:
            del self._sizes[digest]
            self._next.blobs[digest] = None
        await self._in_thread(self._journal.rewrite, list(self.live()), True)
        self._is_loaded = True
        self._go_on()

    @property
    def size(self) -> int:
        """Bytes on the disk, about."""
        coming = sum(spool.size for spool in self._spools if not spool.is_named)
        return self._journal.size + self.blob_bytes + coming

    def has_blob(self, digest: str, size: int) -> bool:
        """An earlier process left this blob."""
        return self._found.get(digest) == size

    # Records.

    def add(self, record: bytes, written: Callable[[], None], is_synced: bool = False) -> None:
        """
        Write a record that is needed until it is ``dropped``; ``written`` is called when it is.

        With ``is_synced`` it is on the disk for good then.
        """
        self.needs(len(record))
        self._next.is_synced |= is_synced
        self._next.records.append(record)
        self._next.written.append(written)
        self._go_on()

    def then(self, written: Callable[[], None]) -> None:
        """Call it when all that was added before is written."""
        self._next.written.append(written)
        self._go_on()

    def add_lazily(self, record: bytes) -> None:
        """Write a record, with the next that somebody waits for."""
        self._next.records.append(record)
        self._next.size += len(record)
        self._go_on()

    def needs(self, size: int) -> None:
        """A record of so many bytes is needed."""
        self._live_bytes += size + HEAD_SIZE

    def dropped(self, size: int) -> None:
        """A record of so many bytes is not needed any more."""
        self._live_bytes -= size + HEAD_SIZE
        if self._is_wasteful():
            self._go_on()

    def sync(self) -> None:
        """Have on the disk for good what was written up to now, and (being ``is_safe``) from now on."""
        self._wants_sync = True
        self._go_on()

    # Blobs.

    def spool(self) -> Spool:
        """Where the bytes of a blob go that come in pieces."""
        spool = Spool(self._journal.directory, self._in_thread)
        self._spools.add(spool)
        return spool

    def keep_blob(self, digest: str, data: bytes | Spool | Payload) -> Blob:
        """A blob is needed once more: these bytes, or what an earlier process wrote."""
        self._blobs[digest] += 1
        if self._blobs[digest] == 1:
            size = self._sizes[digest] = len(data) if isinstance(data, bytes) else data.size
            self.blob_bytes += size
            if not isinstance(data, Payload):
                self._unwritten[digest] = self._next.blobs[digest] = data
        ahead = data.ahead if isinstance(data, Spool) else None
        return Blob(digest, functools.partial(self.read_blob, digest), ahead)

    def drop_blob(self, digest: str) -> None:
        """It is needed once less."""
        self._blobs[digest] -= 1
        if self._blobs[digest] <= 0:
            del self._blobs[digest]
            self.blob_bytes -= self._sizes.pop(digest)
            self._unwritten.pop(digest, None)
            self._next.blobs[digest] = None
            self._go_on()

    async def read_blob(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a blob. `OSError`; `NotNeeded` if it is not needed (any more)."""
        held = self._unwritten.get(digest)
        if isinstance(held, bytes):
            async for chunk in chunks_of(held):
                yield chunk
            return
        places = itertools.count(0, _READ_SIZE)
        async for data in read_ahead(lambda: self._read_piece(digest, held, next(places))):
            yield data

    async def _read_piece(self, digest: str, spool: Spool | None, start: int) -> bytes:
        if digest not in self._blobs:
            raise NotNeeded
        if spool is not None:
            return await spool.read(start, _READ_SIZE)
        data: bytes = await self._in_thread(self._journal.read_blob, digest, start, _READ_SIZE)
        return data

    # The thread.

    async def close(self) -> None:
        """Write what waits, and no more."""
        if not self._is_loaded:
            self._journal.close()
            return
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._is_writing:
            self._idle = Deferred()
            await self._idle
        work, self._next = self._next, _Work()
        self._is_writing = True
        try:
            await self._in_thread(self._write, work, True, list(self.live()) if self.fault else None)
        except OSError as fault:
            self.log.error("The outbox could not be written at the end: {fault}", fault=str(fault))
        self._journal.close()

    def _is_wasteful(self) -> bool:
        return self._journal.size > 1.5 * self._live_bytes + SPARE

    def _has_work(self) -> bool:
        waiting = self._next
        return bool(
            waiting.written
            or waiting.size > LAZY_LIMIT
            or self._wants_sync
            or self._is_wasteful()
            or None in waiting.blobs.values()
        )

    def _go_on(self) -> None:
        if self._is_writing:
            return  # what comes meanwhile is of the next turn, after a disk was full too
        if self.fault:
            self._tell_at_once()
        elif self._is_loaded and self._has_work():
            if self._is_quick():
                self._write_at_once()
            else:
                self._begin()

    def _is_quick(self) -> bool:
        """What waits is a few records that need no sync, and the disk was not slow lately."""
        work = self._next
        return (
            not (self.is_safe or self._wants_sync or work.is_synced or work.blobs or self._is_wasteful())
            and sum(map(len, work.records)) <= self._quick_size
            and self._clock.seconds() >= self._wary_until
        )

    def _write_at_once(self) -> None:
        work, self._next = self._next, _Work()
        begun = self._clock.seconds()
        try:
            if work.records:
                self._journal.append(work.records, False)
        except OSError as fault:
            self._refused(str(fault), work)
            return
        now = self._clock.seconds()
        if now - begun > SLOW_S:
            self._wary_until = now + WARY_S
        _tell(work.written)

    def _begin(self) -> None:
        self._is_writing = True
        turns = Deferred.fromCoroutine(self._turns())
        turns.addErrback(lambda fault: self.log.failure("The outbox could not be written", fault))

    async def _turns(self) -> None:
        try:
            await self._turn()
            while not self.fault and self._idle is None and self._has_work():
                await self._turn()
        finally:
            self._is_writing = False
            if self._idle is not None:
                idle, self._idle = self._idle, None
                idle.callback(None)

    async def _turn(self) -> None:
        work, self._next = self._next, _Work()
        sync, self._wants_sync = self.is_safe or self._wants_sync or work.is_synced, False
        rewrite: list[bytes] | None = None
        if self.fault or self._is_wasteful():
            rewrite = list(self.live())
            work.blobs = {**self._unwritten, **work.blobs}
        try:
            await self._in_thread(self._write, work, sync, rewrite)
        except OSError as fault:
            self._refused(str(fault), work)
            return
        if self.fault:
            self.log.info("The outbox is written again")
            self.fault = ""
        if rewrite is not None:
            self.made_anew()
        for digest, data in work.blobs.items():
            if data is not None and self._unwritten.get(digest) is data:
                del self._unwritten[digest]
        _tell(work.written)

    def _refused(self, why: str, work: _Work) -> None:
        if not self.fault:
            self.log.error("The outbox cannot be written, trying again: {fault}", fault=why)
        self.fault = why
        removed: dict[str, bytes | Spool | None] = {
            name: None for name, data in work.blobs.items() if data is None
        }
        self._next.blobs = removed | self._next.blobs
        self._retry = self._clock.callLater(RETRY_S, self._try_again)
        _tell(work.written)
        self._tell_at_once()

    def _try_again(self) -> None:
        self._retry = None
        self._begin()

    def _tell_at_once(self) -> None:
        """All that is needed is written when the disk takes something again; nobody waits for that."""
        while self._next.records or self._next.written:
            waiting, self._next.written = self._next.written, []
            self._next.records.clear()
            self._next.size = 0
            _tell(waiting)

    def _write(self, work: _Work, sync: bool, rewrite: list[bytes] | None) -> None:
        """In the thread: blobs before the records that name them, and removed after those that do not."""
        journal = self._journal
        for digest, data in work.blobs.items():
            if isinstance(data, Spool):
                journal.name_blob(digest, data, sync)
            elif data is not None:
                journal.write_blob(digest, data, sync)
        if rewrite is not None:
            journal.rewrite(rewrite, sync)
        elif work.records:
            journal.append(work.records, sync)
        elif sync:
            journal.sync()
        for digest, data in work.blobs.items():
            if data is None:
                journal.remove_blob(digest)


def _tell(written: Sequence[Callable[[], None]]) -> None:
    for tell in written:
        tell()
