# SPDX-License-Identifier: MIT
"""What a frame between node and worker may hold."""

from __future__ import annotations

import os

import msgpack
import pytest

from pydra.cluster.wire.frames import (
    COLUMN_LIMIT,
    CONTAINERS_LIMIT,
    DONE,
    FRAME_LIMIT,
    LOG,
    MORE,
    PART,
    PART_SIZE,
    FrameReader,
    encode,
    in_parts,
)
from pydra.errors import WireError


def test_maps_by_number_and_text() -> None:
    """Failures are told by position."""
    frame = [DONE, "1.2", 0, [b"", b"\x05"], {0: ["failed", "x", ""], "1": {}}, 0.5]
    assert [frame] == FrameReader().feed(encode(frame))


@pytest.mark.parametrize("key", [b"x", None, True, 0.5, msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x")])
def test_maps_by_anything_else(key: object) -> None:
    """Keys whose places in a dict could be chosen are refused before there is one."""
    body = msgpack.packb([DONE, {key: 1}])
    with pytest.raises(WireError):
        FrameReader().feed(len(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize("size", [0, 65_535, 65_536, 65_537, PART_SIZE, FRAME_LIMIT - 7])
@pytest.mark.parametrize("kind", [MORE, PART])
def test_long_parts_are_frames_like_others(kind: int, size: int) -> None:
    """However they are made, they are read as what was sent, also from a view of a longer payload."""
    data = bytes(range(256)) * (size // 256 + 1)
    for part in (data[:size], memoryview(data)[:size]):
        encoded = encode([kind, part])
        assert [[kind, data[:size]]] == FrameReader().feed(encoded)
        packed: bytes = msgpack.packb([kind, data[:size]], use_bin_type=True)
        assert len(packed).to_bytes(4, "big") + packed == encoded


def test_a_long_part_above_the_limit() -> None:
    """It is refused, as any frame is."""
    with pytest.raises(WireError, match="too large"):
        encode([PART, bytes(FRAME_LIMIT - 6)])


@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1, 3 * PART_SIZE])
def test_a_long_payload_goes_in_parts(size: int) -> None:
    """The rest is never above one part."""
    data = os.urandom(size)
    parts, rest = in_parts(MORE, data)
    assert data == b"".join([bytes(part[1]) for part in parts] + [rest])  # type: ignore[call-overload]
    assert {MORE} >= {part[0] for part in parts}
    assert all(len(encode(part)) <= FRAME_LIMIT for part in parts)
    assert len(rest) <= PART_SIZE


@pytest.mark.parametrize(
    "items",
    [
        [[[]] * COLUMN_LIMIT] * 60,
        [[{}] * COLUMN_LIMIT] * 60,
        [[{0: []}] * (CONTAINERS_LIMIT // 4)] * 3,
        [[]] * 1_000_000,
        [1] * (COLUMN_LIMIT + 1),
        dict.fromkeys(range(COLUMN_LIMIT + 1)),
        [msgpack.ExtType(5, b"")],
        [msgpack.ExtType(5, b"x")],
        [msgpack.Timestamp(1, 2)],
    ],
    ids=["lists", "maps", "both", "row", "column", "map", "empty extension", "extension", "time"],
)
def test_small_frames_that_cost_much(items: object) -> None:
    """What would take a hundred times as long as other frames of its size is refused while it is decoded."""
    with pytest.raises(WireError, match="no frame"):
        FrameReader().feed(encode([LOG, items]))


def test_what_a_frame_may_have() -> None:
    """All the units that may be outstanding fit into one, and some thousands of failures or lines."""
    failures = {place: ["failed", "x" * 20, ""] for place in range(7_000)}
    lines = [[0.5, "INFO", "stdout", "a line"] for _ in range(10_000)]
    for frame in ([DONE, "1.2", 0, [b"\xc0"] * 10_000, failures, 0.5], [LOG, lines]):
        assert [frame] == FrameReader().feed(encode(frame))
