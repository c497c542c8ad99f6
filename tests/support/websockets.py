# SPDX-License-Identifier: MIT
"""The client's side of a WebSocket in memory, and a speaker that notes what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import FrameProtocol, Opcode

from pydra.cluster.interfaces import Socket
from tests.support.controllers import MemoryConnection, MemoryServer, Reply

NAME = "pydra.test"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455."""

UPGRADE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Protocol": f"pydra.other, {NAME}",
}


@attrs.define
class Ear:
    """A speaker that notes what it hears; ``then`` is called after each message."""

    socket: Socket
    heard: list[bytes | str] = attrs.field(factory=list)
    unblocks: int = 0
    losses: int = 0
    then: Callable[[], object] = list

    def received(self, message: bytes | str) -> None:
        """A message."""
        self.heard.append(message)
        self.then()

    def unblocked(self) -> None:
        """There is room."""
        self.unblocks += 1

    def lost(self) -> None:
        """It is over."""
        self.losses += 1


@attrs.define
class Ears:
    """Opens an `Ear` for each socket."""

    all: list[Ear] = attrs.field(factory=list)

    def open(self, socket: Socket) -> Ear:
        """A new one."""
        self.all.append(Ear(socket))
        return self.all[-1]

    @property
    def last(self) -> Ear:
        """The newest."""
        return self.all[-1]


def ask(
    server: MemoryServer, connection: MemoryConnection, verb: str = "GET", **changes: str | None
) -> Reply:
    """The answer to a request for the upgrade, with these headers changed (or, with None, left out)."""
    headers: dict[str, str | None] = UPGRADE | {"Authorization": f"Bearer {server.token}"}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{verb} /ws HTTP/1.1", "Host: master.example:18801"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    (reply,) = connection.send("\r\n".join([*lines, "", ""]).encode())
    return reply


class Peer:
    """A client whose connection was upgraded."""

    def __init__(self, server: MemoryServer, **changes: str | None) -> None:
        self.connection = server.connect()
        reply = ask(server, self.connection, **changes)
        assert reply.status == 101, reply
        self._wire = Connection(ConnectionType.CLIENT)

    def say(self, *messages: bytes | str) -> list[Event]:
        """Send messages; what came back."""
        events = [TextMessage(each) if isinstance(each, str) else BytesMessage(each) for each in messages]
        return self.send(*events)

    def send(self, *events: Event) -> list[Event]:
        """Send frames; what came back."""
        return self.raw(b"".join(bytes(self._wire.send(event)) for event in events))

    def raw(self, data: bytes, cut: int = 0) -> list[Event]:
        """Send bytes, in pieces of that size; what came back."""
        for start in range(0, len(data), cut or len(data) or 1):
            self.connection.channel.dataReceived(data[start : start + (cut or len(data))])
        return self.heard()

    def heard(self) -> list[Event]:
        """What came since."""
        data = self.connection.transport.value()
        self.connection.transport.clear()
        if data:
            self._wire.receive_data(data)
        return list(self._wire.events())

    def agree(self) -> None:
        """Answer the close that came."""
        self.send(CloseConnection(1000))

    @property
    def is_closed(self) -> bool:
        """Whether the server closed the connection below."""
        return self.connection.is_closed


def upgrade_request(server: MemoryServer, *lines: str) -> bytes:
    """The bytes of a request for the upgrade, with further header lines."""
    headers = UPGRADE | {"Authorization": f"Bearer {server.token}"}
    own = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["GET /ws HTTP/1.1", "Host: x", *own, *lines, "", ""]).encode()


def frame(opcode: Opcode, payload: bytes = b"", fin: bool = True) -> bytes:
    """One masked frame, whether or not it may come there."""
    return bytes(FrameProtocol(True, [])._serialize_frame(opcode, bytearray(payload), fin))


def codes(events: Iterable[Event]) -> list[int]:
    """The codes of the closes among what came."""
    return [int(event.code) for event in events if isinstance(event, CloseConnection)]


def plain(events: Iterable[Event]) -> list[Any]:
    """What came: messages, and the names of pings and pongs with their payloads."""
    shown: list[Any] = []
    for event in events:
        match event:
            case BytesMessage() | TextMessage():
                shown.append(event.data)
            case Ping() | Pong():
                shown.append((type(event).__name__, bytes(event.payload)))
            case CloseConnection():
                shown.append(int(event.code))
    return shown
