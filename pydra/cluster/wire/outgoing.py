# SPDX-License-Identifier: MIT
"""A stream that this side sends over the bulk connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from twisted.internet.defer import Deferred

from pydra.cluster.wire import stream_frames
from pydra.cluster.wire.stream_frames import CHUNK_LIMIT, Kind
from pydra.errors import PydraError, WireError

INITIAL_CREDIT = 2 * 1024 * 1024
"""Bytes that may be on the way before the receiver took any."""


class OutgoingStream:
    """Sends what an iterator gives, as fast as the receiver takes it."""

    def __init__(self, number: int, write: Callable[[bytes], None]) -> None:
        self.number = number
        self._write = write
        self._credit = INITIAL_CREDIT
        self._wanted: Deferred[None] | None = None
        self._pulled: Deferred[bytes | None] | None = None
        self._fault: PydraError | None = None
        self._opened = False
        self._ended = False
        self._is_done = False
        self.is_aborted = False

    async def send(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        """Open the stream, send all chunks, and return when the receiver is done."""
        self._write(stream_frames.encode_texts(Kind.OPEN, self.number, kind, detail))
        self._opened = True
        try:
            while (chunk := await self._pull(chunks)) is not None:
                await self._send_chunk(chunk)
        except BaseException:
            if self._fault is None and not self._ended:
                self._abort("the sender could not go on")
            raise
        self._raise_fault()
        self._ended = True
        self._write(stream_frames.encode(Kind.END, self.number))
        while not self._is_done:
            await self._change()

    def credit(self, size: int) -> None:
        """The receiver took that many bytes."""
        self._credit += size
        if self._credit > INITIAL_CREDIT:
            raise WireError("A stream was given more credit than it used.")
        self._wake()

    def done(self) -> None:
        """The receiver has all, and it is good."""
        if not self._ended:
            raise WireError("A stream was done before its end.")
        self._is_done = True
        self._wake()

    def fail(self, fault: PydraError) -> None:
        """The receiver refused, or is gone."""
        if self._fault is not None or self._is_done:
            return
        self._fault = fault
        if self._opened and not self._ended:
            self._abort("refused")
        if self._pulled is not None:
            self._pulled.cancel()
        self._wake()

    async def _send_chunk(self, chunk: bytes) -> None:
        start = 0
        whole = memoryview(chunk)
        while start < len(chunk):
            while not self._credit:
                await self._change()
            part = whole[start : start + min(CHUNK_LIMIT, self._credit)]
            self._raise_fault()
            self._credit -= len(part)
            start += len(part)
            self._write(stream_frames.encode(Kind.DATA, self.number, part))

    async def _pull(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk, or None at the end; what the receiver says meanwhile ends the waiting."""
        self._raise_fault()
        pulled = self._pulled = Deferred.fromCoroutine(_next(chunks))
        try:
            return await pulled
        except Exception:
            self._raise_fault()
            raise
        finally:
            self._pulled = None

    async def _change(self) -> None:
        self._raise_fault()
        wanted: Deferred[None] = Deferred()
        self._wanted = wanted
        await wanted
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(None)

    def _abort(self, reason: str) -> None:
        self._ended = self.is_aborted = True
        self._write(stream_frames.encode_texts(Kind.ABORT, self.number, "aborted", reason))


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async for chunk in chunks:
        return chunk
    return None
