# SPDX-License-Identifier: MIT
"""The channel refuses what is too large, too slow, too many, or could be read in two ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pydra.cluster.controller.web.bounds import Limits
from tests.support.at_once import Socket, Tls
from tests.support.controllers import Desk, MemoryConnection, MemoryServer, request

LIMITS = Limits(body=40_000, body_before_login=1_000, connections=4, connections_per_address=3, linger=5_000)
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    server = MemoryServer(Desk().commands("cluster_info"), LIMITS)
    yield server
    server.close()


@pytest.fixture
def connection(server: MemoryServer) -> MemoryConnection:
    return server.connect()


def head(*lines: str, verb: str = "POST /cluster_info HTTP/1.1") -> bytes:
    return "\r\n".join([verb, "Host: x", *lines, "", ""]).encode("latin-1")


def refusal(connection: MemoryConnection, *parts: bytes) -> int:
    """The status of the one answer, after which the connection is closed."""
    (reply,) = connection.send(*parts)
    assert connection.is_closed
    assert "close" == reply.headers["connection"]
    assert {"exception", "code", "errors", "traceback"} == set(reply.json)
    return reply.status


@pytest.mark.parametrize(
    "data",
    [
        head("Content-Length: 5", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked", "Content-Length: 5"),
        head("Transfer-Encoding: identity", "Content-Length: 5"),
        head("Transfer-Encoding: gzip, chunked"),
        head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        head("Transfer-Encoding:\x0bchunked"),
        head("Content-Length: 5", "Content-Length: 5"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: 5, 5"),
        head("Content-Length: +5"),
        head("Content-Length: -1"),
        head("Content-Length: 0x5"),
        head("Content-Length: 5_0"),
        head("Content-Length: " + "9" * 5_000),
        head("Content-Length:"),
        head("X: a", " folded: b"),
        head("X: a", "\tfolded"),
        head("X : a"),
        head("X"),
        head(": a"),
        head("X: a\x00b"),
        head("X: a\rb"),
        head("X: a\nContent-Length: 5"),
        head("Host: y"),
        b"POST /cluster_info HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b" GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        b"G" * 20_000,
        head("X: " + "a" * 17_000),
        head(*[f"X-{number}: a" for number in range(200)]),
        head("Transfer-Encoding: chunked") + b"5 \nabc\r\n",
        head("Transfer-Encoding: chunked") + b"zz\r\n",
        head("Transfer-Encoding: chunked") + b"1\r\nabc",
        head("Transfer-Encoding: chunked") + b"1" * 2_000,
    ],
)
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "byte by byte"])
def test_what_two_parsers_could_read_differently_is_refused(
    connection: MemoryConnection, data: bytes, is_cut: bool
) -> None:
    """Ambiguous or broken requests end the connection with 400, however they are cut."""
    parts = [data[index : index + 1] for index in range(len(data))] if is_cut else [data]

    assert 400 == refusal(connection, *parts)


def test_nothing_after_a_refusal_is_read(server: MemoryServer, connection: MemoryConnection) -> None:
    """What follows a refused request, such as one hidden in its body, is dropped."""
    hidden = request("GET", "/healthz")

    assert 400 == refusal(connection, head("Content-Length: 5", "Transfer-Encoding: chunked") + hidden)
    assert [] == connection.send(hidden, hidden)


def test_a_body_beyond_the_limit_is_refused_before_it_comes(
    server: MemoryServer, connection: MemoryConnection
) -> None:
    """The announcement of a body that is too large is enough for 413."""
    announced = head(f"Authorization: Bearer {server.token}", "Content-Length: 10000000000")

    assert 413 == refusal(connection, announced)


def test_chunks_beyond_the_limit_are_refused(server: MemoryServer, connection: MemoryConnection) -> None:
    """A body without a length is counted as it comes, and nothing beyond the limit is kept."""
    start = head(f"Authorization: Bearer {server.token}", "Transfer-Encoding: chunked")
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"

    assert 413 == refusal(connection, start, *[chunk] * 11)
    assert 10 * 4096 >= connection.channel.requests[0].content.tell()


def test_chunks_within_the_limit_are_a_body(server: MemoryServer, connection: MemoryConnection) -> None:
    """A chunked request is read as any other."""
    start = head(
        f"Authorization: Bearer {server.token}",
        "Transfer-Encoding: chunked",
        "Content-Type: application/json",
    )

    (reply,) = connection.send(start + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")

    assert 200 == reply.status


@pytest.mark.parametrize("authorization", ["", "Authorization: Bearer x"])
def test_strangers_may_not_send_much(connection: MemoryConnection, authorization: str) -> None:
    """Who is not logged in hears 401 before a large body is held."""
    lines = [line for line in (authorization, "Content-Length: 1001") if line]

    assert 401 == refusal(connection, head(*lines))


def test_a_large_body_is_held_in_memory_only(server: MemoryServer, connection: MemoryConnection) -> None:
    """No request makes the daemon write a file."""
    body = b'{"args": []' + b" " * 30_000 + b"}"
    data = request("POST", "/cluster_info", body, Authorization=f"Bearer {server.token}", **JSON)

    (reply,) = connection.send(*[data[start : start + 7_000] for start in range(0, len(data), 7_000)])

    assert 200 == reply.status


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (b"", 10),
        (b"GET / HT", 10),
        (head("Content-Length: 10")[:-2], 10),
        (head("Content-Length: 10") + b"x", 60),
        (head("Transfer-Encoding: chunked") + b"5\r\nab", 60),
    ],
)
def test_a_request_that_trickles_in_is_refused(
    server: MemoryServer, connection: MemoryConnection, data: bytes, seconds: int
) -> None:
    """Headers have ten seconds and a body sixty, however busily single bytes come."""
    connection.send(data)
    server.clock.pump([1] * (seconds - 1))
    assert not connection.is_closed

    server.clock.advance(1)

    assert [408] == [reply.status for reply in connection.send()]
    assert connection.is_closed


def test_the_second_request_has_the_same_time(server: MemoryServer, connection: MemoryConnection) -> None:
    """The deadline of headers counts from the first byte of each request."""
    connection.send(request("GET", "/healthz"))
    server.clock.advance(50)
    connection.send(b"G")
    server.clock.advance(9)
    assert not connection.is_closed

    server.clock.advance(1)

    assert connection.is_closed


def test_an_idle_connection_is_closed(server: MemoryServer, connection: MemoryConnection) -> None:
    """A kept connection that is not used for a minute is closed."""
    connection.send(request("GET", "/healthz"))
    server.clock.advance(59)
    assert not connection.is_closed

    server.clock.advance(1)

    assert connection.is_closed


def test_a_caller_that_does_not_stop_sending_is_cut_off(
    server: MemoryServer, connection: MemoryConnection
) -> None:
    """After a refusal a little more is read so that the refusal arrives, and then no more."""
    connection.send(head("Content-Length: 100000000"))
    connection.send(b"x" * 5_000)
    assert not connection.transport.disconnected

    connection.send(b"x")

    assert connection.transport.disconnected


def test_a_refused_caller_that_stays_is_cut_off(server: MemoryServer, connection: MemoryConnection) -> None:
    """Two seconds after a refusal the connection is gone, whatever the caller does."""
    connection.send(head("Content-Length: x"))

    server.clock.advance(2)

    assert connection.transport.disconnected


def test_a_caller_that_asks_for_the_end_and_stays_is_cut_off(
    server: MemoryServer, connection: MemoryConnection
) -> None:
    """After the last answer the other side has a minute to read it and go."""
    connection.send(request("GET", "/healthz", Connection="close"))
    server.clock.advance(59)
    assert not connection.transport.disconnected

    server.clock.advance(1)

    assert connection.transport.disconnected


def test_connections_are_counted_by_address_and_in_all(server: MemoryServer) -> None:
    """A fourth connection of one address, and a fifth of all, is not taken; one that ends makes room."""

    class Address:
        def __init__(self, host: str) -> None:
            self.host = host

    here, there = Address("192.0.2.7"), Address("192.0.2.8")
    ours = [server.connect() for _ in range(3)]
    assert [False, True] == [server.factory.admits(here), server.factory.admits(there)]
    other = server.factory.buildProtocol(there)
    assert not server.factory.admits(there)

    ours[0].close()

    assert server.factory.admits(here)
    assert server.factory.admits(there)
    server.factory.left(other)


def test_http_1_0_is_answered_and_closed(connection: MemoryConnection) -> None:
    """An old client gets its answer and the end of the connection."""
    (reply,) = connection.send(b"GET /healthz HTTP/1.0\r\n\r\n")

    assert (200, "close") == (reply.status, reply.headers["connection"])
    assert connection.is_closed


def test_expect_continue_is_answered_first(server: MemoryServer, connection: MemoryConnection) -> None:
    """A caller that asks before it sends a body is told to go on."""
    start = head(
        f"Authorization: Bearer {server.token}",
        "Content-Length: 2",
        "Expect: 100-continue",
        *["Content-Type: application/json"],
    )

    assert [100] == [reply.status for reply in connection.send(start)]
    assert [200] == [reply.status for reply in connection.send(b"{}")]


def test_an_answer_is_sent_in_the_turn_in_which_it_is_made(server: MemoryServer) -> None:
    """Over TLS too; those to further requests that came with the first follow as one."""
    socket = Socket(server.clock)
    channel = server.connect(Tls(server.clock, socket)).channel
    channel.dataReceived(request("GET", "/healthz"))
    assert [b"<HTTP/1.1 200"] == [sent[:13] for sent in socket.sent]
    server.clock.advance(0)
    channel.dataReceived(request("GET", "/healthz") * 3)
    assert 2 == len(socket.sent)
    server.clock.advance(0)
    socket.doWrite()
    assert 3 == len(socket.sent)
    assert 4 == b"".join(socket.sent).count(b"HTTP/1.1 200")
