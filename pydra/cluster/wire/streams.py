# SPDX-License-Identifier: MIT
"""
The bulk connection: many streams at once in either direction, each with flow control by credit.

The sender of a stream may have 2 MiB on the way that its receiver has not taken; credit comes back when the
sink has written. So a slow sink slows its own stream, holds at most that much memory, and disturbs nobody.
A peer that breaks the rules loses the connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.interfaces import BulkSink
from pydra.cluster.wire import stream_frames
from pydra.cluster.wire.incoming import IncomingStream
from pydra.cluster.wire.outgoing import OutgoingStream
from pydra.cluster.wire.stream_frames import Kind, StreamFrameReader
from pydra.errors import LinkLost, PydraError, RemoteFault, WireError

STREAM_LIMIT = 64
"""Streams that one side may have open; further ones wait."""


class BulkConnection(Protocol):
    """
    One end of a bulk connection, an implementation of `Bulk`.

    ``stream_opened`` gives the sinks of streams that the peer opens; ``ready`` is called, on the side that
    dialled, when the peer said ``WELCOME``; ``lost`` once, with the reason.
    """

    log = Logger()

    def __init__(
        self,
        is_client: bool,
        stream_opened: Callable[[str, str], BulkSink],
        ready: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._is_client = is_client
        self._stream_opened = stream_opened
        self._ready = ready
        self._lost = lost
        self._reader = StreamFrameReader()
        self._outgoing: dict[int, OutgoingStream] = {}
        self._incoming: dict[int, IncomingStream] = {}
        self._lingering: dict[int, IncomingStream] = {}  # aborted ones whose sink still writes
        self._last_outgoing = 0
        self._last_incoming = 0
        self._waiting: list[Deferred[None]] = []
        self._welcomed = False
        self._ended: str | None = None

    # What the user asks.

    async def send(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        """
        Send a stream; returns when the sink of the peer has taken all of it and found it good.

        `LinkLost` if the connection went first, `RemoteFault` with the peer's reason if it refused. What
        ``chunks`` raises ends the stream and is raised here. In every case ``chunks`` is closed.
        """
        try:
            await self._place_for_one()
            self._last_outgoing += 1
            stream = OutgoingStream(self._last_outgoing, self._write)
            self._outgoing[stream.number] = stream
            try:
                await stream.send(kind, detail, chunks)
            finally:
                if stream.is_aborted:  # otherwise it counts until the peer has answered
                    self._forget_outgoing(stream.number)
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def _place_for_one(self) -> None:
        while self._ended is None and (len(self._outgoing) >= STREAM_LIMIT or not self._welcomed):
            place: Deferred[None] = Deferred()
            self._waiting.append(place)
            await place
        if self._ended is not None:
            raise LinkLost(f"The bulk connection is lost: {self._ended}")

    def welcome(self) -> None:
        """Tell the side that dialled that it is known here; streams may begin."""
        self._welcomed = True
        self._write(stream_frames.encode(Kind.WELCOME, 0))
        self._let_in()

    # What Twisted tells.

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        """Bytes of the peer."""
        if self._ended is not None:
            return
        try:
            for kind, number, body in self._reader.feed(data):
                self._frame_received(kind, number, body)
        except WireError as fault:
            self._refuse(str(fault))
        except Exception:  # noqa: BLE001 - an edge: a fault of ours costs this connection and no more
            self.log.failure("A frame could not be carried out")
            self._refuse("a fault here; the log has more")

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's
        """The connection is gone."""
        text = self._ended or str(reason.value)
        self.silence(text)
        self._lost(text)

    def silence(self, reason: str) -> None:
        """All streams end and nothing more is read."""
        if self._ended is None:
            self._ended = reason
        outgoing, self._outgoing = list(self._outgoing.values()), {}
        incoming, self._incoming = list(self._incoming.values()), {}
        self._lingering.clear()
        for sending in outgoing:
            sending.fail(LinkLost(f"The bulk connection is lost: {reason}"))
        for receiving in incoming:
            receiving.abort(f"the connection is lost: {reason}")
        self._let_in()

    # What the peer says.

    def _frame_received(self, kind: Kind, number: int, body: bytes) -> None:
        match kind:
            case Kind.OPEN:
                self._open(number, *stream_frames.decode_texts(body))
            case Kind.DATA:
                self._receiving(number).receive(body)
            case Kind.END:
                self._receiving(number).end()
            case Kind.ABORT:
                self._abort(self._receiving(number), stream_frames.decode_texts(body)[1])
            case Kind.WELCOME:
                self._be_welcomed()
            case Kind.CREDIT:
                size = stream_frames.decode_credit(body)
                if (sending := self._sending(number)) is not None:
                    sending.credit(size)
            case Kind.DONE:
                if (sending := self._sending(number)) is not None:
                    sending.done()
                    self._forget_outgoing(number)
            case Kind.REFUSE:
                code, text = stream_frames.decode_texts(body)
                if (sending := self._sending(number)) is not None:
                    sending.fail(RemoteFault(f"{text} ({code})"))
                    self._forget_outgoing(number)

    def _be_welcomed(self) -> None:
        if not self._is_client or self._welcomed:
            raise WireError("A welcome came at the wrong time.")
        self._welcomed = True
        self._ready()
        self._let_in()

    def _open(self, number: int, kind: str, detail: str) -> None:
        if number <= self._last_incoming:
            raise WireError("A stream was opened twice.")
        if max(len(self._incoming), len(self._lingering)) >= STREAM_LIMIT:
            raise WireError(f"More than {STREAM_LIMIT} streams were opened.")
        self._last_incoming = number
        stream = IncomingStream(number, self._write, self._forget_incoming)
        self._incoming[number] = stream
        try:
            sink = self._stream_opened(kind, detail)
        except PydraError as fault:
            stream.refuse(fault)
        except Exception:  # noqa: BLE001 - an edge: a fault of ours refuses this one stream
            self.log.failure("A stream could not be taken")
            stream.refuse(RemoteFault())
        else:
            stream.start(sink)

    def _receiving(self, number: int) -> IncomingStream:
        stream = self._incoming.get(number)
        if stream is None:
            raise WireError("A frame is for a stream that is not open.")
        return stream

    def _sending(self, number: int) -> OutgoingStream | None:
        """The stream, or None if it ended here while the frame was on its way."""
        if not 0 < number <= self._last_outgoing:
            raise WireError("A frame is for a stream that was never opened.")
        return self._outgoing.get(number)

    def _abort(self, stream: IncomingStream, reason: str) -> None:
        if stream.has_ended:
            raise WireError("A stream was aborted after its end.")
        self._lingering[stream.number] = self._incoming.pop(stream.number)
        stream.abort(reason)

    def _forget_incoming(self, number: int) -> None:
        self._incoming.pop(number, None)
        self._lingering.pop(number, None)

    def _forget_outgoing(self, number: int) -> None:
        self._outgoing.pop(number, None)
        self._let_in()

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            place.callback(None)

    def _write(self, frame: bytes) -> None:
        if self._ended is None and self.transport is not None:
            self.transport.write(frame)

    def _refuse(self, reason: str) -> None:
        self._ended = reason
        self.log.warn("A bulk connection is closed: {reason}", reason=reason)
        transport: Any = (
            self.transport
        )  # every TCP and TLS transport can abort, but ITransport does not say so
        transport.abortConnection()
