# SPDX-License-Identifier: MIT
"""Whatever bytes come, only the allowed errors follow, and only that connection closes."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.spread.banana import encode as banana  # noqa: TID251 - the hostile peer speaks it too

from pydra.cluster.auth.identity import normalise_fingerprint
from pydra.cluster.wire import frames, messages
from pydra.cluster.wire.broker import DEPTH_LIMIT, MESSAGE_LIMIT, BananaGuard, GuardedBroker
from pydra.cluster.wire.payload import to_json, unpack
from pydra.cluster.wire.stream_frames import Kind, StreamFrameReader, encode
from pydra.cluster.wire.streams import BulkConnection
from pydra.errors import ConfigError, WireError
from tests.support.links import RecordingSink

BYTES = st.binary(max_size=300)

TREES = st.recursive(
    st.none() | st.integers() | st.floats() | st.binary(max_size=9) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.binary(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


class Transport:
    """Remembers only that it was aborted."""

    def __init__(self) -> None:
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        pass

    def abortConnection(self) -> None:
        self.is_aborted = True


@given(BYTES)
def test_payload(data: bytes) -> None:
    """Any bytes are a payload or a `WireError`."""
    with contextlib.suppress(WireError):
        to_json(unpack(data))


@given(st.integers(0, 10), BYTES)
def test_payload_extensions(code: int, data: bytes) -> None:
    """Any content of an extension type is a value or a `WireError`."""
    with contextlib.suppress(WireError):
        to_json(unpack(msgpack.packb([msgpack.ExtType(code, data)])))


@given(BYTES | TREES.map(lambda tree: b"\xdd\0\0\0\1" + packed(tree)))
def test_messages(data: bytes) -> None:
    """Any bytes are a batch or a `WireError`."""
    for decode in (messages.decode_to_master, messages.decode_to_node):
        with contextlib.suppress(WireError):
            decode(data)


def packed(tree: Any) -> bytes:
    try:
        data: bytes = msgpack.packb(tree)
    except (OverflowError, ValueError):
        return b""
    return data


@given(BYTES | BYTES.map(lambda data: len(data).to_bytes(4, "big") + data))
def test_worker_frames(data: bytes) -> None:
    """Any bytes are frames or a `WireError`."""
    with contextlib.suppress(WireError):
        frames.FrameReader().feed(data)


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_guard(chunks: list[bytes]) -> None:
    """Any bytes pass the guard or are a `WireError`; it holds next to nothing."""
    guard = BananaGuard()
    with contextlib.suppress(WireError):
        for chunk in chunks:
            guard.feed(chunk)
    assert len(guard._open) <= DEPTH_LIMIT + 1
    assert len(guard._prefix) <= 11
    assert guard._size <= MESSAGE_LIMIT


SEXPS = st.recursive(
    st.integers(-(2**40), 2**40)
    | st.sampled_from(
        [
            b"message",
            b"answer",
            b"error",
            b"version",
            b"root",
            b"batch",
            b"tuple",
            b"dictionary",
            b"list",
            b"remote",
        ]
    )
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=15,
)


@given(st.booleans(), st.booleans(), st.lists(BYTES | SEXPS.map(banana), max_size=5))
def test_broker(is_client: bool, agree: bool, data: list[bytes]) -> None:
    """Any bytes are calls of ``batch`` with bytes, or close the connection; nothing is raised."""
    received: list[bytes] = []

    def receive(batch: bytes) -> bytes:
        received.append(batch)
        return b""

    lost: list[str] = []
    broker = GuardedBroker(is_client, Clock(), receive, lambda: None, lost.append)
    transport: Any = Transport()
    broker.makeConnection(transport)
    if agree:
        broker.dataReceived(banana([b"pb"]) if is_client else banana(b"pb"))
    for chunk in data:
        broker.dataReceived(chunk)
    assert all(type(batch) is bytes for batch in received)
    broker.connectionLost(Failure(ConnectionDone()))
    assert len(lost) == 1


@given(BYTES | BYTES.map(lambda data: (len(data) + 5).to_bytes(4, "big") + bytes(5) + data))
def test_stream_frames(data: bytes) -> None:
    """Any bytes are frames or a `WireError`."""
    with contextlib.suppress(WireError):
        StreamFrameReader().feed(data)


FRAMES = st.builds(
    encode,
    st.sampled_from(list(Kind)),
    st.integers(0, 4),
    st.sampled_from([b"", b"\0\0\0\1", b"\x92\xa4blob\xa3one", b"\x92\xa1?\xa1?", b"x" * 40_000])
    | st.binary(max_size=9),
)


@given(st.booleans(), st.lists(FRAMES, max_size=25), st.booleans())
def test_streams(is_client: bool, sent: list[bytes], gated: bool) -> None:
    """Any frames are carried out or close the connection; every sink is finished or aborted in the end."""
    sinks: list[RecordingSink] = []

    def open_stream(kind: str, detail: str) -> RecordingSink:
        if kind != "blob":
            raise WireError("no")
        sinks.append(RecordingSink(gated))
        return sinks[-1]

    lost: list[str] = []
    bulk = BulkConnection(is_client, open_stream, lambda: None, lost.append)
    transport: Any = Transport()
    bulk.makeConnection(transport)
    for frame in sent:
        bulk.dataReceived(frame)
    bulk.connectionLost(Failure(ConnectionDone()))
    assert len(lost) == 1
    for sink in sinks:
        while sink.gates:
            sink.open_gate()
        assert sink.finished or sink.aborted is not None


@given(st.text(max_size=80))
def test_fingerprints(text: str) -> None:
    """Any text is a fingerprint or a `ConfigError`."""
    with contextlib.suppress(ConfigError):
        assert normalise_fingerprint(normalise_fingerprint(text)) == normalise_fingerprint(text)
