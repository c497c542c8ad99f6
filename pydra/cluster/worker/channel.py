# SPDX-License-Identifier: MIT
"""The worker's end of the socketpair: whole frames, one writer at a time."""

from __future__ import annotations

import os
from _thread import RLock
from errno import EAGAIN, EBADF, ECONNRESET, EPIPE

from pydra.cluster.wire.frames import FrameReader, encode

READ_SIZE = 256 * 1024

_LOST = (EPIPE, ECONNRESET, EBADF, EAGAIN)
"""What a write says that reaches nobody any more, or of a descriptor that the task closed or changed."""


class Channel:
    """
    Frames to and from the daemon.

    A worker that lost its channel has nobody to work for: it ends at once. A process that the task forked
    is not the worker: what it sends goes nowhere.

    The task may have signal handlers that raise, such as a time limit of its own; they run wherever the main
    thread is. If that is in ``send``, it raises, and whatever is sent next goes on where it was.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, True)
        self._descriptor = descriptor
        self._owner = os.getpid()
        self._reader = FrameReader()
        self._received: list[list[object]] = []
        self._pending: list[tuple[bytes, list[int]]] = []
        """Frames, each with the bytes that each write of it wrote."""
        self._writing = False
        self._lock = RLock()

    def send(self, *frames: list[object]) -> None:
        """Write frames whole and with none between them; `WireError` if one is too large."""
        if os.getpid() != self._owner:
            return
        self._pending.append((b"".join(map(encode, frames)), []))
        with self._lock:
            if self._writing:
                return  # a signal handler of the task interrupted the loop below, which sends this next
            self._writing = True
            try:
                while self._pending:
                    self._write(*self._pending[0])
            finally:
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

    def _write(self, data: bytes, written: list[int]) -> None:
        """Go on with the first of the frames that wait, as often as it takes."""
        start = sum(written)
        if start == len(data):
            del self._pending[0]
            return
        rest = memoryview(data)[start:]
        try:
            # Written and noted by one call into C: a signal handler runs before or after it, never between.
            written.extend(map(os.write, (self._descriptor,), (rest,)))
        except OSError as fault:
            if fault.errno in _LOST:
                os._exit(1)
            raise
