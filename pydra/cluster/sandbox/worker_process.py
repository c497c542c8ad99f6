# SPDX-License-Identifier: MIT
"""
Our end of one worker: frames over its channel, bytes from its output, one after the other and never blocking.

The worker is not trusted. It is read with plain ``recv`` (the kernel drops descriptors sent along), one
bounded piece a turn; what is no frame ends it.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IDelayedCall

from pydra.cluster.interfaces import WorkerExit, WorkerListener
from pydra.cluster.sandbox.descriptors import Descriptor, Reactor
from pydra.cluster.sandbox.endings import describe
from pydra.cluster.sandbox.throttle import Throttle
from pydra.cluster.wire.frames import ANSWER_LIMIT, PART, READY, FrameReader, encode
from pydra.errors import WireError

SEND_LIMIT = 32 * 1024 * 1024
"""Bytes that may wait for a worker to read them."""

FRAMES_A_SECOND, FRAMES_BURST = 2000, 4000
FRAME_BYTES_A_SECOND, FRAME_BYTES_BURST = 64 * 1024 * 1024, 16 * 1024 * 1024
OUTPUT_A_SECOND, OUTPUT_BURST = 16 * 1024 * 1024, 4 * 1024 * 1024
"""What is read of one worker: frames, their bytes, and bytes of output."""

TIME_SHARE, TIME_BURST_S = 0.005, 0.05
"""
The share of our time, and the seconds at once, that what a worker says may take in any case. More is of a
share that all have together. Parts of payloads do not count: they are copied, which their bytes pay for.
"""

COMMON_TIME_SHARE = 0.4
"""Of our time: several times what units take that run as fast as they can."""

PARTS_CHARGE = 1 / 16
"""
What a byte of a long result counts to that: it costs a copy here, while other frames are decoded, and parts
of other answers are hashed. No other answer is as long, and a result has a limit of its own.
"""

_READ_SIZE = 64 * 1024
_RECEIVED = bytearray(256 * 1024)
"""What was read of a channel goes here first: only one is read at a time."""
_SAID_LIMIT = 4096
_LAST_TURNS = 64
_CLOSED_GRACE_S = 1.0


class Stage(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    TAKEN = "taken"
    GONE = "gone"


def make_ends() -> tuple[socket.socket, socket.socket, int, int]:
    """Our end and its end of a channel, and the reading and the writing end of its output. `OSError`."""
    ours, its = socket.socketpair()
    try:
        return ours, its, *os.pipe2(os.O_CLOEXEC)
    except OSError:
        ours.close()
        its.close()
        raise


class CommonTime(Throttle):
    """
    What all workers of a reactor share of its time.

    That is counted in CPU seconds of its thread: if the machine is busy, that is no fault of a worker.
    """

    def __init__(
        self, seconds: Callable[[], float], cpu_seconds: Callable[[], float] = time.thread_time
    ) -> None:
        super().__init__(seconds, COMMON_TIME_SHARE, TIME_BURST_S)
        self.cpu_seconds = cpu_seconds


class SandboxedWorker:
    """
    One worker, used once; a `WorkerProcess`.

    ``became_ready`` is called when it said READY. ``kill_number`` asks the launcher for its end, and
    ``limit_number`` for that at a time. What takes more of our time than one worker may have is taken of
    ``common_time``, which many share.
    """

    def __init__(
        self,
        reactor: Reactor,
        number: int,
        channel: socket.socket,
        output: int,
        became_ready: Callable[[SandboxedWorker], None],
        kill_number: Callable[[int], None],
        limit_number: Callable[[int, float], None],
        common_time: CommonTime,
    ) -> None:
        self.number = number
        self.stage = Stage.STARTING
        self.said = b""
        """The beginning of what it wrote before it was taken: of interest only if it failed."""
        self._reactor = reactor
        self._became_ready = became_ready
        self._kill_number, self._limit_number = kill_number, limit_number
        self._listener: WorkerListener | None = None
        self._frames = FrameReader()
        self._unsent: deque[memoryview] = deque()
        self._unsent_size = 0
        self._reason = ""
        self._has_sent_garbage = False
        self._closing: IDelayedCall | None = None
        self._paused = False
        self._parts_size = 0
        """Bytes of the parts of the present answer."""
        self._resting: dict[Descriptor, IDelayedCall] = {}
        """Descriptors that are not read for a while, because they gave too much."""
        self._frame_pace = Throttle(reactor.seconds, FRAMES_A_SECOND, FRAMES_BURST)
        self._byte_pace = Throttle(reactor.seconds, FRAME_BYTES_A_SECOND, FRAME_BYTES_BURST)
        self._output_pace = Throttle(reactor.seconds, OUTPUT_A_SECOND, OUTPUT_BURST)
        self._time_pace = Throttle(reactor.seconds, TIME_SHARE, TIME_BURST_S)
        self._common_time = common_time
        channel.setblocking(False)
        os.set_blocking(output, False)
        self._channel: socket.socket | None = channel
        self._output: int | None = output
        self._watched_channel = Descriptor(
            reactor, channel.fileno(), self._read_channel, self._write_channel, self._broken
        )
        self._watched_output = Descriptor(reactor, output, self._read_output, self._broken, self._broken)
        self.pause_output(False)

    def assign(self, listener: WorkerListener) -> None:
        """The one listener of this worker, from now on."""
        assert self.stage is Stage.READY
        self.stage = Stage.TAKEN
        self._listener = listener

    def pass_to(self, listener: WorkerListener) -> None:
        """Another listener, from now on: of one that did something ahead, for the task that it was for."""
        assert self.stage is Stage.TAKEN
        self._listener = listener

    # WorkerProcess.

    def send(self, frame: list[object]) -> None:
        """Send a frame; after the worker is gone this does nothing. `WireError` if it is too large."""
        data = encode(frame)
        if self._channel is None or self._reason:
            return
        self._unsent.append(memoryview(data))
        self._unsent_size += len(data)
        if self._unsent_size > SEND_LIMIT:
            self._fail("protocol: it does not read what it is sent")
        elif len(self._unsent) == 1:
            self._write_channel()

    def backlog(self) -> int:
        """Bytes that wait for it to read those before them."""
        return self._unsent_size

    def kill(self) -> None:
        """End it and every process it started; ``exited`` follows."""
        if self.stage is not Stage.GONE:
            self._kill_number(self.number)

    def live_until(self, at: float) -> None:
        """Have it ended at this time of the boot-time clock, also while this daemon stands still."""
        if self.stage is not Stage.GONE:
            self._limit_number(self.number, at)

    def pause_output(self, paused: bool) -> None:
        """Stop (or go on) reading from it; a paused worker blocks when its pipes are full."""
        self._paused = paused
        self._read_again(self._watched_channel)
        self._read_again(self._watched_output)

    def _read_again(self, descriptor: Descriptor) -> None:
        """Read it, or do not, as things stand."""
        if descriptor is self._watched_channel:
            if self._channel is None or self._reason or self._closing is not None:
                return
        elif self._output is None:
            return
        descriptor.read(not self._paused and descriptor not in self._resting)

    def _rest(self, descriptor: Descriptor, wait_s: float) -> None:
        """Let it wait; meanwhile its pipe fills, and whoever writes to it is blocked."""
        if wait_s and descriptor not in self._resting:
            self._resting[descriptor] = self._reactor.callLater(wait_s, self._rested, descriptor)
            self._read_again(descriptor)

    def _rested(self, descriptor: Descriptor) -> None:
        del self._resting[descriptor]
        self._read_again(descriptor)

    # From the pool.

    def ended(self, status: int, reason: str = "", limit: str = "", *, overdue: bool = False) -> None:
        """No process of it is alive; give what it wrote last, then its end."""
        if self.stage is Stage.GONE:
            return
        try:
            if not self._reason:
                self._drain(self._read_channel, lambda: self._channel is not None and self._closing is None)
            self._drain(self._read_output, lambda: self._output is not None)
        finally:
            self.stage = Stage.GONE
            self._close_channel()
            self._close_output()
            if self._closing is not None and self._closing.active():
                self._closing.cancel()
            self._closing = None
            for timer in self._resting.values():
                timer.cancel()
            self._resting.clear()
            listener, self._listener = self._listener, None
            if listener is not None:
                words = self._reason or reason or describe(status)
                listener.exited(WorkerExit(status, words, limit, self._has_sent_garbage, overdue))

    @property
    def fault(self) -> str:
        """Why we ended it; empty if we did not."""
        return self._reason

    # Its channel.

    def _read_channel(self) -> None:
        if self._channel is None:
            return
        try:
            size = self._channel.recv_into(_RECEIVED)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._channel_ended()
            return
        begun = self._common_time.cpu_seconds()
        try:
            with memoryview(_RECEIVED) as received:
                frames = self._frames.feed(received[:size])
            for frame in frames:
                self._frame_received(frame)
                if self._reason:
                    return
        except WireError as fault:
            self._has_sent_garbage = True
            self._fail(f"protocol: {str(fault).rstrip('.')}")
            return
        wait_s = max(self._byte_pace.take(self._charge(size, frames)), self._frame_pace.take(len(frames)))
        if any(frame[0] != PART for frame in frames):
            wait_s = max(wait_s, self._pay_time(begun))
        self._rest(self._watched_channel, wait_s)

    def _pay_time(self, begun: float) -> float:
        """It took us the time since then; the seconds that it rests for that."""
        spent = self._common_time.cpu_seconds() - begun
        return self._common_time.take(spent) if self._time_pace.take(spent) else 0.0

    def _charge(self, size: int, frames: list[list[object]]) -> float:
        """What bytes that were read, and completed these frames, count; a large part gives some back."""
        charge = float(size)
        for frame in frames:
            if frame[0] == PART and len(frame) == 2 and isinstance(frame[1], bytes):
                self._parts_size += len(frame[1])
                if self._parts_size > ANSWER_LIMIT:
                    charge -= len(frame[1]) * (1 - PARTS_CHARGE)
            else:
                self._parts_size = 0
        return charge

    def _frame_received(self, frame: list[object]) -> None:
        if self._listener is not None:
            self._listener.frame_received(frame)
        elif self.stage is Stage.STARTING and frame == [READY]:
            self.stage = Stage.READY
            self._became_ready(self)
        else:
            self._fail("protocol: it spoke before it was asked")

    def _channel_ended(self) -> None:
        """It closed its end: by ending, which the launcher tells next, or else it is of no use."""
        self._watched_channel.forget()
        self._drop_unsent()
        if self._closing is None:
            self._closing = self._reactor.callLater(
                _CLOSED_GRACE_S, self._fail, "protocol: it closed its channel"
            )

    def _write_channel(self) -> None:
        while self._unsent and self._channel is not None:
            try:
                sent = self._channel.send(self._unsent[0])
            except BlockingIOError:
                break
            except OSError:
                self._drop_unsent()  # it is gone, which reading tells
                break
            self._unsent_size -= sent
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
            else:
                self._unsent.popleft()
        self._watched_channel.write(bool(self._unsent))

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_size = 0

    # Its output.

    def _read_output(self) -> None:
        if self._output is None:
            return
        try:
            data = os.read(self._output, _READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._close_output()
            return
        begun = self._common_time.cpu_seconds()
        if self._listener is not None:
            self._listener.output_received(data)
        else:
            self.said = (self.said + data)[:_SAID_LIMIT]
        wait_s = max(self._output_pace.take(len(data)), self._pay_time(begun))
        self._rest(self._watched_output, wait_s)

    # Its end.

    def _drain(self, read: Callable[[], None], more: Callable[[], bool]) -> None:
        """Read what the kernel still holds; nobody writes any more, so it is little."""
        for _ in range(_LAST_TURNS):
            if not more():
                return
            read()

    def _fail(self, reason: str) -> None:
        """It broke the rules: read no more of its frames and end it."""
        if self._reason or self.stage is Stage.GONE:
            return
        self._reason = reason
        self._watched_channel.forget()
        self._drop_unsent()
        self.kill()

    def _broken(self) -> None:
        """Somebody raised while told of it, which was logged."""
        self._fail("fault in Pydra; the log has the details")

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._watched_channel.forget()
            self._channel.close()
            self._channel = None

    def _close_output(self) -> None:
        if self._output is not None:
            self._watched_output.forget()
            os.close(self._output)
            self._output = None
