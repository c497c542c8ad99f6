# SPDX-License-Identifier: MIT
"""Dialling and listening: who gets a link, when, and what happens when the cable is pulled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.wire.dial import NodeDialer
from pydra.cluster.wire.listen import PENDING_LIMIT
from pydra.cluster.wire.messages import Heartbeat, MasterHello
from pydra.errors import ConfigError
from tests.support.links import PORT, Cluster, RecordingUser, identity
from tests.support.pumps import MemoryNetwork, started

STEPS = 40
"""More than a link needs to come up, exchange a message each way, and send a stream."""


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


def say_hello(cluster: Cluster) -> None:
    """Once linked, the master greets and sends a stream, and the node answers."""

    async def chunks() -> Any:
        for _ in range(3):
            yield bytes(50_000)

    def master_up() -> None:
        assert cluster.master.link is not None
        assert cluster.master.bulk is not None
        cluster.master.link.send(MasterHello(1, 1, "x"))
        sent = started(cluster.master.bulk.send("package", str(len(cluster.node.sinks)), chunks()))
        sent.addErrback(lambda fault: None)  # the cable may be pulled meanwhile

    def node_told(_: Any) -> None:
        if cluster.node.link is not None:
            cluster.node.link.send(Heartbeat())

    cluster.master.on_up, cluster.node.on_messages = master_up, node_told


@pytest.mark.parametrize("size", [None, 700])
def test_cable_pulled_at_every_step(size: int | None) -> None:
    """Whenever both connections break, the user sees up and down in turn, and a new link comes and works."""
    for steps in range(STEPS):
        cluster = Cluster()
        say_hello(cluster)
        cluster.start()
        cluster.network.settle(steps, size)
        cluster.network.drop()
        cluster.network.run(1.0)
        check_linked_again(cluster, steps)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_one_connection_lost_at_every_step(which: int) -> None:
    """Whenever one of the two connections breaks, the other goes too, and a new link comes."""
    for steps in range(STEPS):
        cluster = Cluster()
        say_hello(cluster)
        cluster.start()
        cluster.network.settle(steps)
        if len(cluster.network.transports) > which:
            cluster.network.drop(cluster.network.transports[which])
        cluster.network.run(4.0)
        check_linked_again(cluster, steps)


def check_linked_again(cluster: Cluster, steps: int) -> None:
    for user in (cluster.master, cluster.node):
        states = user.states
        assert states[0::2] == ["up"] * (len(states) // 2 + 1), (steps, user.log)
        assert states[1::2] == ["down"] * (len(states) // 2), (steps, user.log)
        assert user.link is not None
    assert cluster.node.messages[-1:] == [MasterHello(1, 1, "x")]
    assert cluster.master.messages[-1:] == [Heartbeat()]
    last = list(cluster.node.sinks.values())[-1]
    assert (len(last.data), last.finished) == (150_000, True)
    assert all(sink.finished or sink.aborted is not None for sink in cluster.node.sinks.values())
    cluster.stop()


def test_two_connections_make_one_link() -> None:
    """A link is one control and one bulk connection."""
    cluster = Cluster().link()
    assert len(cluster.network.transports) == 4
    cluster.stop()


def test_stopped_at_every_step() -> None:
    """Whenever both sides stop, everything ends."""
    for steps in range(20):
        cluster = Cluster()
        say_hello(cluster)
        cluster.start()
        cluster.network.settle(steps)
        cluster.stop()
        assert cluster.master.states in ([], ["up", "down"])
        assert cluster.node.states in ([], ["up", "down"])


def test_rests_grow_and_shrink() -> None:
    """Attempts come after 0.2 s, then ever later up to 5 s, give or take; after a link they start over."""
    cluster = Cluster()
    cluster.dialer.start()
    cluster.network.run(40.0, tick=0.01)
    dials = cluster.network.dials
    rests = [later - earlier for earlier, later in itertools.pairwise(dials)]
    for rest, wanted in zip(rests, [0.2, 0.4, 0.8, 1.6, 3.2], strict=False):
        assert 0.75 * wanted - 0.011 <= rest <= 1.25 * wanted + 0.011
    assert all(0.75 * 5.0 - 0.011 <= rest <= 5.011 for rest in rests[5:])
    assert len({round(rest, 3) for rest in rests[5:]}) > 1
    cluster.listener.start()
    cluster.network.run(11.0)
    assert cluster.master.states == ["up"]
    before = cluster.network.seconds()
    cluster.network.drop()
    cluster.network.run(0.3, tick=0.01)
    assert 0.1 <= cluster.network.dials[-2] - before <= 0.26
    cluster.stop()


@pytest.mark.parametrize(
    ("master", "node", "words"),
    [
        ("other", "node", "it refused our certificate"),
        ("master", "other", "this is not the expected daemon: it has the fingerprint "),
    ],
)
def test_wrong_key_gets_no_link(told: list[str], master: str, node: str, words: str) -> None:
    """With a wrong key on either side there is no link, no byte reaches PB, and the log says why, once."""
    cluster = Cluster(master, node)
    cluster.start()
    cluster.network.run(12.0)
    assert cluster.master.log == cluster.node.log == []
    assert len([line for line in told if words in line]) == 1
    cluster.stop()


def test_nothing_listens(told: list[str]) -> None:
    """If nothing listens, the log says so, once."""
    cluster = Cluster()
    cluster.dialer.start()
    cluster.network.run(12.0)
    assert [line for line in told if "There is no link" in line] == [
        "warn: There is no link to the node at node.example:11890: nothing listens there (connection refused)"
    ]
    cluster.stop()


class Parrot(Protocol):
    """Something that is no daemon."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Mute(Protocol):
    """Something that never says a word."""


@pytest.mark.parametrize(
    ("protocol", "words"), [(Parrot, "does not speak TLS 1.3"), (Mute, "it was not ready within 10 s")]
)
def test_something_else_listens(told: list[str], protocol: type[Protocol], words: str) -> None:
    """If something else listens, the log says so; a mute one is left after 10 seconds."""
    cluster = Cluster()
    cluster.network.listenTCP(PORT, Factory.forProtocol(protocol))
    cluster.dialer.start()
    cluster.network.run(11.0)
    assert any(words in line for line in told), told
    cluster.network.listening.clear()
    cluster.stop()


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


def test_links_that_do_not_last_are_failures() -> None:
    """A node that ends each link at once is dialled ever more rarely."""
    cluster = Cluster()

    def refuse() -> None:
        assert cluster.node.link is not None
        cluster.node.link.close("an old master")

    cluster.node.on_up = refuse
    cluster.start()
    cluster.network.run(30.0)
    assert 5 <= cluster.master.states.count("up") <= 12
    cluster.stop()


def test_bad_fingerprint_is_a_fault_of_the_settings() -> None:
    """A dialler that was given no fingerprint refuses at once."""
    with pytest.raises(ConfigError):
        NodeDialer(
            MemoryNetwork(), DaemonTLS(identity("master")), "node", 1, "no", RecordingUser(), Random(0)
        )


def test_strangers_do_not_fill_the_log(told: list[str]) -> None:
    """Of very many connections that come to nothing, only some are logged for all to see."""
    cluster = Cluster()
    cluster.listener.start()
    for _ in range(100):
        dial_mute(cluster.network)
        cluster.network.settle()
        cluster.network.drop()
    assert len([line for line in told if "came to nothing" in line]) == 100
    assert len([line for line in told if line.startswith("info: A connection from")]) == 20
    cluster.stop()


def test_knocking_is_bounded() -> None:
    """Only so many connections may wait to become part of a link; when they are gone, the master gets in."""
    cluster = Cluster()
    cluster.listener.start()
    hands = [dial_mute(cluster.network) for _ in range(PENDING_LIMIT + 5)]
    cluster.network.settle()
    assert [hand.is_lost for hand in hands] == [False] * PENDING_LIMIT + [True] * 5
    cluster.network.run(10.1)
    assert all(hand.is_lost for hand in hands)
    cluster.dialer.start()
    cluster.network.run(1.0)
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


def test_stop_before_start() -> None:
    """What was never started can be stopped."""
    Cluster().stop()


def test_dialler_uses_the_name_it_was_given() -> None:
    """The dialler connects to the port of the node."""
    network = MemoryNetwork()
    dialer = NodeDialer(
        network,
        DaemonTLS(identity("master")),
        "node",
        7,
        identity("node").fingerprint,
        RecordingUser(),
        Random(0),
    )
    seen: list[IPv4Address] = []

    class Watch(Factory):
        def buildProtocol(self, addr: Any) -> None:
            seen.append(addr)

    network.listenTCP(7, Watch())
    dialer.start()
    network.settle()
    assert len(seen) == 1
    stopping = started(dialer.stop())
    network.settle()
    assert stopping.called
    assert network.getDelayedCalls() == []
