# SPDX-License-Identifier: MIT
"""
The files of task logs on the master: one an instance, a record (``wire.log_records``) after another.

Positions are byte offsets at the begin of a record. What is there already is not added again, so a node may
send its lines as often as it must. All functions block and belong to one thread, but for ``sizes_and_ages``.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from pydra.cluster.wire.log_records import (
    LAST_TIME,
    LogRecord,
    framed,
    pack_lines,
    records_in,
    unpack_lines,
)
from pydra.errors import WireError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine
from pydra.model.unit import BRANCH_LIMIT

READ_LIMIT = 512 * 1024
"""Bytes of the file that one reading covers; more than the largest record that a message can bring."""

REMEMBERED = 10_000
"""Attempts whose number of lines is known without looking into the file."""

NAME_LIMIT = BRANCH_LIMIT
"""Characters of the name of a subtask."""

A_DIRECTORY = 1000
"""Instances whose files share a directory, and a bit map of those that were removed."""

FULL = "[The log is full; nothing more of it is kept.]"


class Page(NamedTuple):
    """What one reading found, and the position after it; ``units`` names the work unit of each line."""

    lines: list[LogLine]
    units: list[str]
    next: int
    has_more: bool
    """There are further records now."""
    was_removed: bool
    """Lines of this instance were removed, because they were too old or too many."""


class Choice(NamedTuple):
    """Which work units are meant: of that subtask, of that index; None means any."""

    subtask: str | None = None
    unit: int | None = None

    def takes(self, record: LogRecord) -> bool:
        """True if the record is of a work unit that is meant."""
        return self.subtask in (None, record.subtask) and self.unit in (None, record.unit)


ALL = Choice()


class LogArchive:
    """``limit`` is in bytes an instance, above which nothing is added but a line that says so."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._known: OrderedDict[tuple[InstanceId, Attempt], int] = OrderedDict()

    def append(self, batch: Sequence[tuple[InstanceId, LogRecord]]) -> list[int | Exception]:
        """
        Add records; for each the number of lines that are held of its attempt now, or what went wrong:
        `OSError`, and `WireError` for what is no record.
        """
        answers: list[int | Exception] = []
        for instance, record in batch:
            try:
                answers.append(self._append(instance, record))
            except (OSError, WireError) as fault:
                answers.append(fault)
        return answers

    def read(self, instance: InstanceId, after: int, choice: Choice = ALL) -> Page:
        """
        Lines from a position on (0 is the begin), by time within the page.

        From a position that was never given out there may be nothing.
        """
        was_removed = self.was_removed(instance)
        try:
            with self._path(instance).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if not 0 <= after <= size:
                    return Page([], [], size, False, was_removed)
                file.seek(after)
                data = file.read(READ_LIMIT)
        except FileNotFoundError:
            return Page([], [], 0, False, was_removed)
        records = records_in(data)
        end = records[-1][1] if records else 0
        if not records and len(data) >= READ_LIMIT:
            end = len(data)  # nothing that we wrote: nobody is to wait here for ever
        rows = _merged(record for record, _ in records if choice.takes(record))
        lines, units = [line for line, _ in rows], [unit for _, unit in rows]
        return Page(lines, units, after + end, bool(records) and after + end < size, was_removed)

    def was_removed(self, instance: InstanceId) -> bool:
        """True if lines of this instance were removed."""
        try:
            with self._map(instance).open("rb") as file:
                file.seek(instance % A_DIRECTORY // 8)
                return bool((file.read(1) or b"\0")[0] >> instance % 8 & 1)
        except FileNotFoundError:
            return False

    def remove(self, instance: InstanceId, not_after: float) -> bool:
        """Remove a log that nobody wrote to after that instant (UTC seconds), and remember that it was."""
        path = self._path(instance)
        try:
            if path.stat().st_mtime > not_after:
                return False
        except FileNotFoundError:
            return False
        place = instance % A_DIRECTORY // 8
        file = os.open(self._map(instance), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            bits = (os.pread(file, 1, place) or b"\0")[0] | 1 << instance % 8
            os.pwrite(file, bytes([bits]), place)
        finally:
            os.close(file)
        path.unlink()
        for key in [key for key in self._known if key[0] == instance]:
            del self._known[key]
        return True

    def sizes_and_ages(self) -> list[tuple[float, int, InstanceId]]:
        """When each log was last written to (UTC seconds), and the bytes that it takes; for any thread."""
        found = []
        for path in self._root.glob("*/*.log"):
            if path.stem.isdecimal() and len(path.stem) < 19:
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                size = max(status.st_size, status.st_blocks * 512)
                found.append((status.st_mtime, size, InstanceId(int(path.stem))))
        return found

    def _path(self, instance: InstanceId) -> Path:
        return self._root / str(instance // A_DIRECTORY) / f"{instance}.log"

    def _map(self, instance: InstanceId) -> Path:
        return self._root / str(instance // A_DIRECTORY) / "removed"

    def _append(self, instance: InstanceId, record: LogRecord) -> int:
        lines = unpack_lines(record.lines)
        if len(lines) != record.count or record.first < 0 or len(record.subtask or "") > NAME_LIMIT:
            raise WireError("A record of log lines has other lines than it says.")
        held = self._held(instance, record.attempt)
        if record.end <= held:
            return held
        fresh = _dated(lines[max(0, held - record.first) :])
        if len(fresh) < record.count:
            first = max(held, record.first)
            record = LogRecord(
                record.attempt, first, record.end - first, pack_lines(fresh), record.subtask, record.unit
            )
        path = self._path(instance)
        with _opened(path) as file:
            size = file.tell()
            data = framed(record)
            if size < self._limit <= size + len(data):
                last = LogLine(fresh[-1].time if fresh else 0.0, "WARNING", "log", FULL)
                data += framed(LogRecord(record.attempt, record.end, 0, pack_lines([last])))
            if size < self._limit:
                _write_whole(file, data)
        self._remember(instance, record.attempt, record.end)
        return record.end

    def _held(self, instance: InstanceId, attempt: Attempt) -> int:
        """The number of lines that are held of an attempt."""
        held = self._known.get((instance, attempt))
        if held is not None:
            return held
        try:
            data = self._path(instance).read_bytes()
        except FileNotFoundError:
            data = b""
        records = records_in(data)
        ends = {attempt: 0}
        for record, _ in records:
            ends[record.attempt] = max(record.end, ends.pop(record.attempt, 0))
        for each, lines in ends.items():
            self._remember(instance, each, lines)
        end = records[-1][1] if records else 0
        if end < len(data):
            # Half a record, of a daemon that was killed, would hide all that is written after it.
            os.truncate(self._path(instance), end)
        return ends[attempt]

    def _remember(self, instance: InstanceId, attempt: Attempt, lines: int) -> None:
        key = (instance, attempt)
        self._known[key] = max(lines, self._known.pop(key, 0))
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _merged(records: Iterator[LogRecord]) -> list[tuple[LogLine, str]]:
    """The lines by time, each with the name of its work unit; lines of one time stay in their order."""
    rows: list[tuple[LogLine, str]] = []
    for record in records:
        try:
            lines = _dated(unpack_lines(record.lines))
        except WireError:
            continue
        unit = "" if record.subtask is None else f"{record.subtask}:{record.unit}"
        rows += [(line, unit) for line in lines]
    rows.sort(key=lambda row: row[0].time)
    return rows


def _dated(lines: list[LogLine]) -> list[LogLine]:
    """The lines whose time is one: others could not be shown."""
    if all(0 <= line.time <= LAST_TIME for line in lines):
        return lines
    return [line for line in lines if 0 <= line.time <= LAST_TIME]


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("ab", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.open("ab", buffering=0)


def _write_whole(file: IO[bytes], data: bytes) -> None:
    """Write all or nothing: half a record would hide all that is written after it. `OSError`."""
    before = file.tell()
    written = 0
    try:
        while written < len(data):
            written += file.write(data[written:])
    except OSError:
        file.truncate(before)
        raise
