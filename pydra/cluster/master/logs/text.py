# SPDX-License-Identifier: MIT
"""A task log as one text, made page by page of it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable

from pydra.cluster.master.logs.archive import Page
from pydra.model.instance import LogLine

TEXT_LIMIT = 4 * 1024 * 1024
"""Characters of a text, about."""

CUT = "[There are earlier lines; pydra logs and task_lines have them.]\n"

_AROUND = 50
"""Characters that a line has beside its own text, about."""


class LatestLines:
    """The latest lines of a log by time, as many as a text may have; those of one time keep their order."""

    def __init__(self) -> None:
        self._rows: list[tuple[LogLine, str]] = []
        self._size = 0
        self._is_cut = False

    def add(self, page: Page) -> None:
        """Take the next page."""
        rows = list(zip(page.lines, page.units, strict=True))
        self._rows += rows
        self._rows.sort(key=lambda row: row[0].time)
        self._size += sum(map(_size, rows))
        cut = 0
        while self._size > TEXT_LIMIT:
            self._size -= _size(self._rows[cut])
            cut += 1
        if cut:
            self._is_cut = True
            del self._rows[:cut]

    def text(self) -> str:
        """The lines as people read them; the first one says if earlier ones are left out."""
        return (CUT if self._is_cut else "") + as_text(self._rows)


def as_text(rows: Iterable[tuple[LogLine, str]]) -> str:
    """Lines as people read them: UTC time to the microsecond, level, work unit (if any), stream, text."""
    lines: list[str] = []
    shown, day = -1.0, ""
    for line, unit in rows:
        part, second = math.modf(line.time)
        if (microseconds := round(part * 1e6)) == 1_000_000:
            microseconds, second = 0, second + 1
        if second != shown:
            shown = second
            day = f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%d %H:%M:%S}"
        who = f"{unit} {line.stream}" if unit else line.stream
        lines.append(f"{day}.{microseconds:06} {line.level:<8} {who}: {line.text}\n")
    return "".join(lines)


def _size(row: tuple[LogLine, str]) -> int:
    return len(row[0].text) + len(row[1]) + _AROUND
