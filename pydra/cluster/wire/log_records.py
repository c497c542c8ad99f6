# SPDX-License-Identifier: MIT
"""
Records of log lines: the form in which lines are sent, kept by nodes and archived by the master.

The lines of an attempt are numbered from 0, so a record that comes twice, or in part twice, is known as such.
In a file each record has its length (four bytes, big-endian) before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pydra.errors import WireError
from pydra.model.ids import Attempt, Number
from pydra.model.instance import LogLine

GROUP_LIMIT = 128 * 1024
"""Bytes of lines, about, that a node puts into one record."""

LAST_TIME = 253_402_300_799.0
"""The last second of the year 9999: later ones are no dates."""


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """
    Lines ``first`` to ``first + count`` of an attempt, all of one work unit.

    ``subtask`` and ``unit`` name the work unit; they are None for the root. ``lines`` is the MessagePack of
    the `LogLine` values, which only those who show or check them look into.
    """

    attempt: Attempt
    first: Number
    count: Number
    lines: bytes
    subtask: str | None = None
    unit: int | None = None

    @property
    def end(self) -> int:
        """The number of the line after the last one."""
        return self.first + self.count


_encoder = msgspec.msgpack.Encoder()
_lines_decoder = msgspec.msgpack.Decoder(list[LogLine])
_record_decoder = msgspec.msgpack.Decoder(LogRecord)


def pack_lines(lines: Sequence[LogLine]) -> bytes:
    """The MessagePack of lines."""
    return _encoder.encode(lines)


def unpack_lines(data: bytes) -> list[LogLine]:
    """The lines again; `WireError` if these bytes are none."""
    try:
        return _lines_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise WireError(f"These are no log lines: {fault}") from None


def framed(record: LogRecord) -> bytes:
    """A record as it stands in a file."""
    encoded = _encoder.encode(record)
    return len(encoded).to_bytes(4, "big") + encoded


def records_in(data: bytes) -> list[tuple[LogRecord, int]]:
    """
    The whole records at the begin of a piece of a file, each with the position after it.

    It ends before what is not whole, or is none: then nothing after it can be told apart.
    """
    found: list[tuple[LogRecord, int]] = []
    at = 0
    view = memoryview(data)
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(view[at : at + 4], "big")
        if end > len(data):
            break
        try:
            record = _record_decoder.decode(view[at + 4 : end])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            break
        found.append((record, end))
        at = end
    return found
