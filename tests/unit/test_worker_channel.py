# SPDX-License-Identifier: MIT
"""The worker's end of the channel, and what is loaded to hold it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from errno import ETIME

import pytest

from pydra.cluster.wire.frames import DONE, PART, FrameReader
from pydra.cluster.worker.channel import Channel
from tests.support.runtimes import SOURCES

Ends = tuple[Channel, socket.socket]


class _Ended(BaseException):
    """A worker would have ended here."""


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A channel, and the daemon's end of it."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    channel = Channel(os.dup(ours.fileno()))
    ours.close()
    with theirs:
        yield channel, theirs
    channel.close()


def received(daemon: socket.socket, is_all: Callable[[list[list[object]]], bool]) -> list[list[object]]:
    """The frames until these are all."""
    reader, frames = FrameReader(), list[list[object]]()
    while not is_all(frames):
        frames += reader.feed(daemon.recv(1 << 20))
    return frames


def test_frames_that_are_sent_together_stay_together(ends: Ends) -> None:
    """Whatever other threads send."""
    channel, daemon = ends

    def send(number: int) -> None:
        for _ in range(100):
            channel.send([PART, number], [PART, number], [DONE, number])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    frames = received(daemon, lambda frames: len(frames) == 1200)
    for thread in threads:
        thread.join()
    for start in range(0, len(frames), 3):
        number = frames[start][1]
        assert [[PART, number], [PART, number], [DONE, number]] == frames[start : start + 3]


@pytest.fixture
def no_exit(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The statuses with which a worker would have ended."""
    statuses: list[int] = []

    def exit_(status: int) -> None:
        statuses.append(status)
        raise _Ended

    monkeypatch.setattr(os, "_exit", exit_)
    yield statuses
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize(
    "fault", [RuntimeError("late"), TimeoutError(ETIME, "late"), BrokenPipeError("late")]
)
def test_a_signal_handler_that_raises_costs_no_byte(ends: Ends, no_exit: list[int], fault: Exception) -> None:
    """Whatever it interrupts, frames stay whole and in their order, and all that follow are sent."""
    channel, daemon = ends

    def too_late(*_: object) -> None:
        channel.send([PART, -1])
        raise fault

    signal.signal(signal.SIGALRM, too_late)
    sent = 0
    interrupted: set[object] = set()

    def flood() -> None:
        nonlocal sent
        while True:
            sent += 1
            channel.send([PART, sent, bytes(100_000)])

    for _ in range(3):  # the daemon reads nothing, so each time a write waits for it, with some of it written
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(type(fault), match="late"):
            flood()
        interrupted.add(sent)
    frames: list[list[object]] = []
    reading = threading.Thread(target=lambda: frames.extend(received(daemon, lambda all_: [DONE] in all_)))
    reading.start()
    channel.send([DONE])
    reading.join()
    numbers = [frame[1] for frame in frames[:-1]]
    assert 3 == numbers.count(-1)
    arrived = [number for number in numbers if number != -1]
    assert arrived == sorted(set(range(1, sent + 1)) - (interrupted - set(arrived)))
    assert [PART, 1, bytes(100_000)] == frames[0]
    assert [] == no_exit


def test_a_daemon_that_is_gone_ends_the_worker(ends: Ends, no_exit: list[int]) -> None:
    """There is nobody to work for."""
    channel, daemon = ends
    daemon.close()
    with pytest.raises(_Ended):
        channel.send([DONE])
    assert [1] == no_exit


def test_a_warm_worker_has_loaded_little() -> None:
    """All of it is loaded before there is a task, and none of it is slow."""
    program = (
        f"import sys; sys.path += {SOURCES!r}; import pydra.cluster.worker.main; print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"typing", "dataclasses", "enum", "hashlib", "inspect", "logging", "msgspec", "queue", "re"}
    assert set() == loaded & {*heavy, "threading", "traceback", "twisted"}
    assert {"pydra.cluster.worker.serving", "pydra.cluster.worker.asking"} <= loaded
