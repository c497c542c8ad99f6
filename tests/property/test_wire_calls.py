# SPDX-License-Identifier: MIT
"""Calls and answers that go past PB's parser are those that it would have read, and made."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from pydra.cluster.wire.broker import ANSWER_S, GuardedBroker
from pydra.cluster.wire.calls import Said, answer, call, whole_message

REQUESTS = st.integers(0, 2**40)
PAYLOADS = st.binary(max_size=300)
SAID = st.lists(
    st.builds(call, st.integers(0, 300), PAYLOADS) | st.builds(answer, st.integers(0, 3), PAYLOADS),
    max_size=4,
).map(b"".join)


class Side:
    """A broker that speaks, and all that came of what it was sent."""

    def __init__(self, is_client: bool) -> None:
        self.written: list[bytes] = []
        self.happened: list[object] = []
        self.clock = Clock()
        self.broker = GuardedBroker(is_client, self.clock, self._receive, lambda: None, lambda reason: None)
        self.broker.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abortConnection(self) -> None:
        self.happened.append("aborted")

    def _receive(self, batch: bytes) -> bytes:
        self.happened.append(batch)
        return batch[:3]

    def take(self) -> bytes:
        """What it wrote, with the answer that waited for others."""
        self.clock.advance(ANSWER_S)
        written, self.written = b"".join(self.written), []
        return written


def server() -> Side:
    """One that agreed with a client, and waits for the answers to two calls."""
    client, server = Side(True), Side(False)
    for _ in range(3):
        client.broker.dataReceived(server.take())
        server.broker.dataReceived(client.take())
    for number in (1, 2):
        waits: Any = server.broker.send(b"call")
        waits.addCallback(lambda answered, number=number: server.happened.append((number, answered)))
    server.take()
    return server


@given(REQUESTS, PAYLOADS, REQUESTS, PAYLOADS)
def test_what_is_said_is_understood(request: int, batch: bytes, asked: int, told: bytes) -> None:
    """Whole, one after another; a piece of one is none."""
    first, second = call(request, batch), answer(asked, told)
    data = first + second
    assert Said(True, request, batch, len(first)) == whole_message(data, 0)
    assert Said(False, asked, told, len(data)) == whole_message(data, len(first))
    assert None is whole_message(first[:-1], 0) is whole_message(second[:-1], 0)


@given(st.integers(1, 2**31 - 1), PAYLOADS.map(lambda payload: b"no word of PB" + payload))
def test_the_bytes_are_those_of_pb(request: int, payload: bytes) -> None:
    """A peer that has PB alone notices nothing."""
    side = server()
    broker: Any = side.broker
    broker.currentRequestID = request - 1
    broker._remote.callRemote(b"batch", payload)
    assert call(request, payload) == side.take()
    broker._sendAnswer(payload, request)
    assert answer(request, payload) == side.take()


@given(
    SAID, st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=2)), max_size=3), st.integers(1, 700)
)
def test_what_was_changed_on_the_way(data: bytes, changes: list[tuple[int, bytes]], cut: int) -> None:
    """It comes to the same as with PB's parser alone, but that this refuses all of a chunk for its end."""
    changed = bytearray(data)
    for place, piece in changes:
        changed[place : place + 1] = piece
    direct, parsed = server(), server()
    for start in range(0, len(changed), cut):
        direct.broker.dataReceived(bytes(changed[start : start + cut]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parsed.broker, "_after_whole", lambda chunk: chunk)
        for byte in changed:
            parsed.broker.dataReceived(bytes([byte]))
    assert ("aborted" in direct.happened) == ("aborted" in parsed.happened)
    if "aborted" in direct.happened:
        direct.happened.remove("aborted")
        assert direct.happened == parsed.happened[: len(direct.happened)]
    else:
        assert (direct.happened, direct.take()) == (parsed.happened, parsed.take())
