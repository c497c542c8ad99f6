# SPDX-License-Identifier: MIT
"""A file is read one piece ahead of what is sent of it."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.wire.ahead import read_ahead
from pydra.errors import StoreError
from tests.support.pumps import result_of


class Source:
    """Gives pieces, or raises."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.left = list(pieces)

    async def read(self) -> bytes:
        """The next."""
        piece = self.left.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece


async def collected(source: Source, seen: list[tuple[bytes, int]], most: int = 99) -> None:
    """Keep each piece, and how many were not read yet when it came."""
    chunks = read_ahead(source.read)
    async for chunk in chunks:
        seen.append((chunk, len(source.left)))
        if len(seen) == most:
            break
    await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator


def test_one_piece_ahead() -> None:
    """All pieces come, in order, and the next is asked for before one is given."""
    seen: list[tuple[bytes, int]] = []
    result_of(Deferred.fromCoroutine(collected(Source(b"a", b"b", b""), seen)))
    assert [(b"a", 1), (b"b", 0)] == seen


def test_a_fault() -> None:
    """It is raised after what came before it."""
    seen: list[tuple[bytes, int]] = []
    with pytest.raises(StoreError):
        result_of(Deferred.fromCoroutine(collected(Source(b"a", StoreError("gone")), seen)))
    assert [(b"a", 0)] == seen


def test_a_reader_who_leaves() -> None:
    """What was read ahead for nothing is dropped, be it a fault."""
    seen: list[tuple[bytes, int]] = []
    result_of(Deferred.fromCoroutine(collected(Source(b"a", StoreError("gone")), seen, 1)))
    assert [(b"a", 0)] == seen
