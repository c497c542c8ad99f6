# SPDX-License-Identifier: MIT
"""An outbox on a directory, without a thread: its disk takes what a test lets it take."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.journal import Journal
from pydra.cluster.node.journal_writer import JournalWriter
from pydra.cluster.node.outbox import Outbox, Outcome
from pydra.cluster.wire.messages import COMPLETE, HeldBatch, ToMaster, ToNode, UnitFinished, UnitsDone
from pydra.errors import RemoteFault
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Payload
from tests.support.pumps import result_of

WORKER = Attempt(1, 50)
LARGE = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(LARGE).hexdigest()
FULL = OSError(errno.ENOSPC, "No space left on device")


class OutboxBench:
    """
    The outbox of a node that was just started; a link and a bulk connection of it.

    ``hold`` lets the disk wait until ``release``; while ``fault`` is set, it refuses.
    """

    def __init__(
        self, directory: Path, limit: int = 10**9, clock: Clock | None = None, quick_size: int = 0
    ) -> None:
        self.clock = clock or Clock()
        self.sent: list[ToNode | ToMaster] = []
        self.blobs: list[bytes] = []
        self.fault: OSError | None = None
        self.refuses: set[str] = set()
        """Blobs that the master does not take."""
        self.closed = 0
        """How often a link was to end."""
        self.calls: list[str] = []
        """What the disk was asked for, by the names of the functions."""
        self._held: list[Deferred[None]] | None = None
        self.delivery = Delivery(self.clock)
        self.journal = Journal(directory)
        self.writer = JournalWriter(self.clock, self.journal, self.in_thread, quick_size)
        self.outbox = Outbox(self.writer, self.delivery, limit)
        result_of(Deferred.fromCoroutine(self.outbox.load()))

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The disk."""
        if self._held is not None:
            waiting: Deferred[None] = Deferred()
            self._held.append(waiting)
            await waiting
        self.calls.append(function.__name__)
        if self.fault is not None:
            raise self.fault
        return function(*arguments)

    def hold(self) -> None:
        """The disk is slow."""
        self._held = []

    def release(self) -> None:
        """It has done what it was asked for."""
        held, self._held = self._held or [], None
        for waiting in held:
            waiting.callback(None)

    # A link, and its bulk.

    def send(self, message: Any, *stream: Any) -> Any:
        """A message on the link, or a stream by bulk."""
        if not stream:
            self.sent.append(message)
            return None
        return self._stream(*stream)

    async def _stream(self, detail: str, chunks: Any) -> None:
        data = b"".join([chunk async for chunk in chunks])
        if detail in self.refuses:
            raise RemoteFault("These are other bytes.")
        self.blobs.append(data)

    def backlog(self) -> int:
        """Nothing ever waits."""
        return 0

    def close(self, reason: str) -> None:
        """The link is to end."""
        self.closed += 1
        self.unlink()

    def link(self) -> list[Any]:
        """There is a master; what it is told at once."""
        self.sent.clear()
        self.delivery.open(self, self)
        self.outbox.link_up()
        return list(self.sent)

    def unlink(self) -> None:
        """There is none."""
        self.delivery.close()
        self.outbox.link_down()

    def stop(self) -> None:
        """The node stops as it should."""
        result_of(Deferred.fromCoroutine(self.outbox.close()))

    def kill(self) -> None:
        """As by SIGKILL: what was written is there, and no descriptor is open."""
        self.delivery.close()
        self.journal.close()

    # What is kept.

    def finish(self, number: int, result: bytes = b"\x05", digest: str = "") -> UnitFinished:
        """An attempt ends; with a digest, the result is a blob."""
        payload = Payload(len(result), sha256=digest) if digest else Payload(len(result), result)
        message = UnitFinished(Attempt(1, number), COMPLETE, payload)
        self.outbox.keep(Outcome(message, result if digest else None))
        return message

    def begin(self, number: int, count: int) -> HeldBatch:
        """Units are to be run."""
        batch = HeldBatch(
            Attempt(1, number), WORKER, InstanceId(1), "Sub", list(range(count)), bytes(16 * count)
        )
        self.outbox.begin(batch)
        return batch

    def done(
        self, number: int, start: int, *results: bytes, data: Mapping[str, bytes] | None = None, **fields: Any
    ) -> UnitsDone:
        """Results of units; ``data`` are those of blobs."""
        message = UnitsDone(WORKER, Attempt(1, number), start, list(results), **fields)
        self.outbox.keep_results(message, data or {})
        return message


class Daemons:
    """The daemons of one node, each started after the one before was killed, if it still ran."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.last: OutboxBench | None = None

    def start(self, limit: int = 10**9) -> OutboxBench:
        """The next one."""
        self.kill()
        self.last = OutboxBench(self.directory, limit)
        return self.last

    def kill(self) -> None:
        """The last one."""
        if self.last is not None:
            self.last.kill()
