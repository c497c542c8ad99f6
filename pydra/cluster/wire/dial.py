# SPDX-License-Identifier: MIT
"""The side that dials: it keeps a link to one node, and dials again whenever there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IResolutionReceiver
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pydra.cluster.interfaces import LinkUser
from pydra.cluster.wire.connection import (
    BULK,
    CONTROL,
    HANDSHAKE_S,
    SESSION_SIZE,
    Encryption,
    PeerConnection,
    in_words,
)
from pydra.cluster.wire.dial_states import DialActions, dial_machine
from pydra.cluster.wire.messages import decode_to_master
from pydra.cluster.wire.pair import LinkPair
from pydra.cluster.wire.wide_tls import WideTLSFactory

FIRST_REST_S = 0.2
LONGEST_REST_S = 5.0
CONNECT_S = 5.0
"""Seconds that one address of a node has to answer."""
JITTER = 0.25
"""A rest is up to this share longer or shorter, so that nodes do not come back in step."""


class NodeDialer:
    """
    Keeps a link from the master to one node; `ConfigError` if the fingerprint is none.

    ``Link`` and ``Bulk`` of an earlier link are dead when ``link_down`` was called.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,  # IReactorTime, IReactorTCP and IReactorPluggableNameResolver in one
        tls: Encryption,
        host: str,
        port: int,
        fingerprint: str,
        user: LinkUser,
        random: Random,
    ) -> None:
        self._reactor = reactor
        self._creators = {name: tls.connections(fingerprint, [name]) for name in (CONTROL, BULK)}
        self._host = host
        self._port = port
        self._user = user
        self._random = random
        self._rest_s = FIRST_REST_S
        self._resting: IDelayedCall | None = None
        self._attempt: DialAttempt | None = None
        self._told = ""
        self._linked_at: float | None = None
        self._machine = dial_machine(
            DialActions(self._dial, self._note_link, self._rest, self._stop_resting, self._hang_up)
        )

    def start(self) -> None:
        """Dial now; `link_up` of the user follows as soon as the node can be reached."""
        self._machine.start()

    async def stop(self) -> None:
        """Dial no more; returns when nothing is open."""
        self._machine.stop()
        if self._attempt is not None:
            await self._attempt.gone()

    # What the machine wants done.

    def _dial(self) -> None:
        """Open both connections."""
        self._attempt = DialAttempt(
            self._reactor,
            self._creators,
            self._host,
            self._port,
            self._user,
            self._random.randbytes(SESSION_SIZE),
            self._machine.linked,
            self._machine.lost,
        )
        self._attempt.begin()

    def _note_link(self) -> None:
        """The failures are forgotten when the link has lasted; see `_rest`."""
        self._linked_at = self._reactor.seconds()
        self.log.info("Linked to the node at {host}:{port}", host=self._host, port=self._port)

    def _rest(self, reason: str) -> None:
        """
        Wait, longer after each failure, and say why once.

        A link that does not last is a failure too: a node that refuses this master would otherwise be
        dialled five times a second for ever.
        """
        linked_at, self._linked_at = self._linked_at, None
        if linked_at is not None and self._reactor.seconds() - linked_at >= LONGEST_REST_S:
            self._rest_s = FIRST_REST_S
            self._told = ""
        if reason != self._told:
            self._told = reason
            self.log.warn(
                "There is no link to the node at {host}:{port}: {reason}",
                host=self._host,
                port=self._port,
                reason=reason,
            )
        rest_s = self._rest_s * self._random.uniform(1.0 - JITTER, 1.0 + JITTER)
        self._rest_s = min(LONGEST_REST_S, self._rest_s * 2)
        self._resting = self._reactor.callLater(min(LONGEST_REST_S, rest_s), self._machine.rested)

    def _stop_resting(self) -> None:
        """Do not wait any longer."""
        if self._resting is not None and self._resting.active():
            self._resting.cancel()

    def _hang_up(self) -> None:
        """Close what is open or being opened."""
        if self._attempt is not None:
            self._attempt.end("stopped")


@implementer(IResolutionReceiver)
class _Resolved:
    """Gathers the addresses of a host name."""

    def __init__(self, found: Deferred[list[str]]) -> None:
        self._found = found
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: object) -> None:  # noqa: N802, N803 - Twisted's
        """Nothing is known yet."""

    def addressResolved(self, address: Any) -> None:  # noqa: N802 - Twisted's; IPv4Address or IPv6Address
        """One more address."""
        self._addresses.append(address.host)

    def resolutionComplete(self) -> None:  # noqa: N802 - Twisted's
        """There are no more."""
        self._found.callback(self._addresses)


class DialAttempt:
    """
    One attempt to get a link: the control connection, then the bulk connection, then the link itself.

    ``linked`` is called when it is up; ``lost`` once, in words, when it is not or not any more.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,  # as above
        creators: Mapping[bytes, Any],
        host: str,
        port: int,
        user: LinkUser,
        session: bytes,
        linked: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._creators = creators
        self._host = host
        self._port = port
        self._session = session
        self._linked = linked
        self._lost = lost
        self._pair = LinkPair(reactor, True, decode_to_master, user, self._came_up, self._pair_ended)
        self._open: set[PeerConnection] = set()
        self._connecting: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._is_over = False
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        """Dial."""
        self._deadline = self._reactor.callLater(
            HANDSHAKE_S, self.end, f"it was not ready within {HANDSHAKE_S:g} s"
        )
        self._connect(CONTROL)

    def end(self, reason: str) -> None:
        """Close everything; ``lost`` follows if it was not called."""
        self._pair.end(reason)

    async def gone(self) -> None:
        """Returns when all connections are closed."""
        if self._open or self._connecting is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def _connect(self, protocol: bytes, address: str | None = None) -> None:
        """Dial; the bulk connection goes where the control connection found the node."""
        inner = Factory.forProtocol(self._new_connection)
        factory = WideTLSFactory(self._creators[protocol], True, inner, self._reactor)
        connecting = Deferred.fromCoroutine(self._connect_to_any(factory, address))
        self._connecting = connecting
        done = connecting.addBoth(self._connected)
        done.addErrback(lambda fault: self.log.failure("Dialling failed", fault))

    async def _connect_to_any(self, factory: WideTLSFactory, address: str | None) -> None:
        """Connect to the first address of the host that answers."""
        addresses = [address] if address else await self._addresses()
        for number, candidate in enumerate(addresses):
            endpoint_type = TCP6ClientEndpoint if ":" in candidate else TCP4ClientEndpoint
            endpoint = endpoint_type(self._reactor, candidate, self._port, timeout=CONNECT_S)
            try:
                await endpoint.connect(factory)
            except error.ConnectError:
                if number + 1 == len(addresses):
                    raise
            else:
                return

    async def _addresses(self) -> list[str]:
        found: Deferred[list[str]] = Deferred()
        self._reactor.nameResolver.resolveHostName(_Resolved(found), self._host, self._port)
        addresses = await found
        if not addresses:
            raise error.DNSLookupError
        return addresses

    def _new_connection(self) -> PeerConnection:
        connection = PeerConnection(self._reactor, self._handshaken, self._connection_lost)
        self._open.add(connection)
        return connection

    def _connected(self, result: object) -> None:
        self._connecting = None
        if isinstance(result, Failure):
            self.end(in_words(result))
            self._tell_if_gone()

    def _handshaken(self, connection: PeerConnection) -> None:
        if connection.protocol == CONTROL:
            connection.write(self._session)
            self._pair.attach_control(connection)
            self._connect(BULK, connection.peer_address)
        elif connection.protocol == BULK:
            connection.write(self._session)
            self._pair.attach_bulk(connection)
        else:
            self.end("it does not speak the protocol of this version of Pydra")
            connection.abort("it speaks another protocol")

    def _connection_lost(self, connection: PeerConnection, reason: str) -> None:
        self._open.discard(connection)
        self.end(reason)
        self._tell_if_gone()

    def _came_up(self) -> None:
        self._cancel_deadline()
        self._linked()

    def _pair_ended(self, reason: str) -> None:
        self._is_over = True
        self._cancel_deadline()
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in list(self._open):
            connection.lose()
        self._lost(reason)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def _tell_if_gone(self) -> None:
        if not self._open and self._connecting is None:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)
