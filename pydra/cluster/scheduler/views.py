# SPDX-License-Identifier: MIT
"""What may be looked at: values made from the tables when somebody asks, never on the way of a decision."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Collection, Mapping

import msgspec

from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.queue import Order, Waiting
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.wishes import THOUSANDTHS
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.status import Status


class QueuedInstance(msgspec.Struct, frozen=True):
    """An instance that waits."""

    instance: InstanceId
    priority: int
    queued: float
    losses: int


class RunningInstance(msgspec.Struct, frozen=True):
    """An instance that is with a node; ``status`` is RUNNING, CANCELLING or PAUSED."""

    instance: InstanceId
    status: Status
    attempt: Attempt
    slot: WorkerSlot
    losses: int


class NodeView(msgspec.Struct, frozen=True):
    """A node: ``busy`` may exceed ``slots`` after it came back with fewer."""

    node: NodeId
    standing: Standing
    slots: int
    busy: int
    heard: float
    """When it was last heard of, by the scheduler's clock."""
    held: Mapping[str, float] = {}
    """What its workers hold of its resources, by name."""


class NodeRefusal(msgspec.Struct, frozen=True):
    """A node that was considered and not taken, and why: a phrase that goes on from the node's name."""

    node: NodeId
    reason: str


def queued(state: State, most: int = sys.maxsize) -> list[QueuedInstance]:
    """What waits, first one first."""
    aside = _first([*state.blocked.values(), *state.resting.values()], most)
    found = heapq.merge(state.queue.ordered(most), aside, key=_order)
    return [_queued(waiting) for waiting in itertools.islice(found, most)]


def paused(state: State, most: int = sys.maxsize) -> list[QueuedInstance]:
    """What would wait if it were not paused, in the order in which it would."""
    return [_queued(waiting) for waiting in _first(state.paused.values(), most)]


def _first(found: Collection[Waiting], most: int) -> list[Waiting]:
    return heapq.nsmallest(most, found, _order) if most < len(found) else sorted(found, key=_order)


def _order(waiting: Waiting) -> Order:
    return waiting.order


def _queued(waiting: Waiting) -> QueuedInstance:
    return QueuedInstance(waiting.instance, waiting.priority, waiting.queued, waiting.losses)


def running(state: State) -> list[RunningInstance]:
    """What is with a node, by id."""
    return [
        RunningInstance(instance, assigned.status, assigned.attempt, _slot(assigned), assigned.losses)
        for instance, assigned in sorted(state.assigned.items())
    ]


def node(state: State, identity: NodeId) -> NodeView | None:
    """One node; None if it is not known."""
    record = state.nodes.get(identity)
    return None if record is None else _node_view(record)


def slots(state: State, identity: NodeId) -> tuple[InstanceId | None, ...]:
    """The holder of each slot; longer than the slots offered if one above them is still busy."""
    record = state.nodes.get(identity)
    if record is None:
        return ()
    holders: list[InstanceId | None] = [None] * max(record.offered, max(record.holders, default=-1) + 1)
    for index, assigned in record.holders.items():
        holders[index] = assigned.instance
    return tuple(holders)


def holder(state: State, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
    """The instance and the node of a current attempt."""
    assigned = state.attempts.get(attempt)
    return None if assigned is None else (assigned.instance, assigned.node)


def worker(state: State, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
    """The instance and the node of a worker."""
    hired = state.hired.get(attempt)
    return holder(state, attempt) if hired is None else (hired.instance, hired.node)


def may_ask(state: State, asker: Attempt, branch: str) -> bool:
    """False of a branch that is below no unit of this hired worker, or of a main worker that is below any."""
    hired = state.hired.get(asker)
    if hired is not None and not hired.batches:
        return True  # it asks in vain
    return asks_as(state, asker, branch) is not None


def asks_as(state: State, asker: Attempt, branch: str) -> Attempt | None:
    """
    The attempt that asks for units of this branch; None if there is none.

    A main worker's is its own, and a hired worker's is the batch in which it runs the unit above.
    """
    path, _, _ = branch.rpartition("/")
    hired = state.hired.get(asker)
    if hired is None:
        return None if path else asker
    name, _, index = path.rpartition(":")
    if index.isascii() and index.isdecimal():
        for batch in reversed(hired.batches):  # of two the later one runs it: the earlier has ended it
            if name == batch.branch.name and int(index) in batch.indexes:
                return batch.attempt
    return None


def units(state: State, instance: InstanceId) -> tuple[int, int]:
    """How many units of an instance wait, and how many are with a hired worker."""
    crew = state.crews.get(instance)
    if crew is None:
        return 0, 0
    running = sum(
        len(batch.indexes) - batch.done for worker in crew.workers.values() for batch in worker.batches
    )
    return crew.queued, running


def outstanding(state: State, instance: InstanceId, asker: Attempt | None) -> tuple[int, int]:
    """How many units a worker or client waits for, and how many bytes their arguments have."""
    crew = state.crews.get(instance)
    if crew is None:
        return 0, 0
    hired = crew.workers.get(asker) if asker is not None else None
    who = crew.main if hired is None and crew.main.attempt == asker else hired
    return (who.units, who.size) if who is not None else (0, 0)


def _node_view(record: NodeRecord) -> NodeView:
    held = {name: amount / THOUSANDTHS for name, amount in sorted(record.held.items())}
    return NodeView(record.id, record.standing, record.offered, len(record.holders), record.heard, held)


def _slot(assigned: Assigned) -> WorkerSlot:
    return WorkerSlot(assigned.node, assigned.index)
