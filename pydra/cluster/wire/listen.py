# SPDX-License-Identifier: MIT
"""The side that is dialled: one port, on which only the pinned master gets a link."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger, LogLevel
from twisted.protocols.tls import TLSMemoryBIOProtocol

from pydra.cluster.interfaces import LinkUser
from pydra.cluster.wire.connection import BULK, CONTROL, Encryption, PeerConnection
from pydra.cluster.wire.messages import decode_to_node
from pydra.cluster.wire.pace import Pace
from pydra.cluster.wire.pair import LinkPair
from pydra.cluster.wire.wide_tls import WideTLSFactory

PENDING_LIMIT = 32
"""
Connections that are not part of a link yet. For a further one the oldest is closed that did not show the
master's key, so strangers who say nothing cannot keep it out.
"""

STRANGERS_TOLD, STRANGERS_TOLD_PER_S = 20, 0.1
"""Connections that came to nothing are logged at once, and then that often; more only for debugging."""


class MasterListener:
    """
    Accepts links of one master.

    A newer link of it replaces the older one, which is told down first: a master that lost its power does
    not close its connections.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,  # IReactorTime and IReactorTCP in one
        tls: Encryption,
        interface: str,
        port: int,
        master_fingerprint: str,
        user: LinkUser,
    ) -> None:
        self._reactor = reactor
        self._creator = tls.connections(master_fingerprint, [CONTROL, BULK])
        self._interface = interface
        self._port = port
        self._user = user
        self._listening: IListeningPort | None = None
        self._pending: set[PeerConnection] = set()
        self._strangers: dict[PeerConnection, None] = {}
        """Those of them that did not show the master's key, in their order."""
        self._linked: set[PeerConnection] = set()
        self._halves: dict[tuple[bytes, bytes], PeerConnection] = {}
        self._pair: LinkPair | None = None
        self._telling = Pace(reactor, STRANGERS_TOLD_PER_S, STRANGERS_TOLD)
        self._waiting: list[Deferred[None]] = []

    def start(self) -> int:
        """
        Listen; the number of the port, which the system chose if it was 0. `CannotListenError` if it is
        taken.
        """
        factory = _BoundedTLSFactory(self._creator, False, _Connections(self), self._reactor)
        self._listening = listening = self._reactor.listenTCP(self._port, factory, interface=self._interface)
        address: Any = listening.getHost()  # an IPv4Address or IPv6Address
        port: int = address.port
        return port

    async def stop(self) -> None:
        """Listen no more and end the link; returns when nothing is open."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        if self._pair is not None:
            self._pair.end("stopped")
        for connection in list(self._pending):
            connection.abort("stopped")
        if self._pending or self._linked:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def new_connection(self) -> PeerConnection | None:
        """A connection for someone who knocked; None if the master itself did too often."""
        if self._listening is None:
            return None
        if len(self._pending) >= PENDING_LIMIT:
            oldest = next(iter(self._strangers), None)
            if oldest is None:
                return None
            del self._strangers[oldest]
            oldest.abort("others came after it")
        connection = PeerConnection(self._reactor, self._handshaken, self._connection_lost)
        self._pending.add(connection)
        self._strangers[connection] = None
        return connection

    def _handshaken(self, connection: PeerConnection) -> None:
        self._strangers.pop(connection, None)
        if connection.protocol in (CONTROL, BULK):
            connection.expect_session(self._session_received)
        else:
            connection.abort("it speaks another protocol")

    def _session_received(self, connection: PeerConnection, session: bytes) -> None:
        role = connection.protocol
        assert role is not None
        other = self._halves.pop((session, BULK if role == CONTROL else CONTROL), None)
        if other is None:
            if (session, role) in self._halves:
                connection.abort("it used the name of another connection")
            else:
                self._halves[session, role] = connection
            return
        control, bulk = (connection, other) if role == CONTROL else (other, connection)
        for half in (control, bulk):
            self._pending.discard(half)
            self._linked.add(half)
        if self._pair is not None:
            self._pair.end("a newer connection of the master replaced it")
        pair = LinkPair(self._reactor, False, decode_to_node, self._user, _nothing, self._pair_ended)
        self._pair = pair
        pair.attach_control(control)
        pair.attach_bulk(bulk)

    def _pair_ended(self, reason: str) -> None:
        self._pair = None

    def _connection_lost(self, connection: PeerConnection, reason: str) -> None:
        self._strangers.pop(connection, None)
        if connection in self._pending:
            self._pending.discard(connection)
            level = LogLevel.warn if self._telling.take() else LogLevel.debug
            self.log.emit(
                level,
                "A connection from {peer} came to nothing: {reason}",
                peer=connection.peer_address,
                reason=reason,
            )
            for key in [key for key, half in self._halves.items() if half is connection]:
                del self._halves[key]
        self._linked.discard(connection)
        if not self._pending and not self._linked:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)


def _nothing() -> None:
    """The node has nothing to do of its own when a link is up."""


class _Connections(Factory):
    """Makes the protocol of each accepted connection."""

    noisy = False

    def __init__(self, listener: MasterListener) -> None:
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:  # noqa: N802 - Twisted's
        """None closes the connection."""
        return self._listener.new_connection()


class _BoundedTLSFactory(WideTLSFactory):
    """Lets the wrapped factory refuse a connection, which Twisted's own does not expect."""

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]  # noqa: N802 - Twisted's allows None
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)
