# SPDX-License-Identifier: MIT
"""What one attempt writes: lines with times, within limits, handed on in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.cluster.wire.log_records import GROUP_LIMIT, LAST_TIME
from pydra.model.instance import LogLine

FLUSH_S = 0.05
"""Seconds that a line may wait for others to travel with."""

LINE_LIMIT = 16 * 1024
"""Characters of one line; the rest is cut."""

RATE_LIMIT = 1024 * 1024
"""Bytes a second that are kept; lines above it are counted and dropped."""

LEAST_SIZE = 32
"""Bytes that a line has besides its text."""

LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
STREAMS = frozenset({"stdout", "stderr", "log"})


class TaskLog:
    """
    Collects the lines of one attempt and hands them to ``keep`` in groups.

    ``keep`` answers False if it has no room: the group is dropped then, and counted. A task that writes
    nothing costs nothing here. Nothing can raise on what a worker wrote. ``ended`` is called by ``finish``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        keep: Callable[[Sequence[LogLine]], bool],
        ended: Callable[[], None],
        limit: int,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._keep = keep
        self._ended = ended
        self._left = limit
        self._waiting: list[tuple[LogLine, int]] = []
        """Lines, each with its size."""
        self._flush: IDelayedCall | None = None
        self._second = 0
        self._in_second = 0
        self._dropped = 0
        self._raw = b""
        self.kept = 0
        """Lines that were handed on."""

    def lines(self, rows: object) -> None:
        """
        Lines of a LOG frame, ``[[time, level, stream, text], ...]``; rows of another shape are dropped, and a
        time that is none becomes ours.
        """
        if not isinstance(rows, list):
            return
        self._begin_second()
        for number, row in enumerate(rows):
            if self._in_second > RATE_LIMIT:
                # Thousands of lines may come at once: those that are dropped must not cost what others do.
                self._dropped += len(rows) - number
                return
            match row:
                case [float() as at, str() as level, str() as stream, str() as text] if (
                    level in LEVELS and stream in STREAMS
                ):
                    at = at if 0 <= at <= LAST_TIME else self._wall_clock()
                    self._add(LogLine(at, level, stream, text[:LINE_LIMIT]))
                case _:
                    self._dropped += 1
                    self._in_second += LEAST_SIZE  # it cost as much as a short line to look at

    def output(self, data: bytes) -> None:
        """Bytes that processes of the worker wrote to descriptors 1 and 2, in lines by their newlines."""
        *whole, self._raw = (self._raw + data).split(b"\n")
        if len(self._raw) > LINE_LIMIT:
            whole.append(self._raw)
            self._raw = b""
        self._add_raw(whole)

    def note(self, text: str, level: str = "ERROR") -> None:
        """A line of ours."""
        self._begin_second()
        self._add(LogLine(self._wall_clock(), level, "log", text))

    def finish(self) -> None:
        """Hand on what is there, an unfinished line too: nothing more comes."""
        if self._raw:
            self._add_raw([self._raw])
            self._raw = b""
        self.flush()
        self._ended()

    def flush(self) -> None:
        """Hand on what waits, now."""
        if self._flush is not None and self._flush.active():
            self._flush.cancel()
        self._flush = None
        waiting, self._waiting = self._waiting, []
        told = 0
        if self._dropped and self._left > 0:
            told, self._dropped = self._dropped, 0
            marker = LogLine(self._wall_clock(), "WARNING", "log", f"[{told} lines were dropped]")
            waiting.append((marker, _size(marker)))
        start = 0
        while start < len(waiting):
            group = _group(waiting, start)
            start += len(group)
            if self._keep(group):
                self.kept += len(group)
            else:
                # The line that tells of others is none of the task's; what it told is to be told again.
                is_last = bool(told) and start == len(waiting)
                self._dropped += len(group) + (told - 1 if is_last else 0)

    def _add_raw(self, whole: Sequence[bytes]) -> None:
        if not whole:
            return
        now = self._wall_clock()
        self._begin_second()
        for number, line in enumerate(whole):
            if self._in_second > RATE_LIMIT:
                self._dropped += len(whole) - number
                return
            self._add(LogLine(now, "INFO", "stdout", line[:LINE_LIMIT].decode("utf-8", "replace")))

    def _begin_second(self) -> None:
        """What was kept in another second counts no more."""
        second = int(self._clock.seconds())
        if second != self._second:
            self._second, self._in_second = second, 0

    def _add(self, line: LogLine) -> None:
        size = _size(line)
        self._in_second += size
        if self._left <= 0:
            return
        if self._in_second > RATE_LIMIT:
            self._dropped += 1
            return
        self._left -= size
        if self._left <= 0:
            line = LogLine(line.time, "WARNING", "log", "[The log is full; nothing more of it is kept.]")
            size = _size(line)
        self._waiting.append((line, size))
        if self._flush is None:
            self._flush = self._clock.callLater(FLUSH_S, self.flush)


def _size(line: LogLine) -> int:
    """About the bytes that a line takes on the way: its text in UTF-8 (four bytes a character at most)."""
    text = line.text
    return (len(text) if text.isascii() else 4 * len(text)) + LEAST_SIZE


def _group(waiting: Sequence[tuple[LogLine, int]], start: int) -> list[LogLine]:
    """The lines from ``start`` on that travel together; at least one."""
    group: list[LogLine] = []
    total = 0
    for position in range(start, len(waiting)):
        line, size = waiting[position]
        total += size
        if total > GROUP_LIMIT and group:
            break
        group.append(line)
    return group
