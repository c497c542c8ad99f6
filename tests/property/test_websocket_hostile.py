# SPDX-License-Identifier: MIT
"""Whatever frames come, a WebSocket holds: whole messages or a close, no traceback, and nothing left."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogLevel, globalLogPublisher
from wsproto.events import BytesMessage, TextMessage
from wsproto.frame_protocol import Opcode

from pydra.cluster.controller.web.bounds import Limits
from tests.support.controllers import Desk, MemoryServer
from tests.support.websockets import NAME, Ears, Peer, codes, frame

LIMITS = Limits(body=300, linger=2_000, fragments=5)

frames = st.builds(frame, st.sampled_from(Opcode), st.binary(max_size=130), st.booleans())
scraps = st.binary(max_size=20) | st.sampled_from(
    [b"\x82\xff" + b"\x00" * 12, b"\x82\x05abc", b"\xc1\x80" + bytes(4), b"\x88\x80" + bytes(4)]
)
messages = st.lists(
    st.binary(max_size=280).map(BytesMessage)
    | st.text(st.characters(codec="utf-8"), max_size=280).map(TextMessage),
    max_size=6,
)


def exercise(data: bytes, cut: int) -> tuple[list[bytes | str], list[int]]:
    """What was heard of a stream of bytes, and the codes that it was closed with."""
    ears, faults = Ears(), []
    server = MemoryServer(Desk().commands("cluster_info"), LIMITS, speakers={NAME: ears.open})
    peer = Peer(server)

    def observe(event: dict[str, object]) -> None:
        if event["log_level"] is LogLevel.critical:
            faults.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        closes = codes(peer.raw(data, cut))
        server.clock.advance(LIMITS.first_message_s)
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    server.close()
    assert [] == faults
    assert 1 == ears.last.losses
    return ears.last.heard, closes


@settings(max_examples=200, deadline=None)
@given(st.lists(frames | scraps, max_size=12).map(b"".join), st.integers(1, 60))
def test_any_bytes_are_messages_or_the_end(data: bytes, cut: int) -> None:
    """Hostile frames end in a close at most, once, and are read the same however they are cut."""
    heard, closes = exercise(data, cut)

    assert len(closes) <= 1
    assert all(len(message) <= LIMITS.body for message in heard)
    assert heard == exercise(data, 0)[0]


@settings(max_examples=100, deadline=None)
@given(messages, st.integers(0, 60))
def test_good_messages_all_arrive(sent: list[BytesMessage | TextMessage], cut: int) -> None:
    """Every message within the limits is heard, in order."""
    data = b"".join(
        frame(Opcode.TEXT, each.data.encode())
        if isinstance(each, TextMessage)
        else frame(Opcode.BINARY, each.data)
        for each in sent
    )

    assert ([each.data for each in sent], []) == exercise(data, cut)
