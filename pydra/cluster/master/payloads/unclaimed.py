# SPDX-License-Identifier: MIT
"""
Arguments that are too large for the body of a call: a client sends them first, and then names them.

What no instance took within some minutes goes, and so does what was not taken before a restart.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.store.blobs import Blobs, BlobWriter
from pydra.cluster.wire import payload
from pydra.errors import InvalidParameters, RequestError, TooManyRequests
from pydra.model.instance import Payload

UNCLAIMED_LIMIT = 16
"""Payloads that may be under way, or wait for an instance that takes them."""

KEPT_S = 600.0
"""Seconds that one may be named by a submission, or by its repetition."""


class Payloads:
    """Takes payloads, and knows those that came."""

    def __init__(self, clock: IReactorTime, blobs: Blobs, uses: BlobUses, in_thread: InThread) -> None:
        self._clock = clock
        self._blobs = blobs
        self.uses = uses
        self.in_thread = in_thread
        self._under_way = 0
        self._sizes: dict[str, int] = {}
        self._claimed: set[str] = set()
        self._ends: dict[str, IDelayedCall] = {}

    def open(self) -> PayloadUpload:
        """Begin to take one; `TooManyRequests` if too many wait."""
        if self._under_way + len(self._sizes) - len(self._claimed) >= UNCLAIMED_LIMIT:
            raise TooManyRequests("Too many payloads wait for their task instances; try again later.")
        self._under_way += 1
        return PayloadUpload(self)

    def find(self, digest: str) -> Payload:
        """One that came; `InvalidParameters` if it did not, or is not here any more."""
        size = self._sizes.get(digest)
        if size is None:
            told = "there is no such payload any more; send it again."
            raise InvalidParameters(errors={"args_payload": [told]})
        return Payload(size, sha256=digest)

    def claim(self, digest: str) -> None:
        """An instance takes it."""
        if digest in self._sizes:
            self._claimed.add(digest)

    def stop(self) -> None:
        """Leave no timer behind."""
        for end in self._ends.values():
            end.cancel()
        self._ends.clear()

    def writer(self) -> BlobWriter:
        """In a thread: a file for one."""
        return self._blobs.writer()

    def arrived(self, digest: str, size: int) -> None:
        """It is on the disk, and held by whoever took it, who gives that over."""
        if digest in self._sizes:
            self.uses.let_go(digest)
            self._ends.pop(digest).cancel()
        self._sizes[digest] = size
        self._ends[digest] = self._clock.callLater(KEPT_S, self._expire, digest)

    def ended(self) -> None:
        """One is not under way any more."""
        self._under_way -= 1

    def _expire(self, digest: str) -> None:
        del self._sizes[digest], self._ends[digest]
        self._claimed.discard(digest)
        self.uses.let_go(digest)


class PayloadUpload:
    """One payload on its way; ``finish`` or ``abort`` ends it."""

    log = Logger()

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._writer: BlobWriter | None = None
        self._size = 0
        self._has_ended = False

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        if self._size > payload.SIZE_LIMIT:
            raise RequestError(f"A payload may have {payload.SIZE_LIMIT // 2**20} MiB.")
        if self._writer is None:
            self._writer = await self._payloads.in_thread(self._payloads.writer)
        await self._payloads.in_thread(self._writer.write, data)

    async def finish(self) -> dict[str, object]:
        """All bytes are here; ``{sha256, size}``, once they are on the disk."""
        payloads, writer = self._payloads, self._writer
        try:
            if writer is None:
                raise RequestError("There are no bytes of a payload.")
            digest = writer.sha256
            await payloads.uses.hold(digest)
            try:
                await payloads.in_thread(writer.finish, digest)
            except BaseException:
                payloads.uses.let_go(digest)
                raise
            payloads.arrived(digest, self._size)
            return {"sha256": digest, "size": self._size}
        finally:
            self.abort()

    def abort(self) -> None:
        """Keep nothing of it; after the end this changes nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        self._payloads.ended()
        if self._writer is not None:
            cleared = Deferred.fromCoroutine(self._clear(self._writer))
            cleared.addErrback(lambda fault: self.log.failure("A payload was not cleared away", fault))

    async def _clear(self, writer: BlobWriter) -> None:
        await self._payloads.in_thread(writer.abort)
