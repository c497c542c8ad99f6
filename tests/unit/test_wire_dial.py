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

from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.wire.dial import NodeDialer
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
