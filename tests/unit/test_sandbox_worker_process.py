# SPDX-License-Identifier: MIT
"""Our end of one worker."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox.worker_process import (
    FRAME_BYTES_BURST,
    FRAMES_BURST,
    OUTPUT_BURST,
    SEND_LIMIT,
    CommonTime,
    SandboxedWorker,
)
from pydra.cluster.wire.frames import PART, PART_SIZE, READY, encode
from pydra.errors import WireError
from tests.support.scripted_launcher import Listener, Worker
from tests.support.turning import TurningClock


class Pair:
    """A taken worker and its other end."""

    def __init__(self, clock: TurningClock | None = None, time: CommonTime | None = None) -> None:
        ours, its = socket.socketpair()
        reading, writing = os.pipe()
        self.clock = clock or TurningClock()
        self.killed: list[int] = []
        self.limits: list[tuple[int, float]] = []
        time = time or CommonTime(self.clock.seconds, self.clock.seconds)
        ask = (lambda worker: None, self.killed.append, lambda *limit: self.limits.append(limit))
        self.process = SandboxedWorker(self.clock, 7, ours, reading, *ask, time)
        self.worker = Worker(its.detach(), writing)
        self.worker.say(READY)
        self.clock.turn()
        self.listener = Listener()
        self.process.assign(self.listener)

    def end(self, status: int) -> WorkerExit:
        """The launcher said that it is gone; what the listener was told last."""
        self.process.ended(status)
        ending = self.listener.told[-1]
        assert isinstance(ending, WorkerExit)
        return ending


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A taken worker."""
    made = Pair()
    yield made
    made.process.ended(137)
    made.worker.close()
    assert [] == made.clock.readers
    assert [] == made.clock.writers
    assert [] == made.clock.getDelayedCalls()


def test_frames_and_output_are_given_to_the_listener(pair: Pair) -> None:
    """What it sends arrives, in order."""
    pair.worker.say(17, 50, None)
    pair.worker.say(22)
    pair.clock.turn()
    os.write(pair.worker.output, b"words")
    pair.clock.turn()
    assert [[17, 50, None], [22], b"words"] == pair.listener.told


def test_a_flood_of_frames_waits_for_its_turn(pair: Pair) -> None:
    """Neither memory nor time of the daemon is taken by what a worker says too fast."""
    frame = encode([17, 1, None])
    pair.worker.channel.setblocking(False)
    sent = 0
    for _ in range(200):
        try:
            sent += pair.worker.channel.send(frame * 1000) // len(frame)
        except BlockingIOError:
            break
        pair.clock.turn()
    assert FRAMES_BURST <= len(pair.listener.told) < FRAMES_BURST + 20_000
    assert len(pair.listener.told) < sent
    told = len(pair.listener.told)
    pair.clock.advance(60)
    pair.clock.turn()
    assert told < len(pair.listener.told)
    assert [] == pair.killed


def test_a_flood_of_output_waits_for_its_turn(pair: Pair) -> None:
    """The pipe fills, which blocks whoever writes."""
    os.set_blocking(pair.worker.output, False)
    written = 0
    with contextlib.suppress(BlockingIOError):
        while written < 10 * OUTPUT_BURST:
            written += os.write(pair.worker.output, bytes(65536))
            pair.clock.turn()
    assert OUTPUT_BURST <= written < 2 * OUTPUT_BURST
    pair.clock.advance(10)
    pair.clock.turn()
    assert written == sum(len(told) for told in pair.listener.told if isinstance(told, bytes))


def send_parts(pair: Pair, number: int, count: int) -> int:
    """How many of these frames of half a MiB are taken while no time goes by."""
    pair.worker.channel.setblocking(False)
    frame = memoryview(encode([number, bytes(PART_SIZE)]))
    stalled = told = 0
    while stalled < 3 and told < count:
        rest = frame
        while rest and stalled < 3:
            try:
                rest = rest[pair.worker.channel.send(rest) :]
                stalled = 0
            except BlockingIOError:
                stalled += 1
            pair.clock.turn()
        told = len(pair.listener.told)
    return told


def test_a_long_result_does_not_wait(pair: Pair) -> None:
    """Parts beyond what other answers may have cost little, and are read as they come."""
    assert 100 == send_parts(pair, PART, 100)


def test_a_flood_of_other_large_frames_waits_for_its_turn(pair: Pair) -> None:
    """They may be costly to decode, so a burst of them is read and no more."""
    burst = FRAME_BYTES_BURST // PART_SIZE
    assert burst <= send_parts(pair, 40, 100) <= burst + 2


class SlowListener(Listener):
    """Somebody whom everything that a worker says takes ``second`` seconds."""

    def __init__(self, clock: TurningClock, seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds

    def frame_received(self, frame: list[object]) -> None:
        """Take it, and time."""
        super().frame_received(frame)
        self._clock.rightNow += self._seconds

    def output_received(self, data: bytes) -> None:
        """Take it, and time."""
        super().output_received(data)
        self._clock.rightNow += self._seconds


def test_what_takes_long_waits_for_its_turn(pair: Pair) -> None:
    """A worker has a share of our time, whatever takes it: few bytes in few frames, or its output."""
    listener = SlowListener(pair.clock, 0.2)
    pair.process.pass_to(listener)
    pair.worker.say(18, [])
    pair.clock.turn()
    os.write(pair.worker.output, b"words")
    pair.clock.turn()
    assert [[18, []], b"words"] == listener.told
    pair.worker.say(18, [])
    os.write(pair.worker.output, b"words")
    pair.clock.advance(0.05)
    pair.clock.turn()
    assert 2 == len(listener.told)
    pair.clock.advance(1.0)
    pair.clock.turn()
    assert 4 == len(listener.told)


def test_a_worker_that_takes_little_time_never_waits(pair: Pair) -> None:
    """A tenth of our time is less than its share: nothing rests, for as long as it goes on."""
    listener = SlowListener(pair.clock, 0.01)
    pair.process.pass_to(listener)
    for _ in range(100):
        pair.worker.say(30, "1.1", 0, [b""], {}, 0.1)
        pair.clock.turn()
        pair.clock.advance(0.09)
    assert 100 == len(listener.told)
    assert [] == pair.clock.getDelayedCalls()


def test_parts_take_no_share_of_the_time(pair: Pair) -> None:
    """They are copied, which the pace of their bytes bounds: a long result is as fast as the disk."""
    pair.process.pass_to(SlowListener(pair.clock, 0.03))
    for _ in range(10):
        pair.worker.say(PART, b"x")
        pair.clock.turn()
    assert [] == pair.clock.getDelayedCalls()


def test_a_busy_machine_is_no_fault_of_a_worker() -> None:
    """While we do not get to run, nothing is counted."""
    clock = TurningClock()
    pair = Pair(clock, CommonTime(clock.seconds, lambda: 0.0))
    listener = SlowListener(clock, 1.0)
    pair.process.pass_to(listener)
    for _ in range(10):
        pair.worker.say(18, [])
        clock.turn()
    assert 10 == len(listener.told)
    pair.process.ended(137)
    pair.worker.close()


def test_those_that_take_much_time_share_it() -> None:
    """However many take as much as they can get, together they have little more than one alone."""
    clock = TurningClock()
    time = CommonTime(clock.seconds, clock.seconds)
    pairs = [Pair(clock, time) for _ in range(8)]
    listeners = [SlowListener(clock, 0.02) for _ in pairs]
    said = dict.fromkeys(pairs, 0)
    for pair, listener in zip(pairs, listeners, strict=True):
        pair.process.pass_to(listener)
    while clock.seconds() < 20:
        for pair, listener in zip(pairs, listeners, strict=True):
            if said[pair] == len(listener.told):
                said[pair] += 1
                pair.worker.say(18, [])
        clock.turn()
        clock.advance(0.01)
    for pair in pairs:
        pair.process.ended(137)
        pair.worker.close()
    shares = [len(listener.told) * 0.02 / clock.seconds() for listener in listeners]
    assert 0.3 < sum(shares) < 0.5
    assert min(shares) > 0.03
    assert [] == clock.getDelayedCalls()


def test_a_rested_worker_stays_paused(pair: Pair) -> None:
    """Who paused it decides when it is read again."""
    os.set_blocking(pair.worker.output, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pair.worker.output, bytes(65536))
            pair.clock.turn()
    told = len(pair.listener.told)
    pair.process.pause_output(True)
    pair.clock.advance(10)
    pair.clock.turn()
    assert told == len(pair.listener.told)
    pair.process.pause_output(False)
    pair.clock.turn()
    assert told < len(pair.listener.told)


def test_frames_are_sent(pair: Pair) -> None:
    """It hears what it is sent."""
    pair.process.send([2])
    assert [[2]] == pair.worker.heard()


def test_large_frames_wait_until_they_are_read(pair: Pair) -> None:
    """A slow reader does not block the daemon."""
    parts: list[list[object]] = [[5, b"x" * 500_000] for _ in range(4)]
    for part in parts:
        pair.process.send(part)
    heard: list[list[object]] = []
    for _ in range(1000):
        heard += pair.worker.heard()
        pair.clock.turn()
    assert parts == heard


def test_a_worker_that_never_reads_is_killed(pair: Pair) -> None:
    """What waits for it has a limit."""
    for _ in range(SEND_LIMIT // 500_000 + 2):
        pair.process.send([5, b"x" * 500_000])
    assert [7] == pair.killed
    assert "protocol: it does not read what it is sent" == pair.end(137).reason


def test_backlog(pair: Pair) -> None:
    """What it has not read is counted, until it has, or cannot any more."""
    pair.process.send([5, b"x"])
    assert 0 == pair.process.backlog()
    for _ in range(4):
        pair.process.send([5, b"x" * 1_000_000])
    assert 2_000_000 < pair.process.backlog() < 4_100_000
    while pair.process.backlog():
        pair.worker.heard()
        pair.clock.turn()
    for _ in range(4):
        pair.process.send([5, b"x" * 1_000_000])
    pair.worker.channel.close()
    pair.clock.turn()
    assert 0 == pair.process.backlog()


def test_a_frame_above_the_limit_is_our_own_fault(pair: Pair) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(WireError):
        pair.process.send([5, b"x" * 2_000_000])
    assert [] == pair.worker.heard()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x00",
        encode([1])[:4] + b"\x90",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_frame_ends_it(pair: Pair, data: bytes) -> None:
    """It is killed once, and its end says that it broke the protocol."""
    pair.worker.channel.sendall(data)
    pair.clock.turn()
    pair.worker.channel.sendall(encode([22]))
    pair.clock.turn()
    assert [7] == pair.killed
    ending = pair.end(137)
    assert ending.reason.startswith("protocol: ")
    assert not ending.reason.endswith(".")
    assert ending.has_sent_garbage
    assert [ending] == pair.listener.told


def test_what_it_said_last_comes_before_its_end(pair: Pair) -> None:
    """A result that was sent just before the end is not lost."""
    pair.worker.say(20, b"result")
    os.write(pair.worker.output, b"bye")
    pair.worker.close()
    ending = pair.end(3)
    assert [[20, b"result"], b"bye", WorkerExit(3, "exited with status 3")] == pair.listener.told
    assert 3 == ending.status


def test_nothing_is_told_after_its_end(pair: Pair) -> None:
    """Neither what it said, nor a second end."""
    pair.end(0)
    pair.process.send([2])
    pair.process.kill()
    pair.process.pause_output(False)
    pair.process.ended(1)
    assert [WorkerExit(0, "exited with status 0")] == pair.listener.told
    assert [] == pair.killed


def test_a_paused_worker_is_not_read(pair: Pair) -> None:
    """Its pipes fill until it waits; what it wrote comes when it is read again."""
    pair.process.pause_output(True)
    pair.worker.say(22)
    os.write(pair.worker.output, b"words")
    pair.clock.turn()
    assert [] == pair.listener.told
    pair.process.pause_output(False)
    pair.clock.turn()
    assert [[22], b"words"] == pair.listener.told


def test_a_worker_without_a_channel_is_killed_if_it_does_not_end(pair: Pair) -> None:
    """User code that closed the channel cannot stay."""
    pair.worker.channel.shutdown(socket.SHUT_RDWR)
    pair.clock.turn()
    assert [] == pair.killed
    pair.clock.advance(1.0)
    assert [7] == pair.killed
    assert "protocol: it closed its channel" == pair.end(137).reason


def test_closed_output_is_no_fault(pair: Pair) -> None:
    """A task may close its standard streams."""
    os.close(pair.worker.output)
    pair.worker.output = -1
    pair.clock.turn()
    pair.worker.say(22)
    pair.clock.turn()
    assert [[22]] == pair.listener.told


def test_descriptors_sent_along_are_dropped(pair: Pair) -> None:
    """A worker cannot fill the daemon's descriptor table."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        socket.send_fds(pair.worker.channel, [encode([22])], [0] * 100)
    pair.clock.turn()
    assert before == len(os.listdir("/proc/self/fd"))
    assert [[22]] * 10 == pair.listener.told


def test_its_time(pair: Pair) -> None:
    """The launcher keeps it, but not of one that is gone; that it had passed is told at its end."""
    pair.process.live_until(12.5)
    pair.process.live_until(10.0)
    pair.process.ended(137, overdue=True)
    pair.process.live_until(20.0)
    assert [(7, 12.5), (7, 10.0)] == pair.limits
    assert [WorkerExit(137, "killed by signal 9 (SIGKILL)", is_overdue=True)] == pair.listener.told
