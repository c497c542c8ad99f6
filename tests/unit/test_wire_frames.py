# SPDX-License-Identifier: MIT
"""What a frame between node and worker may hold."""

from __future__ import annotations

import msgpack
import pytest

from pydra.cluster.wire.frames import DONE, FrameReader, encode
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
