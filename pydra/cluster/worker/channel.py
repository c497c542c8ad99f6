# SPDX-License-Identifier: MIT
"""The worker's end of the socketpair: whole frames, one writer at a time."""

from __future__ import annotations

import os
from _thread import RLock

from pydra.cluster.wire.frames import FrameReader, encode

READ_SIZE = 256 * 1024


class Channel:
    """
    Frames to and from the daemon.

    A worker that lost its channel has nobody to work for: it ends at once. A process that the task forked
    is not the worker: what it sends goes nowhere.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, True)
        self._descriptor = descriptor
        self._owner = os.getpid()
        self._reader = FrameReader()
        self._received: list[list[object]] = []
        self._pending: list[bytes] = []
        self._writing = False
        self._lock = RLock()

    def send(self, *frames: list[object]) -> None:
        """Write frames whole and with none between them; `WireError` if one is too large."""
        if os.getpid() != self._owner:
            return
        self._pending.append(b"".join(map(encode, frames)))
        with self._lock:
            if self._writing:
                return  # a signal handler of the task interrupted the loop below, which sends this next
            self._writing = True
            while self._pending:
                self._write(self._pending.pop(0))
            self._writing = False

    def receive(self) -> list[object] | None:
        """The next frame; None when the daemon has closed its end."""
        while not self._received:
            data = os.read(self._descriptor, READ_SIZE)
            if not data:
                return None
            self._received += self._reader.feed(data)
        return self._received.pop(0)

    def close(self) -> None:
        """Close the descriptor, in a process that must not have it."""
        try:
            os.close(self._descriptor)
        except OSError:
            return  # the task closed it before us

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os._exit(1)
