# SPDX-License-Identifier: MIT
"""Large arguments and results that a node sends ahead of the messages that name them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from pydra.cluster.interfaces import BulkSink, InThread
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.store.blobs import Blobs, BlobWriter
from pydra.cluster.wire import payload
from pydra.cluster.wire.ahead import read_ahead
from pydra.cluster.wire.frames import ANSWER_LIMIT
from pydra.errors import WireError

LARGE = ANSWER_LIMIT
"""Bytes of a blob that come at the same time as others; the rest waits while another one is larger."""

REMEMBERED = 1_000
"""Blobs that a node may have sent and not told of."""

UNNAMED_LIMIT = 2 * payload.SIZE_LIMIT
"""Bytes of blobs that a node may have sent and not told of."""


class NodeBlobs:
    """
    The blobs that came over one link, until they are named; ``came`` has their sizes.

    One that came several times is to be named as often: each of those who sent it names it.
    """

    def __init__(self, blobs: Blobs, uses: BlobUses, in_thread: InThread) -> None:
        self._blobs = blobs
        self._uses = uses
        self._in_thread = in_thread
        self.came: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._unnamed = 0
        self._turn, self._unnamed_turn = DeferredLock(), DeferredLock()
        """
        Held by the one large blob that comes, with and without a name: a node may not fill the disk with many
        halves of them, and one without a name may take as long as a worker.
        """

    def reset(self) -> None:
        """The link is gone: what came over it is sent again."""
        for digest in list(self.came):
            self._forget(digest)

    def open(self, digest: str | None) -> BulkSink:
        """A blob of this name begins to come; with None it gets the name of what came."""
        turn = self._unnamed_turn if digest is None else self._turn
        return _BlobSink(self._blobs, self._uses, digest, self._in_thread, self._arrived, turn)

    def named(self, digests: Iterable[str]) -> None:
        """These were named by a message, and are not waited with any more."""
        for digest in digests:
            if digest in self.came:
                self._times[digest] -= 1
                if not self._times[digest]:
                    self._forget(digest)

    def _forget(self, digest: str) -> None:
        del self._times[digest]
        self._unnamed -= self.came.pop(digest)
        self._uses.let_go(digest)

    async def chunks(self, digest: str) -> AsyncIterator[bytes]:
        """A blob, for the node, which checks it."""
        async for chunk in blob_pieces(self._blobs, digest, self._in_thread, checked=False):
            yield chunk

    def _arrived(self, digest: str, size: int) -> None:
        """It is on the disk, and held by its sink, which gives that over."""
        if digest in self.came:
            self._uses.let_go(digest)
            self._unnamed -= self.came.pop(digest)
        self.came[digest] = size
        self._times[digest] = self._times.get(digest, 0) + 1
        self._unnamed += size
        while len(self.came) > REMEMBERED or self._unnamed > UNNAMED_LIMIT:
            self._forget(next(iter(self.came)))


class _BlobSink:
    """Writes one blob."""

    log = Logger()

    def __init__(
        self,
        blobs: Blobs,
        uses: BlobUses,
        digest: str | None,
        in_thread: InThread,
        arrived: Callable[[str, int], None],
        turn: DeferredLock,
    ) -> None:
        self._blobs = blobs
        self._uses = uses
        self._digest = digest
        self._in_thread = in_thread
        self._arrived = arrived
        self._writer: BlobWriter | None = None
        self._turn = turn
        self._has_turn = False
        self._size = 0

    async def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > payload.SIZE_LIMIT:
            raise WireError(f"Arguments or a result above {payload.SIZE_LIMIT} bytes are refused.")
        if self._size > LARGE and not self._has_turn:
            await self._turn.acquire()
            self._has_turn = True
        writer = await self._opened()
        await self._in_thread(writer.write, data)

    async def finish(self) -> None:
        writer = await self._opened()
        digest = writer.sha256 if self._digest is None else self._digest
        try:
            await self._uses.hold(digest)
            await self._in_thread(writer.finish, digest)
        except BaseException:
            self._uses.let_go(digest)
            raise
        self._end_turn()
        self._arrived(digest, self._size)

    def abort(self, reason: str) -> None:
        self._end_turn()
        if self._writer is not None:
            aborted = Deferred.fromCoroutine(_called(self._in_thread, self._writer.abort))
            aborted.addErrback(lambda fault: self.log.failure("A blob was not cleared away", fault))

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turn.release()

    async def _opened(self) -> BlobWriter:
        if self._writer is None:
            self._writer = await self._in_thread(self._blobs.writer)
        return self._writer


async def blob_pieces(
    blobs: Blobs, digest: str, in_thread: InThread, *, checked: bool = True
) -> AsyncIterator[bytes]:
    """The bytes of a blob; `StoreError` in the place of their end if they are not those of its name."""
    reader = blobs.reader(digest, checked=checked)
    try:
        async for piece in read_ahead(lambda: in_thread(reader.read)):
            yield piece
    finally:
        reader.close()


async def _called(in_thread: InThread, function: Callable[[], None]) -> None:
    await in_thread(function)
