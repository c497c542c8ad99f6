# SPDX-License-Identifier: MIT
"""One request of a controller and its answer, which is always JSON and always whole."""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, Protocol, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from typing_extensions import override

from pydra.cluster.controller.web.upload import Upload
from pydra.cluster.wire.wide_tls import widen

LARGE: Final = 256 * 1024
"""Bytes of a body for which much of a connection is read and written at a time."""

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
}
_COMMON: Final = (
    b"Content-Type: application/json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
)
_PACKED: Final = _COMMON.replace(b"application/json", b"application/vnd.msgpack")
_CLOSE: Final = b"Connection: close\r\n"
_LATER: Final = {429: b"Retry-After: 60\r\n", 503: b"Retry-After: 1\r\n", 507: b"Retry-After: 60\r\n"}


def error_body(
    code: str, text: str, errors: dict[str, list[str]] | None = None, traceback: str = ""
) -> bytes:
    """The JSON of an error, in the form that every client reads."""
    return msgspec.json.encode(
        {"exception": text, "code": code, "errors": errors or None, "traceback": traceback}
    )


def plain_answer(status: int, code: str, text: str) -> bytes:
    """A whole answer for a request that could not be read, after which the connection is closed."""
    return _assemble(status, error_body(code, text), _CLOSE)


def _assemble(status: int, body: bytes, headers: bytes) -> bytes:
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"".join((_STATUS_LINES[status], _COMMON, headers, length, body))


class Interface(Protocol):
    """Where whole requests go."""

    def body_limit(self, request: ControllerRequest) -> int:
        """Bytes of body that the caller may send, as its headers tell."""
        ...

    def open_upload(self, request: ControllerRequest) -> Upload | None:
        """Where the body of the request goes instead of memory; None for memory."""
        ...

    def process(self, request: ControllerRequest) -> None:
        """Answer the request, now or later."""
        ...


class Upgraded(Protocol):
    """What a connection belongs to after an upgrade."""

    def data_received(self, data: bytes) -> None: ...  # noqa: D102 - as its name says, and those below
    def connection_lost(self) -> None: ...  # noqa: D102
    def write_blocked(self, blocked: bool) -> None: ...  # noqa: D102
    def going_away(self) -> None: ...  # noqa: D102


class Site(Protocol):
    """What all connections share."""

    @property
    def clock(self) -> IReactorTime: ...  # noqa: D102
    @property
    def interface(self) -> Interface: ...  # noqa: D102

    def date(self) -> bytes:
        """The ``Date`` header line."""
        ...


class Caller(Protocol):
    """The connection that a request came on."""

    address: str
    number: int
    """Unlike any other connection's, as long as the daemon runs."""
    persistent: int
    """Whether it stays after the answer."""

    @property
    def factory(self) -> Site: ...  # noqa: D102

    def body_received(self, data: bytes) -> bool:
        """Whether these bytes of body may be kept."""
        ...

    def target(self) -> bytes:
        """The target of the request whose headers were read last."""
        ...

    def read(self, on: bool) -> None:
        """Go on reading from the caller, or stop, while the body of a request comes."""
        ...

    def write(self, data: bytes) -> None:
        """Send something."""
        ...

    def upgrade(self, answer: bytes, upgraded: Upgraded) -> None:
        """After this answer to the request at hand, the connection is another protocol's for good."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's
        """Close when all was written."""
        ...


class ControllerRequest(Request):
    """
    A request whose body is in memory, within the limits of its channel.

    It is answered once; after its caller went away, answering does nothing.
    """

    content: BytesIO
    is_gone = False
    upload: Upload | None = None
    """Where the body goes, if it is not kept in memory."""
    waiting: Deferred[Any] | None = None
    """What is cancelled when the caller goes away."""

    def __init__(self, channel: HTTPChannel, queued: object = False) -> None:
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

    @property
    def caller(self) -> Caller:
        """Its connection, until it is answered."""
        return cast("Caller", self.channel)

    @override
    def gotLength(self, length: int | None) -> None:
        # Twisted would write a large body to a file, in the reactor.
        self.content = BytesIO()
        if (length or 0) > LARGE:
            self.widen()
        self.upload = self.caller.factory.interface.open_upload(self)

    @override
    def parseCookies(self) -> None:
        """There are none."""

    @override
    def handleContentChunk(self, data: bytes) -> None:
        if not self.caller.body_received(data):
            return
        if self.upload is not None:
            self.upload.received(data)
        else:
            self.content.write(data)

    @override
    def process(self) -> None:
        self.caller.factory.interface.process(self)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_gone = True
        super().connectionLost(reason)
        if self.waiting is not None:
            self.waiting.cancel()
        if self.upload is not None:
            self.upload.abort()

    def header(self, name: bytes) -> str | None:
        """The value of a header; None if it is missing, ambiguous or not ASCII."""
        values = self.requestHeaders.getRawHeaders(name)
        if values is None or len(values) != 1 or not values[0].isascii():
            return None
        return str(values[0], "ascii")

    def widen(self) -> None:
        """Read and write much of the connection at a time."""
        widen(self.channel.transport)

    def begin(self, size: int) -> None:
        """Begin an answer of so many bytes that are no JSON, which go to the channel; ``finish`` ends it."""
        if size > LARGE:
            self.widen()
        headers = self.caller.factory.date()
        if not self.caller.persistent:
            headers += _CLOSE
        length = b"Content-Length: %d\r\n\r\n" % size
        self.caller.write(b"".join((_STATUS_LINES[200], _PACKED, headers, length)))
        self.startedWriting = 1
        self.sentLength = size

    def answer(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Send a JSON answer; ``headers`` are further lines, each ended."""
        if self.is_gone or self.finished:
            return
        headers += _LATER.get(status, b"")
        if not self.caller.persistent:
            headers += _CLOSE
        whole = _assemble(status, body, headers + self.caller.factory.date())
        # One write, so one TLS record and one segment: Twisted's own would be three.
        self.caller.write(whole[: -len(body)] if self.method == b"HEAD" and body else whole)
        self.startedWriting = 1
        self.sentLength = len(body)
        self.finish()
