# SPDX-License-Identifier: MIT
"""TLS that joins records: the same bytes, in fewer pieces."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.wire.connection import BULK
from pydra.cluster.wire.wide_tls import JOINED, RECORD, WIDE, WideTLSFactory, widen
from tests.support.links import identity
from tests.support.pumps import MemoryNetwork, MemoryTransport


class End(Protocol):
    """Keeps the pieces that come."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.gone = False
        self.gone_after = -1
        self.aborts_at = -1

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.pieces.append(data)
        if len(self.pieces) == self.aborts_at:
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: object = None) -> None:
        """That was all."""
        self.gone = True
        self.gone_after = len(self.pieces)


class Ends:
    """Two ends that have shaken hands."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.here, self.there = End(), End()
        names = {True: ("one", "two", self.here), False: ("two", "one", self.there)}
        factories = {}
        for is_client, (name, other, end) in names.items():
            creator = DaemonTLS(identity(name)).connections(identity(other).fingerprint, [BULK])
            inner = Factory.forProtocol(lambda end=end: end)  # type: ignore[misc]
            factories[is_client] = WideTLSFactory(creator, is_client, inner, self.network)
        self.network.listenTCP(1, factories[False])
        self.network.connectTCP("two", 1, factories[True])
        self.network.settle()
        self.ours: MemoryTransport = self.network.transports[0]

    def write(self, data: bytes) -> None:
        """Send from here."""
        transport: Any = self.here.transport
        transport.write(data)

    def arrives(self, data: bytes) -> None:
        """These encrypted bytes come in one read."""
        self.ours.other.deliver(data)


@pytest.fixture
def ends() -> Ends:
    """Two ends."""
    return Ends()


def test_records_of_one_read_go_up_joined(ends: Ends) -> None:
    """Ten records that come together are one piece to who reads them."""
    data = bytes(range(256)) * (10 * RECORD // 256)
    ends.write(data)
    encrypted = b"".join(ends.ours.outgoing)
    ends.ours.outgoing.clear()
    ends.arrives(encrypted)
    assert [data] == ends.there.pieces


def test_records_of_one_write_go_down_joined(ends: Ends) -> None:
    """Ten records that are written together are one write below, so one call of the system."""
    ends.write(bytes(10 * RECORD))
    assert 1 == len(ends.ours.outgoing)


def test_no_piece_is_much_larger_than_the_join(ends: Ends) -> None:
    """However much comes at once, pieces stay of a size that a processor's cache holds."""
    data = bytes(5 * JOINED + 77)
    ends.write(data)
    encrypted = b"".join(ends.ours.outgoing)
    ends.ours.outgoing.clear()
    ends.arrives(encrypted)
    assert data == b"".join(ends.there.pieces)
    assert max(map(len, ends.there.pieces)) <= JOINED + RECORD


@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1, JOINED, JOINED + 1, 3 * JOINED + 5])
@pytest.mark.parametrize("cut", [999, RECORD, 100_000])
def test_all_bytes_arrive_in_order(ends: Ends, size: int, cut: int) -> None:
    """Whatever is written, and wherever the network cuts it, the same comes out."""
    data = (b"%d," % size) * (size // 2 + 1)
    data = data[:size]
    ends.write(data)
    ends.network.settle(size=cut)
    assert data == b"".join(ends.there.pieces)


def test_what_came_before_the_end_is_handed_up_first(ends: Ends) -> None:
    """Bytes and the end of TLS in one read: all bytes are read before the connection is lost."""
    data = bytes(3 * RECORD)
    ends.write(data)
    transport: Any = ends.here.transport
    transport.loseConnection()
    encrypted = b"".join(ends.ours.outgoing)
    ends.ours.outgoing.clear()
    ends.arrives(encrypted)
    assert data == b"".join(ends.there.pieces)
    ends.network.settle()
    assert ends.there.gone


def test_a_damaged_record_ends_the_connection(ends: Ends) -> None:
    """The records before it are handed up, neither it nor anything after it is."""
    for letter in b"abc":
        ends.write(bytes([letter]) * RECORD)
        ends.network.advance(0)
    encrypted = bytearray(b"".join(ends.ours.outgoing))
    ends.ours.outgoing.clear()
    encrypted[len(encrypted) // 2] ^= 1
    ends.arrives(bytes(encrypted))
    assert b"a" * RECORD == b"".join(ends.there.pieces)
    ends.network.settle()
    assert ends.there.gone


def test_nothing_is_handed_up_after_an_abort(ends: Ends) -> None:
    """Who aborts the connection at the first piece is given no second one."""
    ends.there.aborts_at = 1
    ends.write(bytes(4 * JOINED))
    encrypted = b"".join(ends.ours.outgoing)
    ends.ours.outgoing.clear()
    ends.arrives(encrypted)
    assert 1 == len(ends.there.pieces)
    ends.network.settle()
    assert ends.there.gone


def test_a_write_before_the_handshake_waits_for_it() -> None:
    """It is sent when both sides know each other."""
    network = MemoryNetwork()
    here, there = End(), End()
    ours = DaemonTLS(identity("one")).connections(identity("two").fingerprint, [BULK])
    theirs = DaemonTLS(identity("two")).connections(identity("one").fingerprint, [BULK])
    network.listenTCP(1, WideTLSFactory(theirs, False, Factory.forProtocol(lambda: there), network))
    network.connectTCP("two", 1, WideTLSFactory(ours, True, Factory.forProtocol(lambda: here), network))
    network.step()
    transport: Any = here.transport
    transport.write(bytes(2 * JOINED + 1))
    network.settle()
    assert bytes(2 * JOINED + 1) == b"".join(there.pieces)


def test_a_wide_transport_takes_and_gives_much_at_a_time() -> None:
    """The socket below it does; without one nothing happens."""
    above, socket = SimpleNamespace(), SimpleNamespace(bufferSize=1, SEND_LIMIT=1)
    above.transport = socket
    widen(above)
    assert (WIDE, WIDE) == (socket.bufferSize, socket.SEND_LIMIT)
    widen(object())
