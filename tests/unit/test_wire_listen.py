# SPDX-License-Identifier: MIT
"""Listening: what becomes of connections that are not, or not yet, part of a link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.wire.listen import PENDING_LIMIT
from tests.support.links import PORT, Cluster, RecordingUser, identity
from tests.support.pumps import MemoryNetwork, started


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What was logged, as text."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_format"):
            lines.append(f"{event['log_level'].name}: {event['log_format'].format(**event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class Mute(Protocol):
    """Something that never says a word."""


def dial_by_hand(cluster: Cluster, alpn: list[bytes], say: bytes, name: str = "master") -> Any:
    """A connection of our own to the node, which says something after the handshake."""

    class Hand(Protocol):
        heard = b""
        gone = False

        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(say)

        def dataReceived(self, data: bytes) -> None:
            self.heard += data

        def connectionLost(self, reason: Any = None) -> None:
            self.gone = True

    hands: list[Hand] = []

    class OneHand(Factory):
        def buildProtocol(self, addr: Any) -> Hand:
            hands.append(Hand())
            return hands[0]

        def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
            raise AssertionError(reason)

    creator = DaemonTLS(identity(name)).connections(identity("node").fingerprint, alpn)
    cluster.network.connectTCP("node", PORT, TLSMemoryBIOFactory(creator, True, OneHand(), cluster.network))
    cluster.network.settle()
    return hands[0]


def test_strangers_do_not_fill_the_log(told: list[str]) -> None:
    """Of very many connections that come to nothing, only some are logged for all to see."""
    cluster = Cluster()
    cluster.listener.start()
    for _ in range(100):
        dial_mute(cluster.network)
        cluster.network.settle()
        cluster.network.drop()
    assert len([line for line in told if "came to nothing" in line]) == 100
    assert len([line for line in told if line.startswith("warn: A connection from")]) == 20
    cluster.stop()


def test_knocking_is_bounded() -> None:
    """Only so many connections may wait to become part of a link; the master gets in at any time."""
    cluster = Cluster()
    cluster.listener.start()
    hands = [dial_mute(cluster.network) for _ in range(PENDING_LIMIT + 5)]
    cluster.network.settle()
    assert [hand.is_lost for hand in hands] == [True] * 5 + [False] * PENDING_LIMIT
    cluster.dialer.start()
    cluster.network.run(1.0)
    assert cluster.node.states == ["up"]
    cluster.network.run(10.1)
    assert all(hand.is_lost for hand in hands)
    assert cluster.node.states == ["up"]
    cluster.stop()


def dial_mute(network: MemoryNetwork) -> Any:
    """A TCP connection that never says a word."""

    class Quiet(Factory):
        protocol = Mute

    return network.connectTCP("node", PORT, Quiet()).transport


def test_newer_link_replaces_the_older() -> None:
    """A second link of the same master takes the place of the first, which is told down before."""
    cluster = Cluster().link()
    second_user = RecordingUser()
    second = cluster.new_dialer(user=second_user)
    # The first dialler does not notice: its cable is cut, as by a power failure.
    first_ends = list(cluster.network.transports)
    for end in first_ends:
        end.is_paused = True
    second.start()
    cluster.network.settle()
    assert cluster.node.log == ["up", ("down", "a newer connection of the master replaced it"), "up"]
    assert second_user.states == ["up"]
    stopping = started(second.stop())
    cluster.network.drop(first_ends[0])
    cluster.network.drop(first_ends[2])
    cluster.network.run(1.0)
    assert stopping.called
    assert cluster.node.link is not None
    cluster.stop()


@pytest.mark.parametrize("alpn", [[b"http/1.1"], [b"pydra-pb-2"]])
def test_other_protocols_are_closed(alpn: list[bytes]) -> None:
    """A pinned peer that asks for another protocol is closed at once."""
    cluster = Cluster()
    cluster.listener.start()
    hand = dial_by_hand(cluster, alpn, b"s" * 16)
    assert (hand.gone, hand.heard) == (True, b"")
    cluster.stop()


def test_unpinned_peer_is_told_nothing() -> None:
    """A peer with another key hears nothing, whatever it says."""
    cluster = Cluster()
    cluster.listener.start()
    hand = dial_by_hand(cluster, [b"pydra-pb"], b"s" * 16 + b"\x04pb", name="other")
    assert (hand.gone, hand.heard) == (True, b"")
    assert cluster.node.log == []
    cluster.stop()


@pytest.mark.parametrize(
    ("say", "after_s"), [(b"", 10.0), (b"s" * 15, 10.0), (b"s" * 16, 10.0), (b"s" * 17, 0.0)]
)
def test_half_a_link_is_closed(say: bytes, after_s: float) -> None:
    """What does not become part of a link is closed after 10 seconds, a too eager one at once."""
    cluster = Cluster()
    cluster.listener.start()
    hand = dial_by_hand(cluster, [b"pydra-pb"], say)
    if after_s:
        cluster.network.run(after_s - 0.1)
        assert not hand.gone
        cluster.network.run(0.2)
    assert (hand.gone, hand.heard) == (True, b"")
    cluster.stop()


def test_halves_of_different_links_do_not_join() -> None:
    """A control and a bulk connection with different names are no link, nor are two of the same kind."""
    cluster = Cluster()
    cluster.listener.start()
    control = dial_by_hand(cluster, [b"pydra-pb"], b"1" * 16)
    bulk = dial_by_hand(cluster, [b"pydra-bulk"], b"2" * 16)
    twin = dial_by_hand(cluster, [b"pydra-pb"], b"1" * 16)
    cluster.network.run(1.0)
    assert (control.heard, bulk.heard) == (b"", b"")
    assert (control.gone, bulk.gone, twin.gone) == (False, False, True)
    cluster.network.run(10.0)
    assert (control.gone, bulk.gone) == (True, True)
    cluster.stop()


def test_link_that_never_speaks_is_closed() -> None:
    """Two connections of the master that belong together, and then nothing: the node gives up on them."""
    cluster = Cluster()
    cluster.listener.start()
    hands = [dial_by_hand(cluster, [name], b"s" * 16) for name in (b"pydra-pb", b"pydra-bulk")]
    cluster.network.run(9.9)
    assert [hand.gone for hand in hands] == [False, False]
    assert hands[0].heard
    cluster.network.run(0.2)
    assert [hand.gone for hand in hands] == [True, True]
    assert cluster.node.log == []
    cluster.stop()
