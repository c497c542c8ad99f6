# SPDX-License-Identifier: MIT
"""What came of the units of a batch, on its way to the daemon: many in a frame, but none for long."""

from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from pydra.cluster.wire.frames import DONE, PART, PART_SIZE, in_parts

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from pydra.cluster.tasks.failure import RunFailure
    from pydra.cluster.worker.channel import Channel
    from pydra.cluster.worker.output import Log

FRAME_SIZE = 256 * 1024
"""Bytes of results that are not held back for more."""

FAILURE_SIZE = 64
"""Bytes that a failure has besides its texts, at most."""


class Results:
    """
    Results in the order of the batch.

    The last of a batch is sent at once, with all that wait; before that, ``flush`` does it, which another
    thread calls.
    """

    def __init__(self, channel: Channel, log: Log) -> None:
        self._channel = channel
        self._log = log
        self._batch = ""
        self._start = 0
        self._left = 0
        self._size = 0
        self._since = 0.0
        self._waiting: list[bytes] = []
        self._failures: dict[int, list[str]] = {}
        self._lock = allocate_lock()

    def begin(self, batch: str, count: int) -> None:
        """A batch of so many units begins; the one before it is complete."""
        self._batch = batch
        self._start = 0
        self._left = count
        self._since = monotonic()

    def add(self, result: bytes, failure: RunFailure | None = None) -> None:
        """The packed result of the next unit; one that failed has an empty one."""
        size = len(result)
        with self._lock:
            if size > PART_SIZE:
                self._flush()
            waiting = self._waiting
            if failure is not None:
                told = self._failures[len(waiting)] = [failure.code, failure.message, failure.traceback]
                size = FAILURE_SIZE + sum(len(text.encode()) for text in told)
            waiting.append(result)
            self._size += size
            self._left -= 1
            if not self._left or self._size > FRAME_SIZE:
                self._flush()
            elif len(waiting) == 1:
                self._log.call()

    def flush(self) -> None:
        """Send what waits, after the lines that its units wrote."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if not (results := self._waiting):
            return
        failures, count = self._failures, len(results)
        self._waiting, self._failures, self._size = [], {}, 0
        parts: list[list[object]] = []
        if count == 1:
            parts, results[0] = in_parts(PART, results[0])
        now = monotonic()
        busy_s, self._since = now - self._since, now
        self._log.flush()
        self._channel.send(*parts, [DONE, self._batch, self._start, results, failures, busy_s])
        self._start += count
