# SPDX-License-Identifier: MIT
"""What one attempt writes: lines with times, within limits, sent in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.model.instance import LogLine

FLUSH_S = 0.05
"""Seconds that a line may wait for others to travel with."""

LINE_LIMIT = 16 * 1024
"""Characters of one line; the rest is cut."""

RATE_LIMIT = 1024 * 1024
"""Bytes a second that are kept; lines above it are counted and dropped."""

HOLD_LIMIT = 1024 * 1024
"""Bytes that wait while there is no link to the master."""

GROUP_LIMIT = 128 * 1024
"""Bytes of lines that travel in one message."""

LAST_TIME = 253_402_300_799.0
"""The last second of the year 9999: later ones are no dates."""

LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
STREAMS = frozenset({"stdout", "stderr", "log"})


class TaskLog:
    """
    Collects the lines of one attempt and hands them to ``send`` in groups.

    ``send`` answers False while there is nobody to send to. Nothing here can raise on what a worker wrote.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        send: Callable[[tuple[LogLine, ...]], bool],
        limit: int,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._send = send
        self._left = limit
        self._waiting: list[LogLine] = []
        self._waiting_size = 0
        self._flush: IDelayedCall | None = None
        self._second = 0.0
        self._in_second = 0
        self._dropped = 0
        self._raw = b""

    def lines(self, rows: object) -> None:
        """
        Lines of a LOG frame, ``[[time, level, stream, text], ...]``; rows of another shape are dropped, and a
        time that is none becomes ours.
        """
        for row in rows if isinstance(rows, list) else ():
            match row:
                case [float() as at, str() as level, str() as stream, str() as text] if (
                    level in LEVELS and stream in STREAMS
                ):
                    at = at if 0 <= at <= LAST_TIME else self._wall_clock()
                    self._add(LogLine(at, level, stream, text[:LINE_LIMIT]))
                case _:
                    self._dropped += 1

    def output(self, data: bytes) -> None:
        """Bytes that processes of the worker wrote to descriptors 1 and 2, in lines by their newlines."""
        *whole, self._raw = (self._raw + data).split(b"\n")
        if len(self._raw) > LINE_LIMIT:
            whole.append(self._raw)
            self._raw = b""
        self._add_raw(whole)

    def note(self, text: str) -> None:
        """A line of ours, at level ERROR."""
        self._add(LogLine(self._wall_clock(), "ERROR", "log", text))

    def finish(self) -> None:
        """Send what is there, an unfinished line too."""
        if self._raw:
            self._add_raw([self._raw])
            self._raw = b""
        self.flush()

    def flush(self) -> None:
        """Send what waits now, if there is somebody to send it to."""
        if self._flush is not None and self._flush.active():
            self._flush.cancel()
        self._flush = None
        if self._dropped and self._left > 0:
            self._append(
                LogLine(self._wall_clock(), "WARNING", "log", f"[{self._dropped} lines were dropped]")
            )
            self._dropped = 0
        while self._waiting:
            count = _group_length(self._waiting)
            if not self._send(tuple(self._waiting[:count])):
                return
            del self._waiting[:count]
            self._waiting_size = sum(map(_size, self._waiting))

    def _add_raw(self, whole: Sequence[bytes]) -> None:
        now = self._wall_clock()
        for line in whole:
            self._add(LogLine(now, "INFO", "stdout", line[:LINE_LIMIT].decode("utf-8", "replace")))

    def _add(self, line: LogLine) -> None:
        if self._left <= 0:
            return
        size = _size(line)
        second = float(int(self._clock.seconds()))
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += size
        if self._in_second > RATE_LIMIT or self._waiting_size + size > HOLD_LIMIT:
            self._dropped += 1
            return
        self._left -= size
        if self._left <= 0:
            line = LogLine(line.time, "WARNING", "log", "[The log is full; nothing more of it is kept.]")
        self._append(line)
        if self._flush is None:
            self._flush = self._clock.callLater(FLUSH_S, self.flush)

    def _append(self, line: LogLine) -> None:
        self._waiting.append(line)
        self._waiting_size += _size(line)


def _size(line: LogLine) -> int:
    """About the bytes that a line takes on the way: its text in UTF-8 (four bytes a character at most)."""
    return (len(line.text) if line.text.isascii() else 4 * len(line.text)) + 32


def _group_length(lines: Sequence[LogLine]) -> int:
    """How many of the first lines travel together; at least one."""
    size = 0
    for count, line in enumerate(lines):
        size += _size(line)
        if size > GROUP_LIMIT and count:
            return count
    return len(lines)
