# SPDX-License-Identifier: MIT
"""What the guarded broker lets through, and what closes its connection."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.spread.banana import encode as banana  # noqa: TID251 - the hostile peer speaks it too

from pydra.cluster.wire.broker import ANSWER_S, CALLS_PER_S, MESSAGE_LIMIT, BananaGuard, GuardedBroker
from pydra.errors import WireError
from tests.support.pumps import result_of


class Transport:
    """Remembers what was written and that it was aborted."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abortConnection(self) -> None:
        self.aborted += 1


class Side:
    """A broker and what it told."""

    def __init__(self, is_client: bool, clock: Clock | None = None) -> None:
        self.batches: list[bytes] = []
        self.ready = 0
        self.lost: list[str] = []
        self.transport = Transport()
        self.answer = b""
        self.broker = GuardedBroker(
            is_client, clock or Clock(), self.receive, self.became_ready, self.lost.append
        )
        self.broker.makeConnection(self.transport)

    def receive(self, batch: bytes) -> bytes:
        self.batches.append(batch)
        return self.answer

    def became_ready(self) -> None:
        self.ready += 1

    def take(self) -> bytes:
        written, self.transport.written[:] = b"".join(self.transport.written), []
        return written


def pump(one: Side, two: Side) -> None:
    """Carry bytes until both are silent."""
    while one.transport.written or two.transport.written:
        two.broker.dataReceived(one.take())
        one.broker.dataReceived(two.take())


def agreed(clock: Clock | None = None) -> tuple[Side, Side]:
    """A client and a server that agreed upon the dialect."""
    client, server = Side(True, clock), Side(False, clock)
    pump(client, server)
    return client, server


def call(name: bytes = b"root", method: bytes = b"batch", args: Any = None, **more: Any) -> bytes:
    """A call as PB writes it."""
    return banana(
        [
            b"message",
            more.get("request", 1),
            name,
            method,
            more.get("answer", 1),
            args if args is not None else [b"tuple", b"hello"],
            more.get("kw", [b"dictionary"]),
        ]
    )


def test_both_become_ready() -> None:
    """Both sides are ready after the dialect is agreed, once."""
    client, server = agreed()
    assert (client.ready, server.ready) == (1, 1)


@pytest.mark.parametrize("batch", [b"", b"x", bytes(384 * 1024)])
def test_batches_cross_both_ways(batch: bytes) -> None:
    """A batch arrives as it left, and its answer comes back."""
    clock = Clock()
    client, server = agreed(clock)
    client.answer, server.answer = b"from client", b""
    there, back = client.broker.send(batch), server.broker.send(batch)
    pump(client, server)
    clock.advance(ANSWER_S)
    pump(client, server)
    assert (result_of(there), result_of(back)) == (b"", b"from client")
    assert client.batches == server.batches == [batch]


def test_an_answer_goes_with_others() -> None:
    """An empty one waits a moment for the next batch, or for another answer; any other goes at once."""
    clock = Clock()
    client, server = agreed(clock)
    first = client.broker.send(b"1")
    pump(client, server)
    assert not first.called
    server.broker.send(b"2")
    assert 1 == len(server.transport.written)
    pump(client, server)
    assert b"" == result_of(first)
    second, third = client.broker.send(b"3"), client.broker.send(b"4")
    pump(client, server)
    assert [b"", b""] == [result_of(second), result_of(third)]
    server.answer = b"no"
    fourth = client.broker.send(b"5")
    pump(client, server)
    assert b"no" == result_of(fourth)
    for side in (client, server):
        side.broker.connectionLost(Failure(ConnectionDone()))
    assert [] == clock.getDelayedCalls()


def test_bytes_may_be_cut_anywhere() -> None:
    """A call that arrives byte by byte is carried out once."""
    client, server = agreed()
    answer = client.broker.send(b"hello")
    for byte in client.take():
        server.broker.dataReceived(bytes([byte]))
    pump(client, server)
    assert result_of(answer) == b""
    assert server.batches == [b"hello"]


HOSTILE = {
    "nested": b"\x01\x80" * 33,
    "nested wide": b"\x02\x80" * 40,
    "long list": b"\x7f\x7f\x80",
    "long string": b"\x00\x00\x21\x82",
    "long prefix": b"\x01" * 11,
    "float": b"\x84" + b"\0" * 8,
    "big negative": b"\x01\x86",
    "unknown token": b"\x88",
    "unknown word": b"\x7f\x87",
    "many tokens": banana([b"answer", 1, [1] * 300]),
    "empty list": b"\x00\x80",
    "bare string": banana(b"message"),
    "bare number": banana(7),
    "unknown command": banana([b"exit", 1]),
    "internal command": banana([b"__init__", 1]),
    "not understood": banana([b"didNotUnderstand", b"x"]),
    "wrong version": banana([b"version", 7]),
    "decref": banana([b"decref", b"root"]),
    "decache": banana([b"decache", 1]),
    "uncache": banana([b"uncache", 1]),
    "cachemessage": banana([b"cachemessage", 1, b"root", b"batch", 1, [b"tuple", b"x"], [b"dictionary"]]),
    "error": banana([b"error", 1, [b"unicode", b"x"]]),
    "answer to nothing": banana([b"answer", 99, b""]),
    "other object": call(name=b"toor"),
    "object by number": call(name=1),  # type: ignore[arg-type]  # as a hostile peer would
    "other method": call(method=b"remoteMessageReceived"),
    "no arguments": call(args=[b"tuple"]),
    "two arguments": call(args=[b"tuple", b"a", b"b"]),
    "text argument": call(args=[b"tuple", [b"unicode", b"x"]]),
    "number argument": call(args=[b"tuple", 7]),
    "list argument": call(args=[b"tuple", [b"list", b"x"]]),
    "reference": call(args=[b"tuple", [b"remote", 1]]),
    "instance": call(args=[b"tuple", [b"instance", b"os.system", [b"dictionary"]]]),
    "module": call(args=[b"tuple", [b"module", b"os"]]),
    "function": call(args=[b"tuple", [b"function", b"os.system"]]),
    "keywords": call(kw=[b"dictionary", [b"batch", b"x"]]),
    "no answer wanted": call(answer=0),
    "request that is no number": call(request=b"1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_close_the_connection(name: str) -> None:
    """Anything but a call of ``batch`` and its answer closes this connection, and nothing is carried out."""
    _, server = agreed()
    server.broker.dataReceived(HOSTILE[name])
    assert server.transport.aborted == 1
    assert server.batches == []
    assert server.take() == b""


def test_nothing_is_read_after_a_refusal() -> None:
    """Bytes that follow hostile ones are not looked at."""
    client, server = agreed()
    client.broker.send(b"hello")
    server.broker.dataReceived(HOSTILE["nested"])
    server.broker.dataReceived(client.take())
    assert server.transport.aborted == 1
    assert server.batches == []


def test_reason_of_a_refusal_is_told() -> None:
    """The user of a broker learns why it closed the connection."""
    _, server = agreed()
    server.broker.dataReceived(HOSTILE["nested"])
    server.broker.connectionLost(Failure(ConnectionDone()))
    assert server.lost == ["A message is nested deeper than 32 levels."]


@pytest.mark.parametrize("first", [b"\x04none", banana(b"none"), banana([b"pb"]), banana(1), b"\x81" * 20])
@pytest.mark.parametrize("is_client", [True, False])
def test_hostile_beginnings(first: bytes, is_client: bool) -> None:
    """Only the dialect of PB is agreed to; anything else gets nowhere."""
    side = Side(is_client)
    if is_client and first == banana([b"pb"]):
        first = banana([b"none"])
    side.broker.dataReceived(first)
    side.broker.dataReceived(call())
    assert side.batches == []
    assert side.ready == 0


def test_calls_are_counted() -> None:
    """A peer that calls too often loses its connection; as many as allowed pass."""
    clock = Clock()
    client, server = Side(True, clock), Side(False, clock)
    pump(client, server)
    for _ in range(3):
        for number in range(CALLS_PER_S // 2):
            server.broker.dataReceived(call(request=number + 1))
        clock.advance(0.5)
    assert server.transport.aborted == 0
    for number in range(CALLS_PER_S + 2):
        server.broker.dataReceived(call(request=number + 1))
    assert server.transport.aborted == 1


def test_nesting_costs_no_time() -> None:
    """Four megabytes of nested lists are refused from the first bytes of them."""
    _, server = agreed()
    began = time.process_time()
    server.broker.dataReceived(b"\x01\x80" * 2_000_000)
    assert time.process_time() - began < 0.3
    assert server.transport.aborted == 1


def test_size_is_counted_over_chunks() -> None:
    """A message that grows beyond the limit is refused before it is whole."""
    guard = BananaGuard()
    chunk = b"\x00\x40\x82" + bytes(8192)
    guard.feed(b"\x7f\x80" + chunk * (MESSAGE_LIMIT // len(chunk)))
    with pytest.raises(WireError, match=r"string of 8192 bytes"):
        guard.feed(chunk)


def test_lost_connection_fails_what_waits() -> None:
    """A batch that was not answered fails when the connection is lost; the user is told once."""
    client, _ = agreed()
    answer = client.broker.send(b"hello")
    client.broker.connectionLost(Failure(ConnectionDone()))
    assert len(client.lost) == 1
    with pytest.raises(Exception, match="closed cleanly"):
        result_of(answer)
    gc.collect()
