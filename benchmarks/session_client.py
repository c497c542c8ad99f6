# SPDX-License-Identifier: MIT
"""
A client of sessions that does one thing at a time, for tests and benchmarks: see docs/reference/session.md.

It reads while it waits for room to send, so it never waits for a master that waits for it.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
)

from pydra.cluster.controller.session_messages import (
    SUBPROTOCOL,
    Attach,
    Close,
    Ended,
    Open,
    Opened,
    Refused,
    Results,
    Stored,
    ToClient,
    ToSession,
    Units,
    decode_to_client,
    encode,
)
from pydra.cluster.controller.web.connection import Connection
from pydra.cluster.controller.web.key import read_key
from pydra.cluster.controller.web.login import log_in

NOTHING = msgpack.packb({})
"""No arguments."""


class SessionError(Exception):
    """The master refused, or closed the socket; ``code`` is that of the close or of HTTP, or 0."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class SessionClient:
    """
    One socket, and what came over it.

    ``waiting`` holds the units that were sent and not answered, with their arguments; ``stored`` those that
    were acknowledged; ``results`` maps indexes to packed results, or to (code, message, traceback).
    """

    def __init__(self, host: str, port: int, key: str | Path, timeout_s: float = 30.0) -> None:
        read = read_key(Path(key))
        assert read is not None, key
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=read.certificate_pem)
        connection = Connection(host, port, context, read.certificate)
        try:
            self.token = log_in(connection, read)
        finally:
            connection.close()
        self._timeout_s = timeout_s
        plain = socket.create_connection((host, port), timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=host)
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._messages: deque[ToClient] = deque()
        self._parts = bytearray()
        self.waiting: dict[int, bytes] = {}
        self.stored: set[int] = set()
        self.results: dict[int, bytes | tuple[str, str, str]] = {}
        self.refused: list[Refused] = []
        self.ended: Ended | None = None
        self.closed: tuple[int, str] | None = None
        self.instance = 0
        self.window = 0
        headers = [(b"Authorization", f"Bearer {self.token}".encode())]
        self._send(Request(f"{host}:{port}", "/ws", subprotocols=[SUBPROTOCOL], extra_headers=headers))
        self._upgrade()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vanish()

    def open(self, task: str, request_key: str = "", **options: Any) -> int:
        """Begin a session; the id of its instance."""
        self.say(Open(task, request_key, options))
        return self._opened().instance

    def attach(self, instance: int, indexes: Sequence[int] = ()) -> list[int]:
        """Go on with a session; the indexes that it never got."""
        self.say(Attach(instance, list(indexes)))
        return self._opened().missing

    def send(self, first: int, args: Sequence[bytes]) -> None:
        """Run units, in a row from an index on."""
        self.waiting.update(zip(range(first, first + len(args)), args, strict=True))
        self.say(Units(first, list(args)))

    def run(self, first: int, args: Sequence[bytes], at_once: int = 500) -> None:
        """Send units, some at once, within the window, and take in results until all have one."""
        for start in range(0, len(args), at_once):
            while len(self.waiting) + at_once > self.window:
                self.take()
            self.send(first + start, args[start : start + at_once])
            while self._is_readable():
                self.take()
        while self.waiting:
            self.take()

    def one(self, index: int, args: bytes = NOTHING) -> None:
        """Run one unit and wait for its result."""
        self.send(index, [args])
        while index in self.waiting:
            self.take()

    def close(self) -> Ended:
        """End the session; how it ended."""
        self.say(Close())
        while self.ended is None:
            self.take()
        return self.ended

    def vanish(self) -> None:
        """Cut the connection without a word."""
        self._socket.close()

    def say(self, message: ToSession) -> None:
        """Send any message."""
        self._send(BytesMessage(encode(message)))

    def send_raw(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self._socket.sendall(data)

    def take(self) -> ToClient:
        """Wait for a message and note what it says."""
        message = self._next()
        match message:
            case Stored(indexes=int(first), count=count):
                self.stored.update(range(first, first + count))
            case Stored(indexes=list(indexes)):
                self.stored.update(indexes)
            case Results(indexes=indexes, results=results, failures=failures):
                self.results.update(zip(indexes, results, strict=True))
                self.results.update({indexes[at]: failure for at, failure in failures.items()})
                for index in indexes:
                    self.waiting.pop(index, None)
            case Refused():
                self.refused.append(message)
                for index in message.indexes:
                    self.waiting.pop(index, None)
            case Ended():
                self.ended = message
        return message

    def take_until_closed(self) -> tuple[int, str]:
        """Take what comes until the master closes the socket; its code and reason."""
        try:
            while True:
                self.take()
        except SessionError:
            assert self.closed is not None
            return self.closed

    def _opened(self) -> Opened:
        while True:
            message = self.take()
            if isinstance(message, Opened):
                self.instance, self.window = message.instance, message.units
                return message
            if isinstance(message, Refused | Ended):
                raise SessionError(getattr(message, "message", ""))

    def _next(self) -> ToClient:
        until = time.monotonic() + self._timeout_s
        while not self._messages:
            if self.closed is not None:
                raise SessionError(f"The master closed the socket: {self.closed}", self.closed[0])
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                data = self._socket.recv(256 * 1024)
            except TimeoutError:
                raise
            except OSError:  # the connection was cut
                data = b""
            self._received(data)
        return self._messages.popleft()

    def _is_readable(self) -> bool:
        if self._messages or self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], 0)[0])

    def _received(self, data: bytes) -> None:
        if not data:
            self.closed = self.closed or (1006, "")
            return
        self._wire.receive_data(data)
        for event in self._wire.events():
            match event:
                case BytesMessage(data=part):
                    self._parts += part
                    if event.message_finished:
                        self._messages.append(decode_to_client(bytes(self._parts)))
                        self._parts.clear()
                case Ping():
                    self._send(event.response())
                case CloseConnection(code=code, reason=reason):
                    self.closed = (int(code), reason or "")
                    with suppress(OSError):  # who closed may not wait for the answer
                        self._send(event.response())

    def _send(self, event: Any) -> None:
        self._socket.sendall(self._wire.send(event))

    def _upgrade(self) -> None:
        body, status = b"", 0
        while True:
            self._socket.settimeout(self._timeout_s)
            data = self._socket.recv(64 * 1024)
            self._wire.receive_data(data or None)
            for event in self._wire.events():
                match event:
                    case AcceptConnection():
                        return
                    case RejectConnection(status_code=status):
                        pass
                    case RejectData(data=part, body_finished=finished):
                        body += part
                        if finished:
                            raise SessionError(str(json.loads(body)["exception"]), status)
            if not data:
                raise SessionError("The master closed the connection.")
