# SPDX-License-Identifier: MIT
"""
The master's end of the link to one node.

What a node may say is limited to itself: its identity comes from the pinned key of the connection, and
attempts are checked to be its own: by what the scheduler gave out, and by a seal for the workers that an
earlier master gave out. A large result comes as a blob first; an outcome that names a blob which
did not come is a failure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, assert_never

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

import pydra
from pydra.cluster.interfaces import Bulk, BulkSink, InThread, Link
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.logs.seal import LogSeal
from pydra.cluster.master.logs.task_logs import TaskLogs
from pydra.cluster.master.payloads.node_blobs import NodeBlobs
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.units.delivery import ResultDelivery
from pydra.cluster.master.units.link import UnitLink
from pydra.cluster.scheduler import inputs
from pydra.cluster.store.blobs import Blobs
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    PROTOCOL,
    BlobWanted,
    Heartbeat,
    HeldBatches,
    HireWorker,
    LogStored,
    MasterHello,
    NodeHello,
    PackageWanted,
    RunUnit,
    ToMaster,
    ToNode,
    Unavailable,
    UnitFinished,
    UnitLog,
    UnitProgress,
    UnitResults,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
    WorkerLost,
)
from pydra.errors import LinkLost, PydraError, RemoteFault, WireError
from pydra.model.ids import NodeId, PackageName, PackageVersion
from pydra.model.instance import INLINE_LIMIT, MESSAGE_LIMIT, Failure, Payload
from pydra.model.node import ISOLATIONS, SLOTS_LIMIT, Node, NodeInformation

STREAMS_LIMIT = 2 * SLOTS_LIMIT
"""Packages and arguments that one node may have asked for and not got yet."""

OUTCOMES = frozenset(outcome.value for outcome in inputs.Outcome)

LINES_LIMIT = 4 * 1024 * 1024
"""Bytes of log lines that wait for the archive; a node sends an eighth of it before it waits itself."""

REFUSAL_LIMIT = 200
"""Characters of what a node says of why it begins nothing new."""


class Packages(Protocol):
    """Where a node's missing packages come from."""

    def stream(self, package: PackageName, version: PackageVersion) -> AsyncIterator[bytes]:
        """The archive of a version; `NotFound` if there is none."""
        ...


@attrs.frozen
class Surroundings:
    """What every node link works with."""

    clock: IReactorTime
    epoch: int
    heartbeat_s: float
    dispatcher: Dispatcher
    task_logs: TaskLogs
    seal: LogSeal
    packages: Packages
    blobs: Blobs
    uses: BlobUses
    in_thread: InThread
    connected: Callable[[NodeId, int, NodeInformation], None]
    disconnected: Callable[[NodeId], None]


class NodeLink:
    """Speaks with one node, over all connections to it."""

    log = Logger()

    def __init__(self, node: Node, surroundings: Surroundings) -> None:
        self.node = node
        self._around = surroundings
        self._link: Link | None = None
        self._bulk: Bulk | None = None
        self._greeted = False
        self._blobs = NodeBlobs(surroundings.blobs, surroundings.uses, surroundings.in_thread)
        self._units = UnitLink(node.id, surroundings.dispatcher, self._blobs, surroundings.seal)
        self._results = ResultDelivery(surroundings.clock)
        self._streams = 0
        self._lines_size = 0
        self._beat: IDelayedCall | None = None
        self.heard = 0
        """The number of the latest heartbeat on this link; 0 is the hello."""

    def send(self, message: ToNode) -> None:
        """Send; without a link the message is dropped, and the next hello settles what was missed."""
        if self._link is None or not self._greeted:
            return
        if isinstance(message, RunUnit | HireWorker):
            attempt = message.attempt if isinstance(message, RunUnit) else message.worker
            seal = self._around.seal.make(self.node.id, attempt, message.instance)
            message = msgspec.structs.replace(message, seal=seal)
        if isinstance(message, UnitResults):
            self._results.send(self._link, message)
        else:
            self._link.send(message)

    def link_up(self, link: Link, bulk: Bulk) -> None:
        """The node is connected: greet it."""
        self._link, self._bulk, self._greeted = link, bulk, False
        self._blobs.reset()
        self._units.reset()
        link.send(MasterHello(PROTOCOL, self._around.epoch, pydra.__version__))

    def link_down(self, reason: str) -> None:
        """Nothing more is sent to the node, and its attempts wait for it until their lease ends."""
        self.log.warn(
            "Node {host}:{port} is away: {reason}", host=self.node.host, port=self.node.port, reason=reason
        )
        greeted, self._greeted = self._greeted, False
        self._link = self._bulk = None
        self._results.reset()
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        if greeted:
            self._around.disconnected(self.node.id)
            self._around.dispatcher.feed(inputs.NodeSilent(self.node.id))

    def messages_received(self, messages: Sequence[ToNode | ToMaster]) -> None:
        """Take a batch of the node."""
        for message in messages:
            if isinstance(message, NodeHello):
                self._hello(message)
            elif isinstance(message, HeldBatches):
                if not self._greeted:
                    self._units.hold(message)
            elif self._greeted:
                self._take(message)  # type: ignore[arg-type]  # the link decodes what nodes may say alone

    def _hello(self, hello: NodeHello) -> None:
        link = self._link
        if link is None or self._greeted:
            return
        if hello.protocol != PROTOCOL:
            link.close(
                f"The node speaks protocol {hello.protocol}, this master {PROTOCOL}: upgrade the older one."
            )
            return
        if not 1 <= hello.slots <= SLOTS_LIMIT or hello.information.isolation not in ISOLATIONS:
            link.close("The node offers no usable number of slots, or an unknown isolation.")
            return
        try:
            workers, batches = self._units.held(hello)
        except WireError as fault:
            link.close(str(fault))
            return
        self._greeted = True
        self.log.info(
            "Node {host}:{port} is connected: {slots} slots, isolation {isolation}",
            host=self.node.host,
            port=self.node.port,
            slots=hello.slots,
            isolation=hello.information.isolation,
        )
        self.heard = 0
        link.send(Heartbeat(answers=0))
        self._around.connected(self.node.id, hello.slots, hello.information)
        self._beat = self._around.clock.callLater(self._around.heartbeat_s, self._send_heartbeat)
        self._around.dispatcher.node_came(self.node.id)
        told = zip(hello.running, hello.ran_s, strict=False)  # an older node does not tell it
        self._around.dispatcher.feed(
            inputs.NodeReady(
                self.node.id,
                hello.slots,
                hello.running,
                hello.finished,
                workers,
                batches,
                labels=frozenset(hello.information.labels),
                resources=hello.information.resources,
                isolation=hello.information.isolation,
                ran_s={attempt: ran_s for attempt, ran_s in told if ran_s >= 0.0},
                refusal=hello.refusal[:REFUSAL_LIMIT],
            )
        )

    def _send_heartbeat(self) -> None:
        self.send(Heartbeat())
        self._beat = self._around.clock.callLater(self._around.heartbeat_s, self._send_heartbeat)

    def _take(
        self,
        message: UnitsAsked
        | UnitsForgotten
        | UnitsDone
        | WorkerLost
        | UnitFinished
        | UnitProgress
        | UnitLog
        | PackageWanted
        | BlobWanted
        | Heartbeat,
    ) -> None:
        dispatcher = self._around.dispatcher
        match message:
            case UnitFinished():
                if (held := dispatcher.holder(self.node.id, message.attempt)) is not None:
                    self._around.task_logs.expect(held, message.attempt, message.lines)
                dispatcher.unit_finished(self.node.id, self._checked(message))
                if message.result is not None:
                    self._blobs.named([message.result.sha256])
            case UnitProgress(percent=percent, message=text):
                if -1 <= percent <= 100 and len(text or "") <= MESSAGE_LIMIT:
                    dispatcher.unit_progressed(self.node.id, message)
            case UnitLog():
                self._take_lines(message)
            case UnitsAsked() | UnitsForgotten() | UnitsDone() | WorkerLost():
                self._units.take(message)
            case PackageWanted(package=package, version=version):
                chunks = self._around.packages.stream(package, version)
                self._stream("package", f"{package}/{version}", chunks)
            case BlobWanted(sha256=digest):
                self._stream("blob", digest, self._blobs.chunks(digest))
            case Heartbeat(number=number):
                self.heard = number
                self.send(Heartbeat(answers=number))
                refusal = message.refusal[:REFUSAL_LIMIT]
                dispatcher.feed(inputs.HeartbeatReceived(self.node.id, message.held, refusal))
                if not dispatcher.is_connected(self.node.id) and self._link is not None:
                    # It was silent for so long that its work was given away: only a new hello brings it back.
                    self._link.close("the node was silent for longer than its lease")
            case _:
                assert_never(message)

    def _take_lines(self, message: UnitLog) -> None:
        link, record, size = self._link, message.record, len(message.record.lines)
        attempt = record.attempt
        if not self._around.seal.holds(message.seal, self.node.id, attempt, message.instance):
            self.send(LogStored(attempt, 0, is_wanted=False))
            return
        if self._lines_size + size > LINES_LIMIT:
            self._close(link, "The node sends more log lines than it may.")
            return
        self._lines_size += size

        def answer(held: int | Exception) -> None:
            self._lines_size -= size
            if isinstance(held, WireError):
                self._close(link, str(held))
            elif isinstance(held, int) and self._link is link:
                self.send(LogStored(attempt, held))

        self._around.task_logs.append(message.instance, record, answer)

    def _close(self, link: Link | None, reason: str) -> None:
        """End a link, if it is still the present one."""
        if link is not None and link is self._link:
            link.close(reason)

    def _checked(self, message: UnitFinished) -> UnitFinished:
        """The outcome, with a result that is what it says; otherwise a failure in its place."""
        result = message.result
        if message.outcome not in OUTCOMES or (message.outcome == COMPLETE and result is None):
            failure = Failure(WireError.code, "The node told of an outcome that does not exist.")
            return UnitFinished(message.attempt, FAILED, failure=failure)
        if result is None:
            return message
        if not result.sha256 and len(result.inline) <= INLINE_LIMIT:
            return _with_result(message, Payload(len(result.inline), inline=result.inline))
        if (size := self._blobs.came.get(result.sha256)) is not None:
            return _with_result(message, Payload(size, sha256=result.sha256))
        failure = Failure(WireError.code, "The node told of a result that it did not send.")
        return UnitFinished(message.attempt, FAILED, failure=failure)

    def _stream(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        link, bulk = self._link, self._bulk
        if link is None or bulk is None:
            return
        if self._streams >= STREAMS_LIMIT:
            link.close("The node asks for too much at once.")
            return
        self._streams += 1
        sent = Deferred.fromCoroutine(self._send_stream(bulk, kind, detail, chunks))
        sent.addErrback(
            lambda fault: self.log.failure("Sending {kind} {detail} failed", fault, kind=kind, detail=detail)
        )

    async def _send_stream(self, bulk: Bulk, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        try:
            await bulk.send(kind, detail, chunks)
        except LinkLost:
            return
        except RemoteFault as fault:
            self.log.error(
                "The node refused {kind} {detail}: {fault}", kind=kind, detail=detail, fault=str(fault)
            )
        except (PydraError, OSError) as fault:
            self.send(Unavailable(detail, f"The master cannot send it: {fault}"))
        # An edge: whatever it was, the node must not wait for ever.
        except Exception:  # noqa: BLE001
            self.log.failure("Sending {kind} {detail} failed", kind=kind, detail=detail)
            self.send(Unavailable(detail, "The master failed to send it; its log has the details."))
        finally:
            self._streams -= 1

    def stream_opened(self, kind: str, detail: str) -> BulkSink:
        """A node may send large arguments and results: named by their digest, or before that is known."""
        if kind == "unnamed":
            return self._blobs.open(None)
        if kind != "blob":
            raise WireError(f"A master takes no stream of kind {kind[:40]!r}.")
        return self._blobs.open(detail)


def _with_result(message: UnitFinished, result: Payload) -> UnitFinished:
    return UnitFinished(message.attempt, message.outcome, result, message.failure)
