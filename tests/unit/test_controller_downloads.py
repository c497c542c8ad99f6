# SPDX-License-Identifier: MIT
"""Packed arguments come in, and packed results go out, as streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.controller.web.bounds import Limits
from pydra.errors import NotFound, StoreError
from tests.support.controllers import Desk, MemoryConnection, MemoryServer, request

LIMITS = Limits(body=1_000, body_before_login=100, payload=50_000, linger=5_000)


class Bench:
    """A server whose results have these pieces, and that keeps the payloads that come."""

    def __init__(self) -> None:
        self.pieces: list[bytes | Exception | Deferred[None]] = [b"abc", b"de"]
        self.size = 5
        self.is_closed = False
        self.payloads: list[bytes] = []
        self.aborted = 0
        self.server = MemoryServer(
            Desk().commands("cluster_info"), LIMITS, open_payload=lambda: self, open_result=self.open_result
        )
        self.connection = self.server.connect()

    async def open_result(self, number: int) -> tuple[int, AsyncIterator[bytes]]:
        """There is one result."""
        if number != 7:
            raise NotFound(f"There is no task instance {number}.")
        return self.size, self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, Deferred):
                    await piece
                else:
                    yield piece
        finally:
            self.is_closed = True

    # The sink of a payload.

    async def write(self, data: bytes) -> None:
        """Keep it."""
        self.payloads.append(data)

    async def finish(self) -> object:
        """The answer."""
        return {"size": sum(map(len, self.payloads))}

    def abort(self) -> None:
        """Count it."""
        self.aborted += 1

    def ask(self, verb: str = "GET", path: str = "/results/7", body: bytes = b"", token: str = "") -> bytes:
        """What is answered to a request of a known caller, byte by byte."""
        headers = {"Authorization": f"Bearer {token or self.server.token}"}
        self.connection.channel.dataReceived(request(verb, path, body, **headers))
        return self.said()

    def said(self) -> bytes:
        """What was answered since."""
        data: bytes = self.connection.transport.value()
        self.connection.transport.clear()
        return data


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server."""
    bench = Bench()
    yield bench
    bench.server.close()


def is_cut(connection: MemoryConnection) -> bool:
    """The connection was ended by the server."""
    return bool(connection.transport.disconnecting or connection.transport.aborting)


def test_a_result(bench: Bench) -> None:
    """It is answered whole, with its length, and the connection can be used again."""
    for _ in range(2):
        head, body = bench.ask().split(b"\r\n\r\n")
        assert b"HTTP/1.1 200 " == head[:13]
        assert b"Content-Length: 5" in head
        assert b"Content-Type: application/vnd.msgpack" in head
        assert b"abcde" == body
        assert bench.is_closed


def test_its_head_alone(bench: Bench) -> None:
    """HEAD tells how long it is."""
    head, body = bench.ask("HEAD").split(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert b"" == body


@pytest.mark.parametrize(
    "path", ["/results/8", "/results/", "/results/x", "/results/7/..", "/results/" + "7" * 99]
)
def test_no_such_result(bench: Bench, path: str) -> None:
    """It is told, and nothing of what was asked is believed."""
    assert b"HTTP/1.1 404 " == bench.ask(path=path)[:13]


def test_an_unknown_caller(bench: Bench) -> None:
    """Results are for those who are logged in."""
    assert b"HTTP/1.1 401 " == bench.ask(token="nonsense")[:13]


def test_another_verb(bench: Bench) -> None:
    """A result cannot be sent."""
    assert b"HTTP/1.1 405 " == bench.ask("POST")[:13]


@pytest.mark.parametrize("pieces", [[b"abc", StoreError("damaged")], [StoreError("gone")], [b"abc"], []])
def test_a_result_that_is_not_good(bench: Bench, pieces: list[bytes | Exception | Deferred[None]]) -> None:
    """The connection is cut before the answer is whole, so nobody takes it for a result."""
    bench.pieces = pieces
    body = bench.ask().partition(b"\r\n\r\n")[2]
    assert len(body) < 5
    assert is_cut(bench.connection)
    assert bench.is_closed


def test_a_caller_who_reads_slowly(bench: Bench) -> None:
    """Nothing more is read of the file while he does not; then he gets the rest."""
    gate: Deferred[None] = Deferred()
    bench.pieces = [b"ab", gate, b"cd", b"e"]
    bench.ask()
    bench.connection.channel.pauseProducing()
    gate.callback(None)
    assert b"ab" == bench.said()
    assert not bench.is_closed
    bench.connection.channel.resumeProducing()
    assert b"cde" == bench.said()


def test_a_caller_who_reads_no_more(bench: Bench) -> None:
    """His connection is cut after a minute."""
    gate: Deferred[None] = Deferred()
    bench.pieces = [b"ab", gate, b"cde"]
    bench.ask()
    bench.connection.channel.pauseProducing()
    gate.callback(None)
    bench.server.clock.advance(61)
    assert is_cut(bench.connection)
    assert bench.is_closed


def test_a_caller_who_goes_away(bench: Bench) -> None:
    """The file is closed."""
    bench.pieces = [b"ab", Deferred(), b"cde"]
    bench.ask()
    bench.connection.close()
    assert bench.is_closed


def test_a_payload(bench: Bench) -> None:
    """It may be larger than other bodies, and goes to its sink."""
    answer = bench.ask("POST", "/payloads", bytes(40_000))
    assert b'{"size": 40000}'.replace(b" ", b"") == answer.partition(b"\r\n\r\n")[2].replace(b" ", b"")


def test_a_payload_that_is_too_large(bench: Bench) -> None:
    """It is refused before it is read."""
    assert b"HTTP/1.1 413 " == bench.ask("POST", "/payloads", bytes(50_001))[:13]
    assert [] == bench.payloads


def test_a_payload_of_an_unknown_caller(bench: Bench) -> None:
    """Nothing of it is kept."""
    assert b"HTTP/1.1 401 " == bench.ask("POST", "/payloads", bytes(99), token="nonsense")[:13]
    assert [] == bench.payloads
