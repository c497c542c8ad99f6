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
        self._waiting: list[tuple[LogLine, int]] = []
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
        self._begin_second()
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
        self._begin_second()
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
            text = f"[{self._dropped} lines were dropped]"
            marker = LogLine(self._wall_clock(), "WARNING", "log", text)
            self._append(marker, _size(marker))
            self._dropped = 0
        while self._waiting:
            group, size = _first_group(self._waiting)
            if not self._send(group):
                return
            del self._waiting[: len(group)]
            self._waiting_size -= size

    def _add_raw(self, whole: Sequence[bytes]) -> None:
        self._begin_second()
        now = self._wall_clock()
        for number, line in enumerate(whole):
            if self._in_second > RATE_LIMIT:
                # Thousands of lines may come at once: those that are dropped must not cost what others do.
                self._dropped += len(whole) - number
                return
            self._add(LogLine(now, "INFO", "stdout", line[:LINE_LIMIT].decode("utf-8", "replace")))

    def _begin_second(self) -> None:
        """What was kept in another second counts no more."""
        second = float(int(self._clock.seconds()))
        if second != self._second:
            self._second, self._in_second = second, 0

    def _add(self, line: LogLine) -> None:
        if self._left <= 0:
            return
        size = _size(line)
        self._in_second += size
        if self._in_second > RATE_LIMIT or self._waiting_size + size > HOLD_LIMIT:
            self._dropped += 1
            return
        self._left -= size
        if self._left <= 0:
            line = LogLine(line.time, "WARNING", "log", "[The log is full; nothing more of it is kept.]")
            size = _size(line)
        self._append(line, size)
        if self._flush is None:
            self._flush = self._clock.callLater(FLUSH_S, self.flush)

    def _append(self, line: LogLine, size: int) -> None:
        self._waiting.append((line, size))
        self._waiting_size += size


def _size(line: LogLine) -> int:
    """About the bytes that a line takes on the way: its text in UTF-8 (four bytes a character at most)."""
    return (len(line.text) if line.text.isascii() else 4 * len(line.text)) + 32


def _first_group(waiting: Sequence[tuple[LogLine, int]]) -> tuple[tuple[LogLine, ...], int]:
    """The first lines, as many as travel together and at least one, and their size."""
    group: list[LogLine] = []
    total = 0
    for line, size in waiting:
        if group and total + size > GROUP_LIMIT:
            break
        group.append(line)
        total += size
    return tuple(group), total
