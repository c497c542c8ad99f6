# SPDX-License-Identifier: MIT
"""
The nodes of the cluster: their records, who is connected, and the dialling of each.

In this version a node is paired by its fingerprint in the settings (``NODES``). A record is found by
fingerprint, so a node that moved to another address stays the same node; one that left the settings is marked
deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.auth.identity import normalise_fingerprint
from pydra.cluster.interfaces import LinkUser, Store
from pydra.cluster.master.node_link import NodeLink
from pydra.cluster.wire.messages import ToNode
from pydra.errors import ConfigError
from pydra.events import Event, NodeChanged
from pydra.model.changes import PutNode
from pydra.model.ids import NodeId, WorkerKey
from pydra.model.node import Node, NodeInformation


class Dialer(Protocol):
    """Keeps one node connected."""

    def start(self) -> None:
        """Begin to dial."""
        ...

    async def stop(self) -> None:
        """Drop the link and dial no more."""
        ...


class Roster:
    """Knows every node; ``dial`` makes the dialler of one."""

    log = Logger()

    def __init__(
        self,
        store: Store,
        wall_clock: Callable[[], float],
        publish: Callable[[Event], int],
        dial: Callable[[Node, LinkUser], Dialer],
    ) -> None:
        self._store = store
        self._wall_clock = wall_clock
        self._publish = publish
        self._dial = dial
        self._nodes: dict[NodeId, Node] = {}
        self._links: dict[NodeId, NodeLink] = {}
        self._dialers: list[Dialer] = []
        self._connected: set[NodeId] = set()

    async def load(self, settings_nodes: Sequence[tuple[str, int, str]]) -> None:
        """
        Bring the records in line with the settings; once, at the start.

        `ConfigError` if a fingerprint is none, or there twice: one node at two addresses would be linked to
        by turns.
        """
        records = await self._store.nodes()
        known = {node.fingerprint: node for node in records}
        next_id = max((node.id for node in records), default=0) + 1
        changed: list[Node] = []
        listed: set[str] = set()
        for host, port, given in settings_nodes:
            fingerprint = normalise_fingerprint(given)
            if fingerprint in listed:
                raise ConfigError(f"NODES: the fingerprint {fingerprint} is there twice.")
            listed.add(fingerprint)
            before = known.pop(fingerprint, None)
            if before is None:
                node = Node(NodeId(next_id), host, port, fingerprint)
                next_id += 1
            else:
                node = msgspec.structs.replace(before, host=host, port=port, deleted=False)
            if node != before:
                changed.append(node)
            self._nodes[node.id] = node
        for gone in known.values():
            self._nodes[gone.id] = msgspec.structs.replace(gone, deleted=True)
            if not gone.deleted:
                changed.append(self._nodes[gone.id])
        if changed:
            await self._store.commit([PutNode(node) for node in changed])

    def start(self, make_link: Callable[[Node], NodeLink]) -> None:
        """Dial every node that is not deleted."""
        for node in self.nodes():
            link = make_link(node)
            self._links[node.id] = link
            dialer = self._dial(node, link)
            self._dialers.append(dialer)
            dialer.start()

    async def stop(self) -> None:
        """Drop all links."""
        for dialer in self._dialers:
            await dialer.stop()

    def nodes(self) -> list[Node]:
        """The nodes that are not deleted, by id."""
        return sorted((node for node in self._nodes.values() if not node.deleted), key=lambda node: node.id)

    def node(self, node: NodeId) -> Node | None:
        """The record of a node, a deleted one too."""
        return self._nodes.get(node)

    def is_connected(self, node: NodeId) -> bool:
        """The node said hello and its link is up."""
        return node in self._connected

    def worker_key(self, node: NodeId, index: int) -> WorkerKey:
        """The name of a worker slot."""
        record = self._nodes[node]
        return WorkerKey(f"{record.host}:{record.port}:{index}")

    def send(self, node: NodeId, message: ToNode) -> None:
        """Send to a node, if it is there."""
        link = self._links.get(node)
        if link is not None:
            link.send(message)

    def heard(self, node: NodeId) -> int:
        """The number of the latest heartbeat of a node on its present link."""
        link = self._links.get(node)
        return link.heard if link is not None else 0

    def connected(self, node: NodeId, slots: int, information: NodeInformation) -> None:
        """A node said hello."""
        self._connected.add(node)
        record = msgspec.structs.replace(
            self._nodes[node], slots=slots, information=information, seen=self._wall_clock()
        )
        self._keep(record)
        self._publish(NodeChanged(node, connected=True))

    def disconnected(self, node: NodeId) -> None:
        """The link to a node is down."""
        self._connected.discard(node)
        self._keep(msgspec.structs.replace(self._nodes[node], seen=self._wall_clock()))
        self._publish(NodeChanged(node, connected=False))

    def _keep(self, record: Node) -> None:
        self._nodes[record.id] = record
        kept = Deferred.fromCoroutine(self._store.commit([PutNode(record)]))
        kept.addErrback(
            lambda fault: self.log.warn("A node's record was not stored: {fault}", fault=str(fault.value))
        )
