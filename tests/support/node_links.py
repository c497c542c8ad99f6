# SPDX-License-Identifier: MIT
"""A master's end of a link, on the heart of a master, with a node that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.task import Clock

from pydra.cluster.master.logs.archive import LogArchive
from pydra.cluster.master.logs.seal import LogSeal
from pydra.cluster.master.logs.task_logs import TaskLogs
from pydra.cluster.master.node_link import NodeLink, Surroundings
from pydra.cluster.store.blobs import Blobs
from pydra.cluster.wire.log_records import LogRecord, pack_lines
from pydra.cluster.wire.messages import PROTOCOL, Heartbeat, NodeHello, ToMaster, ToNode, UnitLog
from pydra.errors import NotFound
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion
from pydra.model.instance import LogLine
from pydra.model.node import Node, NodeInformation
from tests.support.cables import Cable, Peer, unthreaded
from tests.support.fakes import MemoryStore
from tests.support.instances import node_record
from tests.support.masters import Heart

INFORMATION = NodeInformation(2, 4096, 2048, 150, "full", "0.1.0", "3.11.7", "Linux")
HEARTBEAT_S = 5.0
LOG_LIMIT = 1_000_000
SEAL = LogSeal(b"s" * 32)


class TwoPieces:
    """Packages whose archives are two pieces, for versions of one letter; others are not there."""

    fault: Exception | None = None

    async def stream(self, package: PackageName, version: PackageVersion) -> AsyncIterator[bytes]:
        """The name and the version."""
        if self.fault is not None:
            raise self.fault
        if len(version) != 1:
            raise NotFound(f"There is no version {version}.")
        yield package.encode()
        yield version.encode()


class NodePeer(Peer):
    """Keeps apart the numbers of its hellos and heartbeats that the master answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[int] = []

    def take(self) -> list[Any]:
        """The messages since the last time, but for answers."""
        others = []
        for message in super().take():
            if isinstance(message, Heartbeat) and message.answers is not None:
                self.answers.append(message.answers)
            else:
                others.append(message)
        return others


class LinkBench(Heart):
    """``node`` is played by the test; what the master says to it is in ``node.take()`` after ``settle``."""

    def __init__(self, directory: Path, store: MemoryStore | None = None, clock: Clock | None = None) -> None:
        super().__init__(store, clock=clock)
        self.changes: list[tuple[NodeId, int] | NodeId] = []
        self.packages = TwoPieces()
        self.blobs = Blobs(directory / "blobs")
        self.archive = LogArchive(directory / "logs", LOG_LIMIT)
        self.task_logs = TaskLogs(self.clock, self.archive, unthreaded, self.events.wake)
        self.record = node_record(1)
        self.link = self.make_link(self.record)
        self.dispatcher._send = lambda node, message: self.link.send(message)
        self.dispatcher._heard = lambda node: self.link.heard
        self.node = NodePeer()
        self.cable = Cable(self.link, self.node)

    def make_link(self, record: Node) -> NodeLink:
        """The end of a link to a node."""
        return NodeLink(
            record,
            Surroundings(
                clock=self.clock,
                epoch=self.store.epoch,
                heartbeat_s=HEARTBEAT_S,
                dispatcher=self.dispatcher,
                task_logs=self.task_logs,
                seal=SEAL,
                packages=self.packages,
                blobs=self.blobs,
                uses=self.uses,
                in_thread=unthreaded,
                connected=lambda node, slots, information: self.changes.append((node, slots)),
                disconnected=self.changes.append,
            ),
        )

    async def remove_blob(self, sha256: str) -> None:
        """Remove a blob."""
        self.blobs.remove(sha256)

    def plug(self) -> list[ToNode]:
        """Connect; what the master says at once."""
        self.cable.plug()
        self.cable.settle()
        return self.node.take()

    def greet(
        self, slots: int = 1, running: tuple[Attempt, ...] = (), finished: tuple[Attempt, ...] = ()
    ) -> list[ToNode]:
        """Connect, and the node answers; what the master says then."""
        self.plug()
        return self.tell(hello(slots, running, finished))

    def tell(self, *messages: ToMaster) -> list[ToNode]:
        """The node says something; what the master says then."""
        for message in messages:
            self.cable.node.send(message)
        self.cable.settle()
        return self.node.take()

    def lines(self, instance: int) -> list[str]:
        """The texts that were kept of an instance."""
        return [line.text for line in self.result(self.task_logs.read(InstanceId(instance), 0)).lines]

    def close(self) -> None:
        """Pull the cable; nothing may be left."""
        self.cable.pull()
        super().close()


def unit_log(
    texts: Sequence[str], first: int = 0, attempt: Attempt | None = None, instance: int = 1, **changes: Any
) -> UnitLog:
    """Lines of an attempt (1.1) with the seal that this master gave node 1 for it."""
    attempt = attempt or Attempt(1, 1)
    lines = [LogLine(5.0 + number, "INFO", "stdout", text) for number, text in enumerate(texts)]
    seal = SEAL.make(NodeId(1), attempt, InstanceId(instance))
    record = LogRecord(attempt, first, len(lines), pack_lines(lines))
    return UnitLog(InstanceId(instance), seal, msgspec.structs.replace(record, **changes))


def hello(
    slots: int = 1,
    running: tuple[Attempt, ...] = (),
    finished: tuple[Attempt, ...] = (),
    protocol: int = PROTOCOL,
    information: NodeInformation = INFORMATION,
) -> NodeHello:
    """What a node answers."""
    return NodeHello(protocol, "incarnation", slots, information, running, finished)
