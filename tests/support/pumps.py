# SPDX-License-Identifier: MIT
"""
A network in memory.

Listening and connecting is as on a reactor, time as on a Clock, and bytes move only when a test says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

T = TypeVar("T")

HOST = "127.0.0.1"


@implementer(ITransport)
class MemoryTransport:
    """One end of a connection in memory; what is written waits in ``outgoing`` until the network moves it."""

    def __init__(self, network: MemoryNetwork, host: IPv4Address, peer: IPv4Address) -> None:
        self.network = network
        self.host = host
        self.peer_address = peer
        self.protocol: Any = None
        self.other: MemoryTransport
        self.outgoing: deque[bytes] = deque()
        self.written = 0
        self.received = 0
        self.is_paused = False
        self.is_closing = False
        self.is_lost = False

    def write(self, data: bytes) -> None:
        if data and not self.is_closing and not self.is_lost:
            self.outgoing.append(bytes(data))
            self.written += len(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.is_closing = True

    def abortConnection(self) -> None:
        self.is_closing = True
        self.outgoing.clear()

    def getPeer(self) -> IPv4Address:
        return self.peer_address

    def getHost(self) -> IPv4Address:
        return self.host

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def step(self, size: int | None = None) -> bool:
        """Move one write (or its first ``size`` bytes) to the other end, or close; False if neither."""
        if self.is_lost:
            return False
        if self.outgoing and not self.other.is_paused and not self.other.is_lost:
            data = self.outgoing.popleft()
            if size is not None and len(data) > size:
                self.outgoing.appendleft(data[size:])
                data = data[:size]
            self.other.deliver(data)
            return True
        if self.is_closing and (not self.outgoing or self.other.is_lost):
            self.lost(ConnectionDone())
            self.other.lost(ConnectionDone())
            return True
        return False

    def deliver(self, data: bytes) -> None:
        if self.is_closing and not self.outgoing:
            return
        self.received += len(data)
        try:
            self.protocol.dataReceived(data)
        except Exception as fault:  # noqa: BLE001 - what a reactor does, and the test is told
            self.network.faults.append(fault)
            self.lost(fault)

    def lost(self, reason: Exception) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connectionLost(Failure(reason))


@implementer(IConnector)
class _Connector:
    """What a client factory is told of."""

    def __init__(self, transport: MemoryTransport | None, port: int) -> None:
        self.transport = transport
        self.port = port

    def stopConnecting(self) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def connect(self) -> None:
        raise NotImplementedError

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", HOST, self.port)


class _ListeningPort:
    def __init__(self, network: MemoryNetwork, port: int, factory: Any) -> None:
        self._network = network
        self._port = port
        self.factory = factory

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", HOST, self._port)

    def stopListening(self) -> None:
        self._network.listening.pop(self._port, None)


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver, IHostnameResolver)
class MemoryNetwork(Clock):
    """A reactor of one host: ``step`` moves one write, ``run`` moves everything and lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.listening: dict[int, _ListeningPort] = {}
        self.transports: list[MemoryTransport] = []
        self.faults: list[Exception] = []
        self.dials: list[float] = []
        self._next_port = 40_000

    # A reactor.

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> _ListeningPort:
        if not port:
            self._next_port += 1
            port = self._next_port
        listening = self.listening[port] = _ListeningPort(self, port, factory)
        return listening

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> _Connector:
        self.dials.append(self.seconds())
        listening = self.listening.get(port)
        if listening is None:
            connector = _Connector(None, port)
            self.callLater(0, factory.clientConnectionFailed, connector, Failure(ConnectionRefusedError()))
            return connector
        self._next_port += 1
        here, there = IPv4Address("TCP", HOST, self._next_port), IPv4Address("TCP", HOST, port)
        client, server = MemoryTransport(self, here, there), MemoryTransport(self, there, here)
        client.other, server.other = server, client
        self.callLater(0, self._join, client, server, factory, listening.factory)
        return _Connector(client, port)

    def _join(self, client: MemoryTransport, server: MemoryTransport, ours: Any, theirs: Any) -> None:
        server.protocol = theirs.buildProtocol(server.getPeer())
        client.protocol = ours.buildProtocol(client.getPeer())
        if client.protocol is None:
            return
        if server.protocol is None:
            client.protocol.makeConnection(client)
            client.lost(ConnectionLost())
            return
        self.transports += [client, server]
        server.protocol.makeConnection(server)
        client.protocol.makeConnection(client)

    @property
    def nameResolver(self) -> MemoryNetwork:
        return self

    def resolveHostName(
        self, receiver: Any, hostName: str, portNumber: int = 0, *rest: Any, **more: Any
    ) -> Any:
        receiver.resolutionBegan(self)
        receiver.addressResolved(IPv4Address("TCP", HOST, portNumber))
        receiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """A look-up is over before it could be cancelled."""

    # What a test does.

    def step(self, size: int | None = None) -> bool:
        """What is due now happens, then one write moves; False if nothing did."""
        self.advance(0)
        return any(transport.step(size) for transport in list(self.transports))

    def settle(self, steps: int | None = None, size: int | None = None) -> int:
        """Move everything that can move without time passing; the number of steps it took."""
        done = 0
        while (steps is None or done < steps) and self._go_on(size):
            done += 1
            assert done < 100_000, "the network does not come to rest"
        return done

    def _go_on(self, size: int | None) -> bool:
        if self.step(size):
            return True
        return any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())

    def run(self, seconds: float, tick: float = 0.1) -> None:
        """Let time pass, and everything happen in it."""
        end = self.seconds() + seconds
        self.settle()
        while self.seconds() < end - 1e-9:
            self.advance(min(tick, end - self.seconds()))
            self.settle()

    def drop(self, transport: MemoryTransport | None = None) -> None:
        """The cable is pulled: one connection, or all of them, is lost at both ends."""
        for end in list(self.transports) if transport is None else [transport, transport.other]:
            end.outgoing.clear()
            end.lost(ConnectionLost())

    def open_transports(self) -> list[MemoryTransport]:
        """The ends that are not lost."""
        return [transport for transport in self.transports if not transport.is_lost]


def result_of(deferred: Deferred[T]) -> T:
    """The result that a Deferred has now; raises what it failed with, and AssertionError if it has none."""
    results: list[T] = []
    failures: list[Failure] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    assert results, "there is no result yet"
    return results[0]


def started(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """A coroutine, begun."""
    return Deferred.fromCoroutine(coroutine)


def outcome_of(action: Callable[[], T]) -> T | Exception:
    """What a call returns or raises."""
    try:
        return action()
    except Exception as fault:  # noqa: BLE001 - the test looks at it
        return fault
