# SPDX-License-Identifier: MIT
"""What tests of the controller API share: keys, commands, connections in memory, a server in a thread."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pydra.cluster.auth.challenge import key_id, sign, transcript
from pydra.cluster.auth.identity import Identity, ensure_identity
from pydra.cluster.controller import LOGIN_ROLE
from pydra.cluster.controller.web.authentication import Authentication
from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.calls import FunctionCalls
from pydra.cluster.controller.web.interface import ControllerService
from pydra.cluster.controller.web.limits import ControllerFactory, LimitedChannel
from pydra.cluster.controller.web.upgrade import Upgrades
from pydra.cluster.interfaces import OpenPayload, OpenResult, OpenUpload, Speakers

ADDRESS = "192.0.2.7"

WALL_TIME = 1_700_000_000.0
"""UTC seconds; 14 November 2023."""


@attrs.frozen
class Keys:
    """A master's identity and an administrator's key pair."""

    identity: Identity
    private: bytes
    public: bytes

    @property
    def binding(self) -> bytes:
        """SHA-256 of the master's certificate."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.identity.certificate_pem.decode())).digest()

    def write(self, path: Path, half: bytes | None = None) -> Path:
        """A master.key at the path, with the private key or another half."""
        path.write_bytes((half or self.private) + self.identity.certificate_pem)
        path.chmod(0o600)
        return path


@functools.cache
def keys(which: str = "master") -> Keys:
    """Keys made once in a test run; another name gives other ones."""
    with tempfile.TemporaryDirectory() as directory:
        identity = ensure_identity(Path(directory))
    private = rsa.generate_private_key(65537, 3072)
    return Keys(
        identity,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


@attrs.define
class Desk:
    """Commands that note how they were called; ``answers`` holds what they return, raise or wait for."""

    answers: dict[str, Any] = attrs.field(factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    def commands(self, *names: str) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        """A command for each name."""
        return {name: functools.partial(self._carry_out, name) for name in names}

    async def _carry_out(self, name: str, /, **arguments: Any) -> Any:
        self.calls.append((name, arguments))
        answer = self.answers.get(name)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Deferred):
            return await answer
        return answer(**arguments) if callable(answer) else answer


@attrs.frozen
class Reply:
    """One answer as it came over the connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The value of the body."""
        return json.loads(self.body)


class MemoryConnection:
    """A connection to a `MemoryServer`."""

    def __init__(self, server: MemoryServer, channel: LimitedChannel, transport: Any = None) -> None:
        self._server = server
        self.channel = channel
        self.transport = StringTransport()
        channel.makeConnection(transport or self.transport)

    def send(self, *parts: bytes) -> list[Reply]:
        """Send the bytes, in these parts, and read all whole answers."""
        for part in parts:
            self.channel.dataReceived(part)
        data = self.transport.value()
        self.transport.clear()
        return list(replies(data))

    def ask(self, verb: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """One request, well formed, and its answer."""
        (reply,) = self.send(request(verb, path, body, **headers))
        return reply

    def call(self, function: str, /, *args: Any, token: str | None = None, **kwargs: Any) -> Reply:
        """A call of a function, as our client makes it, with the server's own token if none is given."""
        body = json.dumps({"args": args, "kwargs": kwargs}).encode()
        token = self._server.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.ask("POST", f"/{function}", body, **{"Content-Type": "application/json"}, **headers)

    @property
    def is_closed(self) -> bool:
        """Whether the server closed it."""
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def close(self) -> None:
        """The other side goes away."""
        self.channel.connectionLost(Failure(ConnectionDone()))


class MemoryServer:
    """The controller API without sockets or TLS, on a clock that the test advances."""

    def __init__(
        self,
        commands: Mapping[str, Callable[..., Awaitable[Any]]],
        limits: Limits | None = None,
        random_bytes: Callable[[int], bytes] | None = None,
        open_upload: OpenUpload | None = None,
        speakers: Speakers | None = None,
        open_payload: OpenPayload | None = None,
        open_result: OpenResult | None = None,
    ) -> None:
        self.clock = Clock()
        counter = itertools.count(1)
        self.authentication = Authentication(
            self.clock,
            keys().identity,
            keys().public,
            random_bytes or (lambda size: next(counter).to_bytes(size, "big")),
        )
        self.limits = limits or Limits()
        self.calls = FunctionCalls(
            commands,
            self.authentication,
            self.limits,
            lambda size: bytes(size),
            open_upload,
            Upgrades(self.clock, self.limits, speakers) if speakers else None,
            open_payload,
            open_result,
        )
        self.factory = ControllerFactory(self.clock, lambda: WALL_TIME, self.calls, self.limits)
        self._connections: list[MemoryConnection] = []

    def connect(self, transport: Any = None) -> MemoryConnection:
        """A new connection, by another transport than one that a test may read if there is one."""
        address = attrs.make_class("Address", ["host"])(ADDRESS)
        connection = MemoryConnection(self, self.factory.buildProtocol(address), transport)
        self._connections.append(connection)
        return connection

    @functools.cached_property
    def token(self) -> str:
        """A token, given without the work of a login."""
        return self.authentication._tokens.issue(LOGIN_ROLE)

    def close(self) -> None:
        """Every connection goes away, and no timer is left."""
        for connection in self._connections:
            if connection.channel in self.factory.channels:
                connection.close()
        assert self.clock.getDelayedCalls() == []
        assert self.factory.channels == set()


def log_in(connection: MemoryConnection, private: bytes | None = None, **other: Any) -> Reply:
    """The answer to a whole login; ``other`` takes the place of what a good client says."""
    nonce = other.get("nonce", "11" * 32)
    challenge = connection.call("authenticate", nonce=nonce, token="").json["challenge"]
    signed = transcript(
        other.get("role", LOGIN_ROLE),
        key_id(keys().public),
        bytes.fromhex(nonce),
        bytes.fromhex(challenge),
        other.get("binding", keys().binding),
    )
    response = sign(private or keys().private, signed).hex()
    answering = other.get("answer_on", connection)
    answer: Reply = answering.call(
        "challenge_response", challenge=challenge, nonce=nonce, response=response, token=""
    )
    return answer


def request(verb: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request."""
    lines = [f"{verb} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def replies(data: bytes) -> Iterator[Reply]:
    """The answers in a stream of bytes."""
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", 0))
        yield Reply(int(status.split()[1]), headers, rest[:size])
        data = rest[size:]


class RunningServer:
    """A real server in a thread, with a reactor of its own."""

    def __init__(
        self,
        commands: Mapping[str, Callable[..., Awaitable[Any]]],
        limits: Limits | None,
        speakers: Speakers | None = None,
    ) -> None:
        self._speakers = speakers
        self.reactor = EPollReactor()
        self._authentication = Authentication(self.reactor, keys().identity, keys().public)
        self._commands = commands
        self._limits = limits
        self._thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False})
        self.port = 0
        self._service: ControllerService | None = None

    def begin(self) -> None:
        """Run the reactor and start the service."""
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Start a service, on the port that it had before."""
        self._service = ControllerService(
            self.reactor,
            lambda: WALL_TIME,
            keys().identity,
            "127.0.0.1",
            self.port,
            self._commands,
            self._authentication,
            self._limits,
            speakers=self._speakers,
        )
        self.port = self.run(self._service.start)

    def stop(self) -> None:
        """Stop the service."""
        assert self._service is not None
        self.run(self._service.stop)

    def forget_logins(self) -> None:
        """No token is valid any more, as after their lifetime."""
        self.run(self._authentication._tokens._live.clear)

    def run(self, ask: Callable[[], Any]) -> Any:
        """What a function or coroutine answers in the reactor's thread."""
        done = threading.Event()
        outcome: list[Any] = []

        async def inside() -> None:
            try:
                answer = ask()
                outcome.append(await answer if hasattr(answer, "__await__") else answer)
            except Exception as fault:  # noqa: BLE001 - it is raised again in the test's thread
                outcome.append(fault)
            done.set()

        self.reactor.callFromThread(lambda: Deferred.fromCoroutine(inside()))
        assert done.wait(90)
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def end(self) -> None:
        """Stop the service and the reactor; nothing of it is left."""
        self.stop()
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(90)
        assert not self._thread.is_alive()
        self.reactor._poller.close()
        self.reactor.waker.connectionLost(Failure(ConnectionDone()))


@contextmanager
def running_server(
    commands: Mapping[str, Callable[..., Awaitable[Any]]],
    limits: Limits | None = None,
    speakers: Speakers | None = None,
) -> Iterator[RunningServer]:
    """A real server, ended with the block."""
    server = RunningServer(commands, limits, speakers)
    server.begin()
    try:
        yield server
    finally:
        server.end()
