# SPDX-License-Identifier: MIT
"""
The lines of one attempt that the master may not have yet: in a file, and what is just being written.

The file is named by all that is needed to deliver it after a restart: attempt, instance and seal. Positions
are bytes from its begin; records follow each other without a gap, whether they are written yet or not.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import attrs

from pydra.cluster.wire.log_records import LogRecord
from pydra.model.ids import Attempt, InstanceId

_NAME = re.compile(r"(\d{1,18})\.(\d{1,18})-(\d{1,18})-((?:[0-9a-f]{2}){0,32})\.log")


@attrs.define(eq=False)
class HeldLog:
    """What is known of the lines of one attempt."""

    attempt: Attempt
    instance: InstanceId
    seal: bytes
    path: Path
    lines: int = 0
    """The number of the next line."""
    end: int = 0
    """Position after the last record."""
    written: int = 0
    """Position up to which the file holds them."""
    unwritten: dict[int, tuple[LogRecord, bytes]] = attrs.Factory(dict)
    """Records that are not in the file yet, by position."""
    ahead: deque[tuple[LogRecord, int]] = attrs.Factory(deque)
    """Records that were read from the file to be sent next, each with the position after it."""
    sent_at: int = 0
    acknowledged_at: int = 0
    in_flight: deque[tuple[int, int]] = attrs.Factory(deque)
    """Line number and position after each record that was sent and not acknowledged."""
    has_ended: bool = False
    has_file: bool = False
    is_refused: bool = False
    is_writing: bool = False
    is_reading: bool = False

    @property
    def is_delivered(self) -> bool:
        """The master has all of it, and nothing more comes."""
        return self.has_ended and (self.is_refused or self.acknowledged_at >= self.end)

    def add(self, record: LogRecord, data: bytes) -> None:
        """A record comes after the last one."""
        self.unwritten[self.end] = (record, data)
        self.end += len(data)
        self.lines = record.end

    def take_next(self) -> tuple[LogRecord, int] | None:
        """The next record to send and the position after it, if it is in memory."""
        held = self.unwritten.get(self.sent_at)
        if held is not None:
            record, data = held
            return record, self.sent_at + len(data)
        return self.ahead.popleft() if self.ahead else None

    def wrote(self, size: int) -> None:
        """The first so many unwritten bytes are in the file now."""
        self.written += size
        for position in list(self.unwritten):
            if position >= self.written:
                break
            del self.unwritten[position]

    def acknowledged(self, lines: int) -> int:
        """The master has all lines before this number; the bytes that are not in flight any more."""
        before = self.acknowledged_at
        while self.in_flight and self.in_flight[0][0] <= lines:
            self.acknowledged_at = self.in_flight.popleft()[1]
        return self.acknowledged_at - before

    def send_again(self) -> None:
        """What was sent and not acknowledged is to be sent again."""
        self.sent_at = self.acknowledged_at
        self.in_flight.clear()
        self.ahead.clear()


def path_of(directory: Path, attempt: Attempt, instance: InstanceId, seal: bytes) -> Path:
    """The file of an attempt."""
    return directory / f"{attempt}-{instance}-{seal.hex()}.log"


def found_in(directory: Path) -> Iterator[HeldLog]:
    """
    What a daemon before this one left, oldest attempt first; files with other names are removed. Blocking.

    Their workers died with that daemon, so nothing more comes.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = []
    for path in directory.iterdir():
        match = _NAME.fullmatch(path.name)
        size = path.lstat().st_size
        if match is None or not size:
            path.unlink()
            continue
        epoch, number, instance, seal = match.groups()
        log = HeldLog(Attempt(int(epoch), int(number)), InstanceId(int(instance)), bytes.fromhex(seal), path)
        log.end = log.written = size
        log.has_ended = log.has_file = True
        found.append(log)
    yield from sorted(found, key=lambda log: log.attempt)


def write_at(path: Path, position: int, data: bytes) -> None:
    """Write at a position, so that what a full disk took in part is written over. Blocking; `OSError`."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(file, view, position)
            position += written
            view = view[written:]
    finally:
        os.close(file)


def read_at(path: Path, position: int, size: int) -> bytes:
    """Up to so many bytes from a position on. Blocking; `OSError`."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(file, size, position)
    finally:
        os.close(file)
