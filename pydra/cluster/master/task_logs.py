# SPDX-License-Identifier: MIT
"""
What tasks wrote, kept on the master: one file an instance, one MessagePack record a line of it.

Positions are byte offsets into that file. All file work is done by one thread, in order.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.model.ids import InstanceId
from pydra.model.instance import LogLine

READ_LIMIT = 512 * 1024
"""Bytes of the file that one reading covers: more than the largest line, which came in one batch."""

LAST_TIME = 253_402_300_799.0
"""The last second of the year 9999: later ones are no dates."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LogLine)


class TaskLogs:
    """
    Appends and reads the lines of instances.

    ``limit`` is what one attempt may write, in bytes. The file of an instance takes twice as much, for
    several attempts and for what each line needs beside its text; then nothing is added to it.
    """

    log = Logger()

    def __init__(
        self, root: Path, in_thread: InThread, told: Callable[[InstanceId], None], limit: int
    ) -> None:
        self._root = root
        self._in_thread = in_thread
        self._told = told
        self._limit = limit

    def append(self, instance: InstanceId, lines: Sequence[LogLine]) -> None:
        """Add lines; what cannot be written is logged and lost."""
        data = b"".join(len(row).to_bytes(4, "big") + row for row in map(_encoder.encode, lines))
        written = Deferred.fromCoroutine(_returned(self._in_thread(self._append, instance, data)))
        written.addCallbacks(
            lambda _: self._told(instance),
            lambda fault: self.log.failure(
                "The lines of instance={instance} are lost", fault, instance=instance
            ),
        )

    async def read(self, instance: InstanceId, after: int) -> tuple[list[LogLine], int]:
        """Lines from a position on (0 is the begin), and the position after them."""
        lines: tuple[list[LogLine], int] = await self._in_thread(self._read, instance, after)
        return lines

    def _path(self, instance: InstanceId) -> Path:
        return self._root / str(instance // 1000) / f"{instance}.log"

    def _append(self, instance: InstanceId, data: bytes) -> None:
        path = self._path(instance)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            if before + len(data) > self._limit * 2:
                return
            written = 0
            try:
                while written < len(data):
                    written += file.write(data[written:])
            except OSError:
                # Half a line would hide all that is written after it.
                file.truncate(before)
                raise

    def _read(self, instance: InstanceId, after: int) -> tuple[list[LogLine], int]:
        try:
            with self._path(instance).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if not 0 <= after <= size:
                    return [], size
                file.seek(after)
                data = file.read(READ_LIMIT)
        except FileNotFoundError:
            return [], 0
        lines: list[LogLine] = []
        at = 0
        while at + 4 <= len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                break
            line = _decoded(data[at + 4 : end])
            if line is None:
                # Not a position that was given out: there is nothing to read from here.
                return lines, after + len(data)
            lines.append(line)
            at = end
        return lines, after + at


def _decoded(row: bytes) -> LogLine | None:
    """A line that was written; None if these bytes are none."""
    try:
        line = _decoder.decode(row)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return line if 0 <= line.time <= LAST_TIME else None


def as_text(lines: Sequence[LogLine]) -> str:
    """Lines as people read them: UTC time to the microsecond, level, stream, text."""
    return "".join(
        f"{datetime.datetime.fromtimestamp(line.time, datetime.UTC):%Y-%m-%d %H:%M:%S.%f} "
        f"{line.level:<8} {line.stream}: {line.text}\n"
        for line in lines
    )


async def _returned(awaitable: Awaitable[Any]) -> None:
    await awaitable
