# SPDX-License-Identifier: MIT
"""The connection in memory that other tests use behaves as a real one over TLS does."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from email.utils import formatdate
from typing import Protocol

import pytest

from tests.support.controllers import WALL_TIME, Desk, MemoryServer, Reply, replies, request, running_server

BROKEN = b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n"
COMMANDS = Desk({"cluster_info": {"epoch": 1}}).commands("cluster_info")


class Wire(Protocol):
    def send(self, data: bytes) -> list[Reply]: ...


class TLSWire:
    """A connection over TLS that reads until as many answers came as were asked for, or its end."""

    def __init__(self, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))

    def send(self, data: bytes) -> list[Reply]:
        self.socket.sendall(data)
        received = b""
        wanted = max(1, data.count(b" HTTP/1.1"))
        while received.count(b"HTTP/1.1 ") < wanted:
            more = self.socket.recv(65_536)
            if not more:
                break
            received += more
        return list(replies(received))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running_server(COMMANDS) as server:
        yield server.port


@pytest.fixture(params=["memory", "TLS"])
def wire(request: pytest.FixtureRequest, port: int) -> Iterator[Wire]:
    if request.param == "memory":
        server = MemoryServer(COMMANDS)
        yield server.connect()
        server.close()
    else:
        real = TLSWire(port)
        yield real
        real.socket.close()


def statuses(answers: list[Reply]) -> list[int]:
    return [reply.status for reply in answers]


def test_public_pages_are_answered(wire: Wire) -> None:
    """Anyone may read the health page."""
    assert [b'{"status":"ok"}'] == [reply.body for reply in wire.send(request("GET", "/healthz"))]


def test_the_date(wire: Wire) -> None:
    """Answers have the date of the wall clock, whatever clock the timers go by."""
    [reply] = wire.send(request("GET", "/healthz"))
    assert formatdate(WALL_TIME, usegmt=True) == reply.headers["date"]


def test_the_guard_is_there(wire: Wire) -> None:
    """Nothing else is answered without a login, and the connection goes on."""
    assert [401] == statuses(wire.send(request("POST", "/cluster_info")))
    assert [401] == statuses(wire.send(request("GET", "/")))


def test_requests_in_a_row_are_answered_in_order(wire: Wire) -> None:
    """Several requests sent at once get their answers in order."""
    assert [200, 401, 200] == statuses(
        wire.send(request("GET", "/healthz") + request("GET", "/") + request("GET", "/version"))
    )


def test_broken_requests_are_refused(wire: Wire) -> None:
    """A folded header is answered 400, and the connection ends."""
    assert [400] == statuses(wire.send(BROKEN))


def test_a_challenge_is_given_to_anyone(wire: Wire) -> None:
    """The login functions need no login, and check their arguments."""
    body = b'{"kwargs": {"nonce": "' + b"ab" * 32 + b'"}}'
    asked = request("POST", "/authenticate", body, **{"Content-Type": "application/json"})

    (answer,) = wire.send(asked)

    assert {"challenge", "role", "key_id"} == set(answer.json)
    assert [400] == statuses(wire.send(request("POST", "/authenticate")))
