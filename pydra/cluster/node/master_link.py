# SPDX-License-Identifier: MIT
"""
What the master may ask, and what the node tells it.

The master says ``MasterHello``; the node answers ``NodeHello`` with what it runs and what it holds, and
sends the progress of what it runs and each held outcome again. Until then, nothing that the master says is
carried out. A lower epoch than the highest one seen is an old master: its link is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure as Failed

from pydra.cluster.interfaces import Bulk, BulkSink, Link
from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.groups import groups
from pydra.cluster.node.hired_workers import HiredWorkers
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.node.units import Units
from pydra.cluster.wire.messages import (
    PROTOCOL,
    Heartbeat,
    HeldBatch,
    HeldBatches,
    HireWorker,
    KillUnit,
    LogStored,
    MasterHello,
    NodeHello,
    PauseUnit,
    Recorded,
    ReleaseWorker,
    RunUnit,
    RunUnits,
    StopUnit,
    ToMaster,
    ToNode,
    Unavailable,
    UnitResults,
    UnitsRecorded,
)
from pydra.errors import WireError
from pydra.model.ids import Attempt
from pydra.model.node import NodeInformation

BATCH_SIZE = 256
"""Bytes of a batch that is held, besides its units and its branch, at most."""

NO_ATTEMPT = Attempt(0, 0)
"""Older than all that there are."""


class MasterLink:
    """The node's end of the link, over all connections of the master to it."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        incarnation: str,
        slots: int,
        describe_node: Callable[[], NodeInformation],
        delivery: Delivery,
        accept_epoch: Callable[[int], Awaitable[bool]],
        heartbeat_s: float,
        orphan_grace_s: float,
    ) -> None:
        self._clock = clock
        self._incarnation = incarnation
        self._slots = slots
        self._describe_node = describe_node
        self._delivery = delivery
        self._accept_epoch = accept_epoch
        self._heartbeat_s = heartbeat_s
        self._orphan_grace_s = orphan_grace_s
        self._link: Link | None = None
        self._bulk: Bulk | None = None
        self._greeted = False
        self._beat: IDelayedCall | None = None
        self._orphaned: IDelayedCall | None = None
        self._latest: dict[tuple[type, bool], Attempt] = {}
        """The newest attempt of each kind of order."""

    def serve(self, around: Surroundings, units: Units, hired: HiredWorkers) -> None:
        """Name those whom the master's words are for; called once, before there can be a link."""
        self._units = units
        self._hired = hired
        self._outbox = around.outbox
        self._askers = around.askers
        self._packages = around.packages
        self._arguments = around.arguments
        self._logs = around.logs
        self._leases = around.leases
        self._refusal = around.refusal

    def tell(self, message: ToMaster) -> bool:
        """Send a message; False if there is no master to send it to."""
        if self._link is None or not self._greeted:
            return False
        self._link.send(message)
        return True

    def leave(self, reason: str) -> None:
        """Drop the link and tell nothing more: what ends from now on, the master gives again."""
        self._greeted = False
        self._delivery.close()
        if self._link is not None:
            self._link.close(reason)

    def link_up(self, link: Link, bulk: Bulk) -> None:
        """The pinned master is connected; its hello follows."""
        self._link, self._bulk, self._greeted = link, bulk, False

    def link_down(self, reason: str) -> None:
        """Work goes on without a master for the orphan grace, then it is ended; a refused one is none."""
        self.log.warn("The link to the master is down: {reason}", reason=reason)
        self._link = self._bulk = None
        self._greeted = False
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._delivery.close()
        self._outbox.link_down()
        self._logs.link_down()
        if self._orphaned is None:
            self._orphaned = self._clock.callLater(self._orphan_grace_s, self._abandon)

    def stop(self) -> None:
        """Leave no timer behind."""
        for timer in (self._beat, self._orphaned):
            if timer is not None and timer.active():
                timer.cancel()
        self._beat = self._orphaned = None

    def _abandon(self) -> None:
        self._orphaned = None
        reason = f"The node had no master for {self._orphan_grace_s:g} s."
        self._units.kill_all(reason)
        self._hired.kill_all(reason)

    def messages_received(self, messages: Sequence[ToNode | ToMaster]) -> None:
        """Carry out a batch of the master."""
        for message in messages:
            if isinstance(message, MasterHello):
                self._greet(message)
            elif self._greeted:
                self._carry_out(message)  # type: ignore[arg-type]  # the link decodes what masters may say alone
            if self._link is None:
                return

    def _carry_out(
        self,
        message: RunUnit
        | HireWorker
        | ReleaseWorker
        | RunUnits
        | UnitResults
        | UnitsRecorded
        | StopUnit
        | PauseUnit
        | KillUnit
        | Recorded
        | LogStored
        | Heartbeat
        | Unavailable,
    ) -> None:
        match message:
            case RunUnit(attempt):
                if self._is_new(message, attempt):
                    self._units.run(message)
            case StopUnit():
                self._units.stop(message.attempt)
            case PauseUnit(attempt, paused):
                self._units.hold(attempt, paused=paused)
            case KillUnit():
                self._units.kill(message.attempt)
            case HireWorker(attempt):
                if self._is_new(message, attempt):
                    self._hired.hire(message)
            case ReleaseWorker(attempt):
                self._hired.release(attempt)
            case RunUnits(batch=batch):
                if self._is_new(message, batch):
                    self._hired.run(message)
            case UnitResults():
                self._askers.results(message)
            case UnitsRecorded(batch, count):
                self._outbox.recorded(batch, count)
            case Recorded():
                for attempt in message.attempts:
                    self._outbox.forget(attempt)
            case LogStored(attempt, lines, is_wanted):
                self._logs.stored(attempt, lines, is_wanted)
            case Heartbeat(answers=answers):
                if answers is not None:
                    self._leases.answered(answers)
            case Unavailable():
                self._packages.unavailable(message.name, message.reason)
                self._arguments.unavailable(message.name, message.reason)
            case _:
                assert_never(message)

    def _is_new(self, order: RunUnit | HireWorker | RunUnits, attempt: Attempt) -> bool:
        """
        Attempts rise: what does not is said again, and may have been done and forgotten long ago.

        What has a guarantee is stored before it is said, so it may be said after later orders without.
        """
        kind = (type(order), not isinstance(order, HireWorker) and bool(order.guarantee))
        is_new = attempt > self._latest.get(kind, NO_ATTEMPT)
        if is_new:
            self._latest[kind] = attempt
        return is_new

    def _greet(self, hello: MasterHello) -> None:
        link, bulk = self._link, self._bulk
        if link is None or bulk is None or self._greeted:
            return
        if hello.protocol != PROTOCOL:
            link.close(
                f"The master speaks protocol {hello.protocol}, this node {PROTOCOL}: upgrade the older one."
            )
            return
        accepted = Deferred.fromCoroutine(self._accept(link, bulk, hello.epoch))

        def failed(fault: Failed) -> None:
            self.log.failure("The master's epoch was not kept", fault)
            link.close("The node cannot keep your epoch; its log has the details.")

        accepted.addErrback(failed)

    async def _accept(self, link: Link, bulk: Bulk, epoch: int) -> None:
        """Obey a master that is not an old one, as soon as that is remembered."""
        if not await self._accept_epoch(epoch):
            link.close(f"A master with epoch {epoch} is an old one; there was a newer.")
            return
        if self._link is not link or self._greeted:
            return
        self._greeted = True
        if self._orphaned is not None:
            self._orphaned.cancel()
            self._orphaned = None
        self.log.info("The master is connected (epoch {epoch})", epoch=epoch)
        self._say_hello(link, bulk)
        self._units.tell_all_progress()
        self._logs.link_up()
        self._outbox.link_up()
        self._askers.ask_again()
        self._packages.ask_again()
        self._arguments.ask_again()
        self._beat = self._clock.callLater(self._heartbeat_s, self._send_heartbeat)

    def _say_hello(self, link: Link, bulk: Bulk) -> None:
        held = self._outbox.batches()
        *earlier, last = held_groups(held)
        for batches in earlier:
            link.send(HeldBatches(batches))
        link.send(
            NodeHello(
                protocol=PROTOCOL,
                incarnation=self._incarnation,
                slots=self._slots,
                information=self._describe_node(),
                running=self._units.running(),
                finished=self._outbox.attempts(),
                workers=self._hired.held() + self._outbox.lost_workers(),
                batches=last,
                ran_s=self._units.ran_s(),
                refusal=self._refusal(),
            )
        )
        self._leases.greeted()
        self._delivery.open(link, bulk)

    def _send_heartbeat(self) -> None:
        held = self._units.running() + self._hired.attempts() + self._outbox.attempts()
        self.tell(Heartbeat(held, self._leases.beat(), refusal=self._refusal()))
        self._beat = self._clock.callLater(self._heartbeat_s, self._send_heartbeat)

    def stream_opened(self, kind: str, detail: str) -> BulkSink:
        """What the master may send by bulk: packages and arguments that were asked for."""
        if kind == "package":
            return self._packages.sink(detail)
        if kind == "blob":
            return self._arguments.sink(detail)
        raise WireError(f"A node takes no stream of kind {kind[:40]!r}.")


def held_groups(held: Sequence[HeldBatch]) -> list[tuple[HeldBatch, ...]]:
    """Batches in as few messages as possible; at least one, which may be empty."""
    sizes = [len(batch.indexes) * 9 + len(batch.digests) + len(batch.branch) * 4 for batch in held]
    return [tuple(held[start:end]) for start, end in groups(sizes, BATCH_SIZE)] or [()]
