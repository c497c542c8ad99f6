# SPDX-License-Identifier: MIT
"""
What came of attempts and of units, until the master has it recorded: in memory, and in a journal.

It is in the journal before it is sent, so it outlives a kill of this daemon; while there is no master it is
synced too. On each new link everything is sent again, in the order in which it came.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import attrs
import msgspec
from twisted.logger import Logger

from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.journal_writer import JournalWriter
from pydra.cluster.node.kept import Batch, BatchBegun, Kept
from pydra.cluster.node.spool import Spool
from pydra.cluster.wire.messages import (
    LOST,
    STOPPED,
    HeldBatch,
    HeldWorker,
    Recorded,
    UnitFinished,
    UnitsDone,
    UnitsRecorded,
    WorkerLost,
)
from pydra.errors import StoreError
from pydra.model.ids import Attempt
from pydra.model.instance import Failure, Payload


@attrs.frozen
class Outcome:
    """How an attempt ended; ``blob`` has the bytes of a result that is too large to travel inline."""

    message: UnitFinished
    blob: bytes | Spool | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UnitFinished | BatchBegun | UnitsDone | Recorded | UnitsRecorded)


class Outbox:
    """
    Keeps what the master must not miss; ``limit`` is in bytes.

    ``has_room`` is called when work can be taken again that was refused; ``end_worker`` ends one of which a
    result was lost, and says why.
    """

    log = Logger()

    def __init__(self, writer: JournalWriter, delivery: Delivery, limit: int) -> None:
        self._writer = writer
        self._delivery = delivery
        self._limit = limit
        self._kept: dict[Kept, None] = {}
        """All that is to be sent, in its order."""
        self._outcomes: dict[Attempt, Kept] = {}
        self._batches: dict[Attempt, Batch] = {}
        self._lost: dict[Attempt, HeldWorker] = {}
        """Workers whose loss was not told."""
        self._has_refused = False
        self.has_room: Callable[[], None] = lambda: None
        self.end_worker: Callable[[Attempt, str], None] = lambda worker, why: None
        writer.live = self._live
        writer.made_anew = self._look_for_room

    async def load(self) -> None:
        """Take up what an earlier daemon left; once, before there can be a link. `OSError`."""
        for record in await self._writer.load():
            try:
                self._take_up(_decoder.decode(record), len(record))
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
                self.log.warn("A record of the outbox cannot be read: {fault}", fault=str(fault))
        for attempt in [each for each, kept in self._outcomes.items() if not self._is_whole(kept)]:
            self._drop(self._outcomes.pop(attempt))
        for batch in list(self._batches.values()):
            self._cut(batch)
            self._forget_if_done(batch)
        await self._writer.loaded()
        if self._kept:
            self.log.info("{count} results of an earlier start wait for the master", count=len(self._kept))

    async def close(self) -> None:
        """Write what is not written."""
        await self._writer.close()

    # The link.

    def link_up(self) -> None:
        """There is a master: it is told everything (again)."""
        self._writer.is_safe = False
        for kept in list(self._kept):
            if kept.is_written:
                self._send(kept)

    def link_down(self) -> None:
        """There is none: a power cut must not cost what only this machine has."""
        self._writer.is_safe = True
        self._writer.sync()

    def refusal(self) -> str:
        """Why no new work can be taken; empty if it can."""
        self._has_refused = True
        if self._writer.fault:
            return f"The outbox of the node cannot be written: {self._writer.fault}"
        if self._writer.size >= self._limit:
            return f"The outbox of the node has reached its limit of {self._limit // 2**20} MiB."
        self._has_refused = False
        return ""

    def _look_for_room(self) -> None:
        if self._has_refused and not self.refusal():
            self.has_room()

    def spool(self) -> Spool:
        """Where a result goes that comes in pieces, until it is an outcome; it is sent ahead if it can be."""
        spool = self._writer.spool()
        spool.ahead = self._delivery.send_ahead(spool.chunks())
        return spool

    # Attempts.

    def keep(self, outcome: Outcome, is_synced: bool = False) -> None:
        """Keep and send an outcome (``is_synced``: when it is synced); the first one of an attempt stays."""
        message = outcome.message
        if message.attempt in self._outcomes:
            return
        blobs: dict[str, bytes | Spool] = {}
        if outcome.blob is not None and message.result is not None:
            blobs[message.result.sha256] = outcome.blob
        record = _encoder.encode(message)
        kept = self._outcomes[message.attempt] = self._keep(message.attempt, message, len(record), blobs)
        self._writer.add(record, functools.partial(self._written, kept), is_synced)

    def forget(self, attempt: Attempt) -> None:
        """The master has recorded it, or does not want it."""
        kept = self._outcomes.pop(attempt, None)
        if kept is not None:
            # In the journal before its blobs are gone, or the next start would miss them.
            self._writer.add_lazily(_encoder.encode(Recorded((attempt,))))
            self._drop(kept)
            self._look_for_room()

    def discard_result(self, attempt: Attempt) -> None:
        """Nobody wants what came of it any more: a large result, which takes long to tell, is not told."""
        kept = self._outcomes.get(attempt)
        if kept is not None and kept.blobs and isinstance(kept.message, UnitFinished):
            self.forget(attempt)
            self.keep(Outcome(UnitFinished(attempt, STOPPED, lines=kept.message.lines)), is_synced=True)

    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts whose outcome is held, in the order of their ends."""
        return tuple(self._outcomes)

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self._outcomes

    # Units.

    def begin(self, batch: HeldBatch, is_synced: bool = False) -> None:
        """Units are to be run, of which results will come, synced before they are sent or not."""
        self._batches[batch.batch] = Batch(batch, 0, 0, is_synced=is_synced)

    def keep_results(self, message: UnitsDone, blobs: Mapping[str, bytes]) -> None:
        """Keep and send the next results of a batch; ``blobs`` are those that it names."""
        batch = self._batches[message.batch]
        if not batch.results:
            begun = _encoder.encode(BatchBegun(batch.as_held(message.start)))
            batch.size = len(begun)
            self._writer.needs(batch.size)
            self._writer.add_lazily(begun)
        record = _encoder.encode(message)
        kept = self._keep(message.worker, message, len(record), blobs)
        batch.results.append(kept)
        batch.told = message.start + len(message.results)
        self._writer.add(record, functools.partial(self._written, kept), batch.is_synced)

    def recorded(self, attempt: Attempt, count: int) -> None:
        """The first results of a batch are recorded, or not wanted."""
        batch = self._batches.get(attempt)
        if batch is None:
            return
        self._writer.add_lazily(_encoder.encode(UnitsRecorded(attempt, count)))
        self._acknowledge(batch, count)
        self._forget_if_done(batch)
        self._look_for_room()

    def lost(self, worker: HeldWorker, failure: Failure) -> None:
        """Tell that a worker ended, after all results of it."""
        self._lost[worker.worker] = worker
        kept = self._keep(worker.worker, WorkerLost(worker.worker, failure), 0, {})
        self._writer.then(functools.partial(self._written, kept))

    def close_batches(self, worker: Attempt) -> None:
        """A worker runs no more; of its results the master is told all the same."""
        for batch in [batch for batch in self._batches.values() if batch.held.worker == worker]:
            batch.has_ended = True
            self._forget_if_done(batch)

    def lost_workers(self) -> tuple[HeldWorker, ...]:
        """Workers whose loss the master is to be told."""
        return tuple(self._lost.values())

    def is_lost(self, worker: Attempt) -> bool:
        """The master is about to be told that this worker ended."""
        return worker in self._lost

    def batches(self) -> list[HeldBatch]:
        """All batches with units to run or results that were not acknowledged."""
        return [batch.as_held(batch.recorded) for batch in self._batches.values()]

    def has_batch(self, attempt: Attempt) -> bool:
        """This batch has units to run, or results that were not acknowledged."""
        return attempt in self._batches

    # Keeping.

    def _keep(
        self,
        source: Attempt,
        message: UnitFinished | UnitsDone | WorkerLost,
        size: int,
        blobs: Mapping[str, bytes | Spool | Payload],
    ) -> Kept:
        """Bytes of blobs are new; payloads are those that an earlier daemon wrote."""
        sources = tuple(self._writer.keep_blob(digest, data) for digest, data in blobs.items())
        kept = Kept(source, message, size, sources)
        self._kept[kept] = None
        return kept

    def _written(self, kept: Kept) -> None:
        kept.is_written = True
        if kept in self._kept:
            self._send(kept)

    def _send(self, kept: Kept) -> None:
        sent = self._delivery.send(
            kept.source, kept.message, kept.blobs, functools.partial(self._spoilt, kept)
        )
        if sent and isinstance(kept.message, WorkerLost):
            # It is not acknowledged: should the link break now, the next hello tells that it is gone.
            del self._kept[kept]
            del self._lost[kept.source]
            self.close_batches(kept.source)

    def _spoilt(self, kept: Kept, why: str) -> bool:
        """
        What it names cannot be read any more, so it is lost: that of an attempt is told so. Of a batch all
        from there on is lost too, and its worker ends, as the next hello tells.
        """
        message = kept.message
        if kept not in self._kept:
            return True
        words = f"The node could not read the result any more: {why}"
        self.log.error("A result of {source} is lost: {why}", source=str(kept.source), why=why)
        if isinstance(message, UnitFinished):
            failure = Failure(StoreError.code, words)
            self.forget(message.attempt)
            lost = UnitFinished(message.attempt, LOST, failure=failure, lines=message.lines)
            self.keep(Outcome(lost), is_synced=True)
            return True
        if isinstance(message, UnitsDone):
            self._cut_from(self._batches[message.batch], kept)
            self.end_worker(message.worker, words)
        return False

    def _drop(self, kept: Kept) -> None:
        del self._kept[kept]
        self._writer.dropped(kept.size)
        for blob in kept.blobs:
            self._writer.drop_blob(blob.digest)
            if blob.ahead is not None:
                blob.ahead.stop()

    def _acknowledge(self, batch: Batch, count: int) -> None:
        batch.recorded = max(batch.recorded, min(count, batch.told))
        while batch.results:
            message = batch.results[0].message
            assert isinstance(message, UnitsDone)
            if message.start + len(message.results) > batch.recorded:
                return
            self._drop(batch.results.popleft())
        self._drop_begun(batch)

    def _forget_if_done(self, batch: Batch) -> None:
        if batch.recorded >= batch.count and self._batches.pop(batch.held.batch, None) is not None:
            self._drop_begun(batch)

    def _drop_begun(self, batch: Batch) -> None:
        """What says that it began is not needed, as there are no results of it."""
        if batch.size:
            self._writer.dropped(batch.size)
            batch.size = 0

    # The journal.

    def _take_up(
        self, record: UnitFinished | BatchBegun | UnitsDone | Recorded | UnitsRecorded, size: int
    ) -> None:
        """A record of an earlier daemon, whose workers died with it."""
        match record:
            case UnitFinished(attempt, result=result):
                blobs = {result.sha256: result} if result is not None and result.sha256 else {}
                if attempt not in self._outcomes:
                    self._outcomes[attempt] = self._taken_up(attempt, record, size, blobs)
            case BatchBegun(held):
                batch = self._batches.setdefault(held.batch, Batch(held, 0, 0, has_ended=True))
                if not batch.results:
                    batch.told = batch.recorded = held.recorded
                    self._drop_begun(batch)
                    self._writer.needs(size)
                    batch.size = size
            case UnitsDone(worker, attempt, start):
                blobs = {payload.sha256: payload for payload in record.blobs.values()}
                found = self._batches.get(attempt)
                if found is not None and found.told == start:
                    found.results.append(self._taken_up(worker, record, size, blobs))
                    found.told = start + len(record.results)
            case Recorded(attempts):
                for attempt in attempts:
                    if (kept := self._outcomes.pop(attempt, None)) is not None:
                        self._drop(kept)
            case UnitsRecorded(attempt, count):
                if (found := self._batches.get(attempt)) is not None:
                    self._acknowledge(found, count)

    def _is_whole(self, kept: Kept) -> bool:
        """The blobs of a message of an earlier daemon are there."""
        message = kept.message
        blobs: list[Payload] = []
        if isinstance(message, UnitsDone):
            blobs += message.blobs.values()
        elif isinstance(message, UnitFinished) and message.result is not None and message.result.sha256:
            blobs.append(message.result)
        return all(self._writer.has_blob(payload.sha256, payload.size) for payload in blobs)

    def _cut(self, batch: Batch) -> None:
        """Of a batch only what comes before the first that is not whole."""
        first = next((kept for kept in batch.results if not self._is_whole(kept)), None)
        if first is not None:
            self._cut_from(batch, first)

    def _cut_from(self, batch: Batch, first: Kept) -> None:
        """Of a batch only what comes before this one."""
        is_cut = False
        while not is_cut:
            last = batch.results.pop()
            is_cut = last is first
            assert isinstance(last.message, UnitsDone)
            batch.told = last.message.start
            self._drop(last)

    def _taken_up(
        self, source: Attempt, message: UnitFinished | UnitsDone, size: int, blobs: Mapping[str, Payload]
    ) -> Kept:
        kept = self._keep(source, message, size, blobs)
        kept.is_written = True
        self._writer.needs(size)
        return kept

    def _live(self) -> Iterator[bytes]:
        """The records of all that is kept."""
        for outcome in self._outcomes.values():
            yield _encoder.encode(outcome.message)
        for batch in self._batches.values():
            if batch.results:
                first = batch.results[0].message
                assert isinstance(first, UnitsDone)
                yield _encoder.encode(BatchBegun(batch.as_held(first.start)))
                for kept in batch.results:
                    yield _encoder.encode(kept.message)
