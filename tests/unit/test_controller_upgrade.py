# SPDX-License-Identifier: MIT
"""Who gets a WebSocket, and who is told why not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wsproto.frame_protocol import Opcode

from tests.support.controllers import Desk, MemoryServer
from tests.support.websockets import ACCEPT, NAME, Ears, Peer, ask, frame, plain, upgrade_request


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def server(ears: Ears) -> Iterator[MemoryServer]:
    server = MemoryServer(Desk().commands("cluster_info"), speakers={NAME: ears.open})
    yield server
    server.close()


def test_a_known_caller_gets_a_socket(server: MemoryServer, ears: Ears) -> None:
    """The upgrade is answered as RFC 6455 has it, with the first subprotocol that is spoken here."""
    reply = ask(server, server.connect(), Sec_WebSocket_Extensions="permessage-deflate")

    assert 101 == reply.status
    assert ACCEPT == reply.headers["sec-websocket-accept"]
    assert NAME == reply.headers["sec-websocket-protocol"]
    assert "sec-websocket-extensions" not in reply.headers
    assert 1 == len(ears.all)


@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
@pytest.mark.parametrize("token", [None, "Bearer ", "Bearer " + "00" * 32, "Basic abc", "TOKEN"])
def test_without_a_login_there_is_no_socket(
    server: MemoryServer, ears: Ears, verb: str, token: str | None
) -> None:
    """Whatever the verb, a caller without a valid token hears 401 before anything else."""
    reply = ask(server, server.connect(), verb, Authorization=token, Origin="https://evil.example")

    assert 401 == reply.status
    assert [] == ears.all


@pytest.mark.parametrize("verb", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_the_upgrade_is_a_get(server: MemoryServer, ears: Ears, verb: str) -> None:
    """Another verb is not allowed there."""
    assert 405 == ask(server, server.connect(), verb).status
    assert [] == ears.all


def test_a_token_in_the_address_is_none(server: MemoryServer, ears: Ears) -> None:
    """An address with a query is another path, so no token gets into logs that way."""
    line = f"GET /ws?token={server.token} HTTP/1.1\r\nHost: x\r\n\r\n"
    (reply,) = server.connect().send(line.encode())

    assert 401 == reply.status
    assert [] == ears.all


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": None}, 426),
        ({"Connection": "keep-alive"}, 426),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=\u00fc"}, 400),
        ({"Sec_WebSocket_Protocol": None}, 400),
        ({"Sec_WebSocket_Protocol": "pydra.other"}, 400),
        ({"Sec_WebSocket_Protocol": ",,\u00fc, ,"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://master.example:18801"}, 403),
        ({"Origin": "https://master.example"}, 403),
        ({"Origin": "https://master.example:18801.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_what_is_no_good_upgrade_is_refused_in_words(
    server: MemoryServer, ears: Ears, headers: dict[str, str | None], status: int
) -> None:
    """A handshake with a part missing, or from a foreign page, is answered as HTTP; the connection stays."""
    connection = server.connect()
    reply = ask(server, connection, **headers)

    assert status == reply.status
    assert reply.json["exception"]
    assert [] == ears.all
    assert 101 == ask(server, connection).status


def test_a_body_is_no_part_of_an_upgrade(server: MemoryServer, ears: Ears) -> None:
    """A request with a body is refused, so nothing hides in it."""
    (reply,) = server.connect().send(upgrade_request(server, "Content-Length: 2") + b"hi")

    assert 400 == reply.status
    assert [] == ears.all


def test_an_old_client_cannot_upgrade(server: MemoryServer, ears: Ears) -> None:
    """HTTP 1.0 has no upgrades."""
    (reply,) = server.connect().send(upgrade_request(server).replace(b"HTTP/1.1", b"HTTP/1.0"))

    assert 426 == reply.status
    assert [] == ears.all


def test_a_page_of_the_master_itself_gets_a_socket(server: MemoryServer, ears: Ears) -> None:
    """A browser's origin is good if it is where it asks."""
    assert 101 == ask(server, server.connect(), Origin="https://Master.example:18801").status


def test_without_speakers_there_is_no_such_path() -> None:
    """A service that speaks nothing over WebSockets has no /ws."""
    server = MemoryServer(Desk().commands("cluster_info"))

    assert 404 == ask(server, server.connect()).status
    assert 401 == ask(server, server.connect(), Authorization=None).status
    server.close()


def test_what_comes_with_the_request_is_heard(server: MemoryServer, ears: Ears) -> None:
    """A message in the same segment as the request for the upgrade is not lost."""
    server.connect().send(upgrade_request(server) + frame(Opcode.BINARY, b"early"))

    assert [b"early"] == ears.last.heard


def test_a_service_that_stops_makes_no_socket(server: MemoryServer, ears: Ears) -> None:
    """Once the service stops, the upgrade is refused, and sockets end with 1001."""
    peer = Peer(server)
    server.calls.stop()
    server.factory.begin_closing()

    assert [1001] == plain(peer.heard())
    assert 503 == ask(server, server.connect()).status
    peer.agree()
    assert peer.is_closed
