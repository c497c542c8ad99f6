# SPDX-License-Identifier: MIT
"""Two daemons that are linked over a network in memory, as the tests of the wire need them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred

from pydra.cluster.auth.identity import Identity, ensure_identity
from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.interfaces import Bulk, BulkSink, Link
from pydra.cluster.wire.dial import NodeDialer
from pydra.cluster.wire.listen import MasterListener
from pydra.errors import WireError
from tests.support.pumps import MemoryNetwork

PORT = 11890


@functools.cache
def identity(name: str) -> Identity:
    """An identity, the same one for the same name."""
    with TemporaryDirectory() as directory:
        return ensure_identity(Path(directory) / name)


class RecordingSink:
    """Keeps what a stream brings; with ``gate``, each write waits for a Deferred of the test."""

    def __init__(self, gated: bool = False) -> None:
        self.gated = gated
        self.gates: list[Deferred[None]] = []
        self.data = bytearray()
        self.finished = False
        self.aborted: str | None = None
        self.fault: Exception | None = None

    async def write(self, data: bytes) -> None:
        assert self.aborted is None
        if self.fault is not None:
            raise self.fault
        if self.gated:
            gate: Deferred[None] = Deferred()
            self.gates.append(gate)
            await gate
        self.data += data

    async def finish(self) -> None:
        assert self.aborted is None
        self.finished = True
        if self.fault is not None:
            raise self.fault

    def abort(self, reason: str) -> None:
        assert self.aborted is None
        self.aborted = reason

    def open_gate(self) -> None:
        """The write that goes on is done."""
        self.gates.pop(0).callback(None)


class RecordingUser:
    """Writes down all that a link tells, in order."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.link: Link | None = None
        self.bulk: Bulk | None = None
        self.sinks: dict[str, RecordingSink] = {}
        self.new_sink: Callable[[], RecordingSink] = RecordingSink
        self.on_up: Callable[[], None] = lambda: None
        self.on_messages: Callable[[Sequence[Any]], None] = lambda messages: None

    def link_up(self, link: Link, bulk: Bulk) -> None:
        assert self.link is None
        self.link, self.bulk = link, bulk
        self.log.append("up")
        self.on_up()

    def messages_received(self, messages: Sequence[Any]) -> None:
        assert self.link is not None
        self.log.append(list(messages))
        self.on_messages(messages)

    def stream_opened(self, kind: str, detail: str) -> BulkSink:
        assert self.link is not None
        if kind == "refused":
            raise WireError("No stream of that kind is taken.")
        self.sinks[detail] = sink = self.new_sink()
        return sink

    def link_down(self, reason: str) -> None:
        assert self.link is not None
        self.link = self.bulk = None
        self.log.append(("down", reason))

    @property
    def messages(self) -> list[Any]:
        """All messages, in order."""
        return [message for entry in self.log if isinstance(entry, list) for message in entry]

    @property
    def states(self) -> list[str]:
        """Up and down, in order."""
        return [
            entry if isinstance(entry, str) else entry[0] for entry in self.log if not isinstance(entry, list)
        ]


class Cluster:
    """A master and a node; nothing is started."""

    def __init__(
        self, master: str = "master", node: str = "node", network: MemoryNetwork | None = None
    ) -> None:
        self.network = network or MemoryNetwork()
        self.master = RecordingUser()
        self.node = RecordingUser()
        self.dialer = self.new_dialer(master, node)
        self.listener = MasterListener(
            self.network,
            DaemonTLS(identity("node")),
            "127.0.0.1",
            PORT,
            identity("master").fingerprint,
            self.node,
        )

    def new_dialer(
        self, master: str = "master", node: str = "node", user: RecordingUser | None = None
    ) -> NodeDialer:
        """A dialler with the identity ``master`` that expects the one called ``node``."""
        return NodeDialer(
            self.network,
            DaemonTLS(identity(master)),
            "node.example",
            PORT,
            identity(node).fingerprint,
            user or self.master,
            Random(1),
        )

    def start(self) -> None:
        """Both begin; nothing has moved yet."""
        self.listener.start()
        self.dialer.start()

    def link(self) -> Cluster:
        """Both begin, and are linked."""
        self.start()
        self.network.settle()
        assert self.master.log[:1] == ["up"]
        assert self.node.log[:1] == ["up"]
        return self

    def stop(self) -> None:
        """Both end, and leave nothing behind."""
        stopping = [Deferred.fromCoroutine(self.dialer.stop()), Deferred.fromCoroutine(self.listener.stop())]
        self.network.run(3.0)
        for deferred in stopping:
            assert deferred.called
        assert self.network.open_transports() == []
        assert self.network.getDelayedCalls() == []
        assert self.network.faults == []
        assert self.network.listening == {}
