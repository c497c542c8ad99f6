# SPDX-License-Identifier: MIT
"""One TLS connection between daemons, from the first byte until a protocol takes it over."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pydra.cluster.wire.at_once import write_at_once
from pydra.cluster.wire.wide_tls import widen
from pydra.errors import LinkLost

CONTROL = b"pydra-pb"
BULK = b"pydra-bulk"

HANDSHAKE_S = 10.0
"""Seconds in which a new connection must become part of a link."""

SESSION_SIZE = 16
"""
The dialling side begins both connections of a link with the same 16 bytes, so that the other knows which
belong together.
"""

SILENCE_MS = 15_000
"""Milliseconds after which the system gives up on data that is not acknowledged."""

_CLOSE_S = 2.0


class Encryption(Protocol):
    """Where the TLS connections of a daemon come from; see ``pydra.cluster.auth.tls.DaemonTLS``."""

    def connections(self, expected_fingerprint: str, protocols: list[bytes]) -> Any:
        """What Twisted calls a connection creator, hence Any; only that one peer gets through."""
        ...


@implementer(IHandshakeListener)
class PeerConnection(TwistedProtocol):
    """
    A connection that is not trusted with anything yet.

    ``handshaken`` is called when the pinned peer is known to be on the other side (as far as this side can
    know); ``session_received`` when, after `expect_session`, its first bytes are there; ``lost`` once, with
    the reason in words, whether a protocol was attached or not.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        handshaken: Callable[[PeerConnection], None],
        lost: Callable[[PeerConnection, str], None],
    ) -> None:
        self._reactor = reactor
        self._handshaken = handshaken
        self._lost = lost
        self._session_received: Callable[[PeerConnection, bytes], None] | None = None
        self._inner: IProtocol | None = None
        self._early = b""
        self._is_held = False
        self._refusal: str | None = None
        self._deadline = reactor.callLater(HANDSHAKE_S, self._too_late)

    # What the side that uses it asks.

    @property
    def protocol(self) -> bytes | None:
        """What ALPN agreed upon."""
        name: bytes | None = self._tls.negotiatedProtocol
        return name

    @property
    def peer_address(self) -> str:
        """The address of the other side."""
        address: str = self._tls.getPeer().host
        return address

    def expect_session(self, received: Callable[[PeerConnection, bytes], None]) -> None:
        """Wait for the bytes that name the link."""
        self._session_received = received

    def write(self, data: bytes) -> None:
        """Send bytes, before a protocol is attached."""
        self._tls.write(data)

    def attach(self, inner: IProtocol) -> None:
        """Hand the connection over to a protocol, for good."""
        if self._deadline.active():
            self._deadline.cancel()
        self._inner = inner
        inner.makeConnection(self._tls)

    def widen(self) -> None:
        """Read and write much at a time: it is for bulk."""
        widen(self._tls)

    def hasten(self) -> None:
        """Write what is small at once: others wait for it."""
        write_at_once(self._reactor, self._tls)

    def hold(self) -> None:
        """Read nothing for now."""
        self._is_held = True
        self._tls.pauseProducing()

    def release(self) -> None:
        """Go on reading."""
        if self._is_held:
            self._is_held = False
            early, self._early = self._early, b""
            self._tls.resumeProducing()
            if early:
                self.dataReceived(early)

    def lose(self) -> None:
        """Close when all is written, and in any case soon."""
        if self._deadline.active():
            self._deadline.cancel()
        if self._is_held:
            self.abort("closed")  # nobody would read the answer to a polite end
        elif self.connected:
            self._deadline = self._reactor.callLater(_CLOSE_S, self.abort, "closed")
            self._tls.loseConnection()

    def abort(self, reason: str) -> None:
        """Close at once."""
        self._refusal = self._refusal or reason
        if self.connected:
            self._tls.abortConnection()

    # What Twisted and the verification of the peer tell.

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's
        """There is a TCP connection; the handshake begins."""
        tls: Any = self.transport  # the TLS protocol of Twisted offers far more than its interface says
        tcp: Any = tls.transport
        self._tls = tls
        is_tcp: bool = ITCPTransport.providedBy(tcp)
        if is_tcp:
            tcp.setTcpNoDelay(True)
            tcp.setTcpKeepAlive(True)
            handle = tcp.getHandle()
            if isinstance(handle, socket.socket):
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)

    def peer_refused(self, reason: str) -> None:
        """The other side showed a wrong key; the connection is about to be lost."""
        self._refusal = f"this is not the expected daemon: {reason}"

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's
        """The other side has the pinned key."""
        self._handshaken(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        """Bytes for the attached protocol, or the session."""
        if self._inner is not None and not self._is_held:
            self._inner.dataReceived(data)
            return
        self._early += data
        if self._inner is None:
            self._read_session()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's
        """The connection is gone."""
        self.connected = 0
        if self._deadline.active():
            self._deadline.cancel()
        words = self._refusal or in_words(reason)
        if self._inner is not None:
            self._inner.connectionLost(Failure(LinkLost(words)))
        self._lost(self, words)

    def _read_session(self) -> None:
        received = self._session_received
        if len(self._early) > SESSION_SIZE:
            self.abort("it spoke too early")
        elif received is not None and len(self._early) == SESSION_SIZE:
            self._session_received = None
            session, self._early = self._early, b""
            received(self, session)

    def _too_late(self) -> None:
        self.abort(f"it was not ready within {HANDSHAKE_S:g} s")


def in_words(reason: Failure) -> str:
    """Why a connection was not made or was lost, for people."""
    fault = reason.value
    if reason.check(error.ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if reason.check(error.TimeoutError, error.TCPTimedOutError, error.UserError):
        return "there is no answer from there"
    if reason.check(error.DNSLookupError, error.UnknownHostError):
        return "the name of the host is not known"
    if isinstance(fault, SSL.Error):
        faults = str(fault)
        if "alert" in faults:
            return "it refused our certificate; see that it expects the fingerprint of this daemon"
        return "it does not speak TLS 1.3 as a daemon of Pydra does"
    if reason.check(error.ConnectionDone):
        return "it closed the connection"
    if reason.check(error.ConnectionLost, error.ConnectionAborted):
        return "the connection was cut"
    return str(fault) or type(fault).__name__
