# SPDX-License-Identifier: MIT
"""
The control connection as `Link`: messages in, batches out, each one acknowledged.

A message leaves at once if the link is idle; all others of one reactor turn leave as one batch. A few
batches may be unacknowledged; what is sent meanwhile waits, in order, and leaves together. A batch (or a
ping, which is an empty one) that is not acknowledged in time ends the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.wire.broker import GuardedBroker
from pydra.cluster.wire.messages import BATCH_LIMIT, ToMaster, ToNode, batches, encode
from pydra.cluster.wire.pace import Pace
from pydra.errors import PydraError, RemoteFault, WireError

ANSWER_TIMEOUT_S = 10.0
PING_S = 5.0

WINDOW_BATCHES = 8
WINDOW_BYTES = 2 * 1024 * 1024
"""What may be unacknowledged: that many batches, and that many bytes before the last of them."""

IDLE_BATCHES = 1
"""A link with no more unacknowledged is idle: an acknowledgement may wait for a batch to go with."""

QUEUE_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait; a peer that is further behind is lost."""

SENDS_PER_S = 1_500
"""Below the rate at which the peer would hang up; messages above it wait and share a batch."""

_BURST = 150
_PING = b""
_ACCEPTED = b""

Received = Sequence[ToNode | ToMaster]


class PBLink:
    """
    One end of a control connection; made unconnected, `broker` is its protocol.

    ``decode`` reads batches of the peer; ``messages_received`` takes them. ``ready`` is called when the peer
    speaks PB; ``lost`` once, with the reason.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        is_client: bool,
        decode: Callable[[bytes], Received],
        messages_received: Callable[[Received], None],
        ready: Callable[[], None],
        lost: Callable[[str], None],
        close: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._decode = decode
        self._messages_received = messages_received
        self._ready = ready
        self._lost = lost
        self._close = close
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._unacknowledged: deque[tuple[int, float]] = deque()
        """Sizes of batches, and until when each may be answered."""
        self._unacknowledged_bytes = 0
        self._pace = Pace(clock, SENDS_PER_S, _BURST)
        self._flush: IDelayedCall | None = None
        self._ping: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._closed = False
        self.broker = GuardedBroker(
            is_client, clock, self._batch_received, self._became_ready, self._broker_lost
        )

    def send(self, message: ToNode | ToMaster) -> None:
        """
        Queue a message; after the link is lost or closed it is dropped.

        `WireError` if the message is too large to travel.
        """
        encoded = encode(message)
        if len(encoded) > BATCH_LIMIT:
            raise WireError(f"A message of {len(encoded)} bytes is too large; the limit is {BATCH_LIMIT}.")
        if self._closed:
            return
        self._queue.append(encoded)
        self._queued_bytes += len(encoded)
        if self._queued_bytes > QUEUE_LIMIT:
            self.close("the peer does not keep up with what it is sent")
        elif self._flush is None:
            if len(self._unacknowledged) <= IDLE_BATCHES and len(self._queue) == 1:
                self._send_waiting()
            self._flush_after(0.0)

    def backlog(self) -> int:
        """Bytes that wait for those before them to be acknowledged."""
        return self._queued_bytes

    def close(self, reason: str) -> None:
        """End the link; what was sent in earlier turns may still arrive."""
        if not self._closed:
            self.silence()
            self._close(reason)

    def silence(self) -> None:
        """Nothing is sent or delivered any more, and no timer is left."""
        self._closed = True
        self._queue.clear()
        self._queued_bytes = 0
        for timer in (self._flush, self._ping, self._deadline):
            if timer is not None and timer.active():
                timer.cancel()
        self._flush = self._ping = self._deadline = None

    def ping(self) -> None:
        """Send an empty batch, now and every few seconds, unless other batches wait for their answer."""
        if self._closed:
            return
        self._ping = self._clock.callLater(PING_S, self.ping)
        if not self._unacknowledged:
            self._send_batch(_PING)

    def _became_ready(self) -> None:
        if not self._closed:
            self._ready()

    def _flush_after(self, delay_s: float) -> None:
        if self._flush is None and not self._closed:
            self._flush = self._clock.callLater(delay_s, self._send_waiting)

    def _send_waiting(self) -> None:
        self._flush = None
        while self._queue and not self._closed:
            if len(self._unacknowledged) >= WINDOW_BATCHES or self._unacknowledged_bytes >= WINDOW_BYTES:
                return  # an acknowledgement goes on
            if not self._pace.take():
                self._flush_after(self._pace.wait_s())
                return
            for batch in batches(self._next_group()):
                self._send_batch(batch)

    def _next_group(self) -> list[bytes]:
        """The first messages that fit into one batch."""
        group: list[bytes] = []
        size = 0
        while self._queue and size + len(self._queue[0]) <= BATCH_LIMIT:
            message = self._queue.popleft()
            size += len(message)
            group.append(message)
        self._queued_bytes -= size
        return group

    def _send_batch(self, batch: bytes) -> None:
        self._unacknowledged.append((len(batch), self._clock.seconds() + ANSWER_TIMEOUT_S))
        self._unacknowledged_bytes += len(batch)
        if self._deadline is None:
            self._deadline = self._clock.callLater(ANSWER_TIMEOUT_S, self._look_for_answers)
        answer = self.broker.send(batch)
        answer.addCallbacks(self._answered, lambda _: None)  # it fails when the connection is lost
        answer.addErrback(lambda fault: self.log.failure("The acknowledgement of a batch failed", fault))

    def _look_for_answers(self) -> None:
        """Close the link if the oldest batch is without an answer for too long."""
        self._deadline = None
        if not self._unacknowledged:
            return
        left = self._unacknowledged[0][1] - self._clock.seconds()
        if left > 0.0:
            self._deadline = self._clock.callLater(left, self._look_for_answers)
        else:
            self.close(f"the peer did not answer within {ANSWER_TIMEOUT_S:g} s")

    def _answered(self, answer: bytes) -> None:
        self._unacknowledged_bytes -= self._unacknowledged.popleft()[0]
        if answer != _ACCEPTED:
            code, _, text = answer[:2_000].decode("utf-8", "replace").partition("\n")
            self.close(f"the peer refused a message: {text} ({code})")
        elif self._queue:
            self._flush_after(0.0)

    def _batch_received(self, batch: bytes) -> bytes:
        if self._closed or not batch:
            if not self._closed:
                self._messages_received(())
            return _ACCEPTED
        try:
            self._messages_received(self._decode(batch))
        except PydraError as fault:
            self.log.warn("A batch was refused: {fault}", fault=str(fault))
            return self._refuse(fault)
        except Exception:  # noqa: BLE001 - an edge: a fault of ours must not break the connection in any odd way
            self.log.failure("A batch could not be carried out")
            return self._refuse(RemoteFault())
        return _ACCEPTED

    def _refuse(self, fault: PydraError) -> bytes:
        """Close the link, after the answer (which is written when this returns) is out."""
        self._clock.callLater(0, self.close, f"a message of the peer was refused: {fault}")
        return f"{fault.code}\n{fault}".encode()[:2_000]

    def _broker_lost(self, reason: str) -> None:
        self.silence()
        self._lost(reason)
