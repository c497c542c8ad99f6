# SPDX-License-Identifier: MIT
"""
The HTTP channel that refuses before it buffers.

Twisted's parser decides what a request is; this one adds the limits of size, time and number, and refuses
what two parsers could read differently: folded headers, bare line feeds, a length beside chunks, a second
length, a missing or second ``Host``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from typing_extensions import override

from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.request import ControllerRequest, Interface, Upgraded, plain_answer
from pydra.cluster.wire.at_once import write_at_once
from pydra.cluster.wire.wide_tls import WideTLSFactory

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall


_TOO_LARGE: Final = "The request is larger than the limit of {limit} bytes."
_TOO_SLOW: Final = "The request did not arrive in time."
_NOT_HTTP: Final = "This is not a request that can be read in one way only."


class LimitedChannel(HTTPChannel):
    """One connection of a controller."""

    factory: ControllerFactory
    transport: Any  # ITransport, which lacks abortConnection
    _refused = False
    _dropped = 0
    _deadline: DelayedCall | None = None
    address = ""
    number = 0
    """Unlike any other connection's, as long as the daemon runs."""
    body_left = 0
    upgraded: Upgraded | None = None
    """What has taken the connection over."""
    abortTimeout = 5  # noqa: N815 - Twisted's name

    @override
    def connectionMade(self) -> None:
        super().connectionMade()
        write_at_once(self.factory.clock, self.transport)
        limits = self.factory.limits
        self.totalHeadersSize = limits.headers
        self.maxHeaders = limits.header_count
        self._deadline = self.callLater(limits.headers_s, self._too_slow)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end_deadline()
        self.factory.left(self)
        super().connectionLost(reason)
        if self.upgraded is not None:
            self.upgraded.connection_lost()

    @override
    def dataReceived(self, data: bytes) -> None:
        if self.upgraded is not None:
            self.upgraded.data_received(data)
            return
        if self._refused:
            self._dropped += len(data)
            if self._dropped > self.factory.limits.linger:
                self.transport.abortConnection()
            return
        super().dataReceived(data)
        if self._refused or self._handlingRequest:
            return
        if self.line_mode and b"\n" in self._buffer:
            self.refuse(400, "request", _NOT_HTTP)  # a line feed that ended no line
        elif (self.requests or self._buffer) and self._deadline is None:
            limits = self.factory.limits
            seconds = limits.headers_s if self.line_mode else limits.body_s
            self._deadline = self.callLater(seconds, self._too_slow)

    @override
    def lineReceived(self, line: bytes) -> None:
        if self._refused:
            return
        if line[:1] in (b" ", b"\t") or b"\n" in line or b"\r" in line:
            self.refuse(400, "request", _NOT_HTTP)
            return
        super().lineReceived(line)

    @override
    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(400, "request", _NOT_HTTP)

    @override
    def headerReceived(self, line: bytes) -> bool:
        if self._refused:
            return False
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        # Twisted takes any number of digits, and 'identity' beside a length.
        if (name == b"content-length" and not (value.isdigit() and len(value) < 19)) or (
            name == b"transfer-encoding" and value.lower() != b"chunked"
        ):
            self.refuse(400, "request", _NOT_HTTP)
            return False
        return bool(super().headerReceived(line))

    @override
    def allHeadersReceived(self) -> None:
        if self._refused:
            return
        request = self.requests[-1]
        headers = request.requestHeaders
        is_old = self._version == b"HTTP/1.0"
        hosts = headers.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or not (hosts or is_old) or (is_old and headers.hasHeader(b"Transfer-Encoding")):
            self.refuse(400, "request", _NOT_HTTP)
            return
        limit = self.body_left = self.factory.interface.body_limit(request) if self.length != 0 else 0
        if self.length is not None and self.length > limit:
            self._too_large()
            return
        if self._deadline is not None:
            limits = self.factory.limits
            self._deadline.reset(limits.upload_s if limit > limits.body else limits.body_s)
        super().allHeadersReceived()

    @override
    def allContentReceived(self) -> None:
        if self._refused:
            return
        self._end_deadline()
        super().allContentReceived()

    @override
    def rawDataReceived(self, data: bytes) -> None:
        if self.upgraded is not None:
            self.upgraded.data_received(data)  # it came together with the request for the upgrade
        else:
            super().rawDataReceived(data)

    @override
    def pauseProducing(self) -> None:
        if self.upgraded is not None:
            self.upgraded.write_blocked(True)
        else:
            super().pauseProducing()

    @override
    def resumeProducing(self) -> None:
        if self.upgraded is not None:
            self.upgraded.write_blocked(False)
        else:
            super().resumeProducing()

    def upgrade(self, answer: bytes, upgraded: Upgraded) -> None:
        """After this answer to the request at hand, the connection is another protocol's for good."""
        self.upgraded = upgraded
        self.write(answer)

    def abort(self) -> None:
        """Close at once."""
        self.transport.abortConnection()

    def body_received(self, data: bytes) -> bool:
        """Whether these bytes of body may be kept."""
        self.body_left -= len(data)
        if self.body_left < 0:
            self._too_large()
        return not self._refused

    def target(self) -> bytes:
        """The target of the request whose headers were read last."""
        path: bytes = self._path
        return path

    def read(self, on: bool) -> None:
        """Go on reading from the caller, or stop, while the body of a request comes."""
        if on:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    def refuse(self, status: int, code: str, text: str) -> None:
        """Answer the request that is being read, drop what follows, and close."""
        if self._refused:
            return
        self._refused = True
        self._buffer = b""
        self._end_deadline()
        self.setTimeout(None)
        self.transport.write(plain_answer(status, code, text))
        self.loseConnection()

    @override
    def loseConnection(self) -> None:
        super().loseConnection()
        # TLS waits for the other side to agree; it need not wait for ever.
        if self._deadline is None:
            limits = self.factory.limits
            seconds = limits.linger_s if self._refused or self.upgraded is not None else limits.idle_s
            self._deadline = self.callLater(seconds, self._give_up)

    @override
    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(400, "request", _NOT_HTTP)

    def _too_large(self) -> None:
        # Who is not logged in hears that first: his limit is another one.
        limit = self.factory.interface.body_limit(self.requests[-1])
        if limit < self.factory.limits.body:
            self.refuse(401, "unauthorized", "Log in first.")
        else:
            self.refuse(413, "request", _TOO_LARGE.format(limit=limit))

    def _too_slow(self) -> None:
        self._deadline = None
        self.refuse(408, "request", _TOO_SLOW)

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abortConnection()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class ControllerFactory(Factory[LimitedChannel]):
    """Makes a channel for each connection that is within the limits."""

    noisy = False

    def __init__(
        self, clock: IReactorTime, wall_clock: Callable[[], float], interface: Interface, limits: Limits
    ) -> None:
        self.clock = clock
        self._wall_clock = wall_clock
        self.interface = interface
        self.limits = limits
        self.channels: set[LimitedChannel] = set()
        self._per_address: Counter[str] = Counter()
        self._made = 0
        self._emptied: Deferred[None] | None = None
        self._date_at = -1
        self._date = b""

    def admits(self, address: IAddress | None) -> bool:
        """Whether one more connection from there is within the limits."""
        return (
            len(self.channels) < self.limits.connections
            and self._per_address[_host(address)] < self.limits.connections_per_address
        )

    @override
    def buildProtocol(self, addr: IAddress | None) -> LimitedChannel:
        # Any, because Twisted's own attributes are assigned that it has no types for.
        channel: Any = LimitedChannel()
        self._made += 1
        channel.number = self._made
        channel.factory = self
        channel.requestFactory = ControllerRequest
        channel.callLater = self.clock.callLater
        channel.timeOut = self.limits.idle_s
        channel.address = _host(addr)
        self.channels.add(channel)
        self._per_address[channel.address] += 1
        return cast("LimitedChannel", channel)

    def left(self, channel: LimitedChannel) -> None:
        """The connection is gone."""
        if channel in self.channels:
            self.channels.remove(channel)
            self._per_address[channel.address] -= 1
            if not self._per_address[channel.address]:
                del self._per_address[channel.address]
        if not self.channels and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def begin_closing(self) -> None:
        """Connections close after the answer that they wait for, and idle ones now."""
        for channel in list(self.channels):
            if channel.upgraded is not None:
                channel.upgraded.going_away()
            elif channel.requests:
                channel.persistent = 0
            else:
                channel.loseConnection()

    def all_closed(self) -> Deferred[None]:
        """Fires when no connection is left."""
        closed: Deferred[None] = Deferred()
        if self.channels:
            self._emptied = closed
        else:
            closed.callback(None)
        return closed

    def abort(self, *, busy: bool) -> None:
        """Cut the connections that nothing is being answered on, and with ``busy`` the others too."""
        for channel in list(self.channels):
            if busy or not channel.requests:
                channel.transport.abortConnection()

    def date(self) -> bytes:
        """The ``Date`` header line, made once a second."""
        now = int(self._wall_clock())
        if now != self._date_at:
            self._date_at = now
            self._date = b"Date: " + datetimeToString(now) + b"\r\n"
        return self._date

    def log(self, request: ControllerRequest) -> None:
        """Nothing is logged of a request that went well; Twisted calls this for each."""


class LimitedTLSFactory(WideTLSFactory):
    """Closes a connection beyond the limits before its handshake costs anything."""

    def __init__(
        self, context: IOpenSSLServerConnectionCreator, factory: ControllerFactory, clock: IReactorTime
    ) -> None:
        super().__init__(context, False, factory, clock)

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:  # TLSMemoryBIOProtocol, or None to refuse
        if not self.wrappedFactory.admits(addr):
            return None
        return super().buildProtocol(addr)


def _host(address: object) -> str:
    return str(getattr(address, "host", ""))
