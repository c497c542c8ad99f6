# SPDX-License-Identifier: MIT
"""The worker's end of the channel, and what is loaded to hold it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pydra.cluster.wire.frames import DONE, PART, FrameReader
from pydra.cluster.worker.channel import Channel
from tests.support.runtimes import SOURCES

Ends = tuple[Channel, socket.socket]


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


def received(daemon: socket.socket, count: int) -> list[list[object]]:
    reader, frames = FrameReader(), list[list[object]]()
    while len(frames) < count:
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
    frames = received(daemon, 1200)
    for thread in threads:
        thread.join()
    for start in range(0, len(frames), 3):
        number = frames[start][1]
        assert [[PART, number], [PART, number], [DONE, number]] == frames[start : start + 3]


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
