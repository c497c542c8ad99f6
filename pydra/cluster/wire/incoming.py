# SPDX-License-Identifier: MIT
"""A stream that the peer sends over the bulk connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import BulkSink
from pydra.cluster.wire import stream_frames
from pydra.cluster.wire.outgoing import INITIAL_CREDIT
from pydra.cluster.wire.stream_frames import CHUNK_LIMIT, Kind
from pydra.errors import PydraError, RemoteFault, WireError


class IncomingStream:
    """
    Carries bytes to a sink, one ``write`` at a time, and gives credit for what was written.

    ``abort`` of the sink is never called while a ``write`` or ``finish`` of it goes on, and nothing is called
    after it. A stream that was refused stays until the sender confirms it, and drops what still comes.
    """

    log = Logger()

    def __init__(self, number: int, write: Callable[[bytes], None], forget: Callable[[int], None]) -> None:
        self.number = number
        self._write = write
        self._forget = forget
        self._sink: BulkSink | None = None
        self._held: list[bytes | bytearray] = []
        self._on_the_way = INITIAL_CREDIT
        self.has_ended = False
        self._refused = False
        self._aborted: str | None = None
        self._is_carrying = False

    def start(self, sink: BulkSink) -> None:
        """Bytes go to this sink."""
        self._sink = sink

    def receive(self, data: bytes) -> None:
        """The sender sent bytes; `WireError` if it had no credit for them."""
        if self.has_ended or not data:
            raise WireError("A stream brought data where none may be.")
        self._on_the_way -= len(data)
        if self._on_the_way < 0:
            raise WireError("A stream brought more data than it had credit for.")
        if not self._refused:
            self._hold(data)
            self._carry_on()

    def end(self) -> None:
        """The sender sent all."""
        if self.has_ended:
            raise WireError("A stream ended twice.")
        self.has_ended = True
        if self._refused:
            self._forget(self.number)
        else:
            self._carry_on()

    def refuse(self, fault: PydraError) -> None:
        """Tell the sender that its stream is not wanted."""
        self._refused = True
        self._held.clear()
        self._write(stream_frames.encode_texts(Kind.REFUSE, self.number, fault.code, str(fault)))
        if self.has_ended:
            self._forget(self.number)

    def abort(self, reason: str) -> None:
        """The sender gave up, or is gone; the stream is forgotten when its sink knows."""
        if self._aborted is None:
            self._aborted = reason
            self._held.clear()
            if self._sink is None and not self._is_carrying:
                self._forget(self.number)
            else:
                self._carry_on()

    def _hold(self, data: bytes) -> None:
        """Keep bytes for the sink; small pieces are joined, since each one apart costs more than it holds."""
        if not self._held or len(self._held[-1]) + len(data) > CHUNK_LIMIT:
            self._held.append(data)
            return
        last = self._held[-1]
        if isinstance(last, bytes):
            last = self._held[-1] = bytearray(last)
        last += data

    def _carry_on(self) -> None:
        if self._sink is not None and not self._is_carrying:
            self._is_carrying = True
            carried = Deferred.fromCoroutine(self._carry(self._sink))
            carried.addErrback(lambda fault: self.log.failure("A stream could not be carried on", fault))

    async def _carry(self, sink: BulkSink) -> None:
        """Give the sink all there is to give now."""
        try:
            await self._feed(sink)
        except PydraError as fault:
            self._sink_failed(sink, fault)
        except Exception:  # noqa: BLE001 - an edge: a fault of a sink refuses this one stream
            self.log.failure("A stream could not be taken")
            self._sink_failed(sink, RemoteFault())
        finally:
            self._is_carrying = False
            if self._aborted is not None:
                self._forget(self.number)
        if self._aborted is not None and self._sink is not None:
            self._sink = None
            sink.abort(self._aborted)

    async def _feed(self, sink: BulkSink) -> None:
        while self._held and self._aborted is None:
            held, self._held = self._held, []
            data = held[0] if len(held) == 1 and isinstance(held[0], bytes) else b"".join(held)
            await sink.write(data)
            if self._aborted is None:
                self._on_the_way += len(data)
                self._write(stream_frames.encode_credit(self.number, len(data)))
        if self.has_ended and self._aborted is None:
            await sink.finish()
            self._sink = None
            self._write(stream_frames.encode(Kind.DONE, self.number))
            self._forget(self.number)

    def _sink_failed(self, sink: BulkSink, fault: PydraError) -> None:
        self._sink = None
        if self._aborted is None:
            self.refuse(fault)
        sink.abort(self._aborted or str(fault))
