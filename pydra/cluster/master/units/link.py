# SPDX-License-Identifier: MIT
"""
What one node says of units.

Workers are not trusted, and a node no more than it must be: an ask that breaks a rule fails the instance of
its asker, results that cannot be end the link. What a node says it has of an earlier master counts only with
the seal that came with the worker.
"""

from __future__ import annotations

from typing import assert_never

from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.logs.seal import LogSeal
from pydra.cluster.master.payloads.node_blobs import NodeBlobs
from pydra.cluster.master.units.checks import ask_fault, batch_fault, checked_results
from pydra.cluster.scheduler.unit_values import BatchHeld, WorkerHeld
from pydra.cluster.wire.messages import (
    HeldBatch,
    HeldBatches,
    HeldWorker,
    NodeHello,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
    WorkerLost,
)
from pydra.errors import WireError
from pydra.model.ids import NodeId
from pydra.model.instance import Failure
from pydra.model.node import SLOTS_LIMIT
from pydra.model.unit import BRANCH_LIMIT

HELD_BATCHES, HELD_UNITS = 20_000, 2_000_000
"""Batches, and units in them, that a node may say it holds."""

UnitMessage = UnitsAsked | UnitsForgotten | UnitsDone | WorkerLost


class UnitLink:
    """The part of a node's link that is about units."""

    def __init__(self, node: NodeId, dispatcher: Dispatcher, blobs: NodeBlobs, seal: LogSeal) -> None:
        self._node = node
        self._dispatcher = dispatcher
        self._blobs = blobs
        self._seal = seal
        self._held: list[HeldBatch] = []

    def reset(self) -> None:
        """There is a new link, on which nothing was said yet."""
        self._held.clear()

    def hold(self, message: HeldBatches) -> None:
        """Keep batches for the hello that follows; `WireError` if they are too many."""
        self._held += message.batches
        if len(self._held) > HELD_BATCHES or sum(len(each.indexes) for each in self._held) > HELD_UNITS:
            self._held.clear()
            raise WireError("The node holds more batches than it can have.")

    def held(self, hello: NodeHello) -> tuple[tuple[WorkerHeld, ...], tuple[BatchHeld, ...]]:
        """What a node says it holds, in its hello and before; `WireError` if that cannot be."""
        self.hold(HeldBatches(hello.batches))
        held, self._held = self._held, []
        for each in held:
            if fault := batch_fault(each):
                raise WireError(f"A batch of the node {fault}.")
        if any(each.index >= SLOTS_LIMIT for each in hello.workers):
            raise WireError("A worker of the node is on a slot that cannot be.")
        workers = tuple(
            WorkerHeld(each.worker, each.instance, each.index, self._was_given(each))
            for each in hello.workers
        )
        batches = tuple(
            BatchHeld(
                each.batch,
                each.worker,
                each.instance,
                each.branch,
                each.indexes,
                each.digests,
                each.recorded,
                self._was_given(each),
                each.is_guarded,
            )
            for each in held
        )
        return workers, batches

    def _was_given(self, held: HeldWorker | HeldBatch) -> bool:
        return self._seal.holds(held.seal, self._node, held.worker, held.instance)

    def take(self, message: UnitMessage) -> None:
        """Take a message of the node; `WireError` refuses it."""
        units = self._dispatcher.units
        match message:
            case UnitsDone():
                units.done(self._node, checked_results(message, self._blobs.came))
                self._blobs.named({blob.sha256 for blob in message.blobs.values()})
            case UnitsAsked():
                self._asked(message)
            case UnitsForgotten():
                if len(message.branch) <= BRANCH_LIMIT:
                    units.forgotten(self._node, message)
            case WorkerLost():
                units.worker_lost(self._node, message)
            case _:
                assert_never(message)

    def _asked(self, message: UnitsAsked) -> None:
        units = self._dispatcher.units
        fault = ask_fault(message, self._blobs.came)
        if not fault and not units.may_ask(message.asker, message.branch):
            fault = "is by a unit that its worker does not run"
        if fault:
            instance = units.instance_of(self._node, message.asker)
            if instance is not None:
                words = f"The task asked for units in a way that is refused: the ask {fault}."
                self._dispatcher.refuse(instance, Failure(WireError.code, words))
            return
        units.asked(self._node, message)
        self._blobs.named({blob.sha256 for blob in message.blobs.values()})
