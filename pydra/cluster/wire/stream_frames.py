# SPDX-License-Identifier: MIT
"""
Frames of a bulk connection: four bytes of length, big-endian, one of the kind, four of the stream, and a
body.

The side that opens a stream sends ``OPEN``, ``DATA``, then ``END``, or ``ABORT`` at any time. The other side
answers with ``CREDIT`` (bytes that were taken), then ``DONE``, or ``REFUSE`` at any time, which the opener
confirms with ``ABORT`` unless it said ``END`` already. Each side numbers its own streams, from 1, rising.
``WELCOME`` is the first frame of the side that accepted the connection.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from pydra.errors import WireError

CHUNK_LIMIT = 256 * 1024
"""Bytes of one DATA body."""

BODY_LIMIT = CHUNK_LIMIT
HEAD_SIZE = 5
TEXT_LIMIT = 2_000
"""Characters of a kind, detail, code or text."""


class Kind(IntEnum):
    """What a frame is."""

    WELCOME = 0
    OPEN = 1
    DATA = 2
    END = 3
    ABORT = 4
    CREDIT = 5
    DONE = 6
    REFUSE = 7


_EMPTY = frozenset((Kind.WELCOME, Kind.END, Kind.DONE))
_KINDS = {int(kind): kind for kind in Kind}

_texts_encoder = msgspec.msgpack.Encoder()
_texts_decoder = msgspec.msgpack.Decoder(tuple[str, str])


def encode(kind: Kind, stream: int, body: bytes | memoryview = b"") -> bytes:
    """A frame."""
    head = b"%b%c%b" % ((HEAD_SIZE + len(body)).to_bytes(4, "big"), kind, stream.to_bytes(4, "big"))
    return b"".join((head, body))


def encode_texts(kind: Kind, stream: int, first: str, second: str) -> bytes:
    """An ``OPEN`` (kind, detail), ``REFUSE`` (code, text) or ``ABORT`` (code, text)."""
    return encode(kind, stream, _texts_encoder.encode((_fitting(first), _fitting(second))))


def encode_credit(stream: int, size: int) -> bytes:
    """A ``CREDIT`` of that many bytes."""
    return encode(Kind.CREDIT, stream, size.to_bytes(4, "big"))


def decode_texts(body: bytes) -> tuple[str, str]:
    """The two texts of a body; `WireError` if they are none."""
    try:
        first, second = _texts_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WireError("A frame does not hold two texts.") from None
    if len(first) > TEXT_LIMIT or len(second) > TEXT_LIMIT:
        raise WireError("A frame holds a text that is too long.")
    return first, second


def decode_credit(body: bytes) -> int:
    """The bytes of a credit; `WireError` if it is none."""
    size = int.from_bytes(body, "big")
    if len(body) != 4 or not size:
        raise WireError("A frame holds no credit.")
    return size


class StreamFrameReader:
    """Takes bytes as they come and gives whole frames; it never holds more than one frame and one read."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 4  # with fewer bytes there is no further frame

    def feed(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """The frames (kind, stream, body) that ``data`` completes; `WireError` on anything else."""
        self._held.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        held = data if len(self._held) == 1 else b"".join(self._held)
        frames: list[tuple[Kind, int, bytes]] = []
        start, end, self._wanted = 0, len(held), 4
        while end - start >= 4:
            size = int.from_bytes(held[start : start + 4], "big")
            if not HEAD_SIZE <= size <= HEAD_SIZE + BODY_LIMIT:
                raise WireError(f"A frame of {size} bytes was announced.")
            if end - start - 4 < size:
                self._wanted = 4 + size
                break
            frames.append(_frame(held, start + 4, start + 4 + size))
            start += 4 + size
        rest = held[start:]
        self._held, self._size = ([rest] if rest else []), len(rest)
        return frames


def _frame(held: bytes, start: int, end: int) -> tuple[Kind, int, bytes]:
    kind = _KINDS.get(held[start])
    if kind is None:
        raise WireError("A frame is of no known kind.")
    body_start = start + HEAD_SIZE
    if kind in _EMPTY and end != body_start:
        raise WireError("A frame has a body that it should not have.")
    return kind, int.from_bytes(held[start + 1 : body_start], "big"), held[body_start:end]


def _fitting(text: str) -> str:
    return text[:TEXT_LIMIT].encode("utf-8", "replace").decode("utf-8")
