# SPDX-License-Identifier: MIT
"""The nodes of a cluster: settings and records, who is connected, and who is dialled."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import LinkUser
from pydra.cluster.master.roster import Roster
from pydra.cluster.wire.messages import Heartbeat, ToNode
from pydra.errors import ConfigError
from pydra.events import Event, NodeChanged
from pydra.model.changes import PutNode
from pydra.model.ids import NodeId
from pydra.model.node import Node
from tests.support.fakes import MemoryStore
from tests.support.instances import node_record
from tests.support.node_links import INFORMATION
from tests.support.pumps import result_of

A, B, C = ("-".join([letter * 4] * 13) for letter in "ABC")
NOW = 1_800_000_000.0
ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


class Dialer:
    """Keeps whether it was started and stopped."""

    def __init__(self, node: Node, user: LinkUser) -> None:
        self.node = node
        self.user: object = user
        self.states: list[str] = []

    def start(self) -> None:
        """Begin."""
        self.states.append("started")

    async def stop(self) -> None:
        """End."""
        self.states.append("stopped")


class Line:
    """Stands where a ``NodeLink`` stands."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sent: list[ToNode] = []

    def send(self, message: ToNode) -> None:
        """Keep it."""
        self.sent.append(message)


class Bench:
    """A roster on a store."""

    def __init__(self, *records: Node) -> None:
        self.store = MemoryStore()
        self.store._nodes = {record.id: record for record in records}
        self.dialers: list[Dialer] = []
        self.events: list[Event] = []
        self.roster = Roster(self.store, lambda: NOW, self.publish, self.dial)

    def publish(self, event: Event) -> int:
        """Where events go."""
        self.events.append(event)
        return len(self.events)

    def dial(self, node: Node, user: LinkUser) -> Dialer:
        """Make a dialler."""
        self.dialers.append(Dialer(node, user))
        return self.dialers[-1]

    def load(self, *nodes: tuple[str, int, str]) -> list[Node]:
        """Bring it in line with settings; the records that were stored."""
        result_of(Deferred.fromCoroutine(self.roster.load(nodes)))
        return [change.node for change in self.store.committed if isinstance(change, PutNode)]

    def start(self) -> Sequence[Line]:
        """Dial all; what stands for the links."""
        lines: list[Line] = []

        def make(node: Node) -> Line:
            lines.append(Line(node))
            return lines[-1]

        self.roster.start(make)  # type: ignore[arg-type]  # of a link the roster uses send alone
        return lines


def known(number: int, fingerprint: str, **fields: object) -> Node:
    """A record of a node that was seen."""
    return node_record(number, fingerprint=fingerprint, **fields)


def test_new_nodes() -> None:
    """Nodes of the settings that have no record get one, in their order."""
    bench = Bench()
    made = [Node(ONE, "one", 11890, A), Node(TWO, "two", 11891, B)]
    assert made == bench.load(("one", 11890, A), ("two", 11891, B))
    assert made == bench.roster.nodes()


def test_nothing_new() -> None:
    """If the settings say what the records do, nothing is stored."""
    bench = Bench(known(1, A))
    assert [] == bench.load(("node1", 11890, A))
    assert [known(1, A)] == bench.roster.nodes()


def test_a_node_that_moved() -> None:
    """A node is known by its key: at another address it keeps its id and what is known of it."""
    bench = Bench(known(1, A))
    moved = known(1, A, host="other", port=5)
    assert [moved] == bench.load(("other", 5, A))
    assert moved == bench.roster.node(ONE)


def test_a_fingerprint_in_another_form() -> None:
    """Case and hyphens of a fingerprint make no other node of it."""
    bench = Bench(known(1, A))
    assert [] == bench.load(("node1", 11890, A.replace("-", "").lower()))


def test_a_key_that_moved_to_another_address() -> None:
    """Another key at a known address is another node, and the old one is deleted."""
    bench = Bench(known(1, A))
    assert [Node(TWO, "node1", 11890, B), known(1, A, deleted=True)] == bench.load(("node1", 11890, B))
    assert [TWO] == [node.id for node in bench.roster.nodes()]


def test_deleted() -> None:
    """A node that left the settings is deleted, still known, and not dialled; once."""
    bench = Bench(known(1, A), known(2, B))
    gone = known(1, A, deleted=True)
    assert [gone] == bench.load(("node2", 11890, B))
    assert [known(2, B)] == bench.roster.nodes()
    assert gone == bench.roster.node(ONE)
    assert [TWO] == [line.node.id for line in bench.start()]
    again = Bench(gone, known(2, B))
    assert [] == again.load(("node2", 11890, B))


def test_back_in_the_settings() -> None:
    """A deleted node that comes back is the same one; ids are never used again."""
    bench = Bench(known(1, A), known(3, B, deleted=True))
    assert [known(3, B), Node(NodeId(4), "new", 1, C)] == bench.load(
        ("node1", 11890, A), ("node3", 11890, B), ("new", 1, C)
    )


def test_the_same_node_twice() -> None:
    """A fingerprint that is there twice is refused: the node would be linked to by turns."""
    bench = Bench()
    with pytest.raises(ConfigError, match="twice"):
        bench.load(("one", 11890, A), ("two", 11890, A.lower()))
    assert [] == bench.store.committed


def test_no_fingerprint() -> None:
    """What is no fingerprint is refused."""
    with pytest.raises(ConfigError):
        Bench().load(("one", 11890, "AAAA"))


def test_dialling() -> None:
    """Every node is dialled, and each is hung up at the end."""
    bench = Bench()
    bench.load(("one", 1, A), ("two", 2, B))
    lines = bench.start()
    assert [ONE, TWO] == [dialer.node.id for dialer in bench.dialers]
    assert all(line is dialer.user for line, dialer in zip(lines, bench.dialers, strict=True))
    result_of(Deferred.fromCoroutine(bench.roster.stop()))
    assert [["started", "stopped"]] * 2 == [dialer.states for dialer in bench.dialers]


def test_send() -> None:
    """A message goes to its node alone; to one that is not there it goes nowhere."""
    bench = Bench()
    bench.load(("one", 1, A), ("two", 2, B))
    lines = bench.start()
    bench.roster.send(TWO, Heartbeat())
    bench.roster.send(THREE, Heartbeat())
    assert [[], [Heartbeat()]] == [line.sent for line in lines]


def test_connected_and_disconnected() -> None:
    """What a node says of itself is kept and published; after the link is down it is still known."""
    bench = Bench()
    bench.load(("one", 1, A))
    assert not bench.roster.is_connected(ONE)
    bench.roster.connected(ONE, 8, INFORMATION)
    record = Node(ONE, "one", 1, A, 8, INFORMATION, NOW)
    assert bench.roster.is_connected(ONE)
    bench.roster.disconnected(ONE)
    assert not bench.roster.is_connected(ONE)
    assert record == bench.roster.node(ONE)
    assert [NodeChanged(ONE, True), NodeChanged(ONE, False)] == bench.events
    assert record == result_of(Deferred.fromCoroutine(bench.store.nodes()))[0]


def test_a_store_that_refuses() -> None:
    """A record that cannot be stored is logged; the node is connected all the same."""
    bench = Bench()
    bench.load(("one", 1, A))
    bench.store.refuse("The disk is full.")
    bench.roster.connected(ONE, 8, msgspec.structs.replace(INFORMATION, cores=4))
    assert bench.roster.is_connected(ONE)


def test_worker_key() -> None:
    """A worker slot is named by the address of its node."""
    bench = Bench()
    bench.load(("one", 1, A))
    assert "one:1:3" == bench.roster.worker_key(ONE, 3)
