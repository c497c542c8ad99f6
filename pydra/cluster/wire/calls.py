# SPDX-License-Identifier: MIT
"""
The two messages of Perspective Broker that go to and fro all the time, a call of ``batch`` and its answer,
as the bytes that they are.

PB makes and reads them item by item, which costs more than what is in them. What is not exactly one of the
two is left to it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_CALL, _REQUEST = b"\x07\x80\x1a\x87", b"\x81\x04\x82root\x05\x82batch\x01\x81\x02\x80\x0b\x87"
_CALL_END = b"\x01\x80\x05\x87"
"""A list of 7: "message", the request, "root", "batch", 1, a list of "tuple" and a string, "dictionary"."""

_ANSWER = b"\x03\x80\x1b\x87"
"""A list of 3: "answer", the request, a string."""

_NUMBER, _SIZE = rb"([\x00-\x7f]{1,10})", rb"([\x00-\x7f]{1,3})\x82"
_BEGIN = re.compile(
    rb"(?:%s%s%s%s)|(?:%s%s\x81%s)" % (_CALL, _NUMBER, _REQUEST, _SIZE, _ANSWER, _NUMBER, _SIZE)
)


class Said(NamedTuple):
    """A whole message that the peer sent; ``end`` is the position after it."""

    is_call: bool
    request: int
    payload: bytes
    end: int


def call(request: int, batch: bytes) -> bytes:
    """A call of ``batch`` of the object ``root``, to be answered."""
    return b"".join((_CALL, _digits(request), _REQUEST, _digits(len(batch)), b"\x82", batch, _CALL_END))


def answer(request: int, payload: bytes) -> bytes:
    """The answer to a call."""
    return b"".join((_ANSWER, _digits(request), b"\x81", _digits(len(payload)), b"\x82", payload))


def whole_message(data: bytes, at: int) -> Said | None:
    """The message that begins at a position, if it is one of the two and all of it is there."""
    begin = _BEGIN.match(data, at)
    if begin is None:
        return None
    called, size_of_call, answered, size_of_answer = begin.groups()
    start = begin.end()
    if called is None:
        end = start + _value(size_of_answer)
        return Said(False, _value(answered), data[start:end], end) if end <= len(data) else None
    end = start + _value(size_of_call)
    if data[end : end + len(_CALL_END)] != _CALL_END:
        return None
    return Said(True, _value(called), data[start:end], end + len(_CALL_END))


def _digits(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _value(digits: bytes) -> int:
    value = 0
    for digit in reversed(digits):
        value = value << 7 | digit
    return value
