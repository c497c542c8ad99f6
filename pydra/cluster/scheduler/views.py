# SPDX-License-Identifier: MIT
"""What may be looked at: values made from the tables when somebody asks, never on the way of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import msgspec

from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.queue import Waiting
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


class Explanation(msgspec.Struct, frozen=True):
    """Why an instance waits; ``text`` is a sentence for people, the rest is for waiting instances."""

    instance: InstanceId
    status: Status
    text: str
    ahead: int = 0
    """Instances that run before it."""
    refusals: tuple[NodeRefusal, ...] = ()


def queued(state: State) -> list[QueuedInstance]:
    """What waits, first one first."""
    return [
        QueuedInstance(waiting.instance, waiting.priority, waiting.queued, waiting.losses)
        for waiting in sorted(
            [*state.queue.ordered(), *state.blocked.values(), *state.resting.values()],
            key=lambda waiting: waiting.order,
        )
    ]


def running(state: State) -> list[RunningInstance]:
    """What is with a node, by id."""
    return [
        RunningInstance(instance, assigned.status, assigned.attempt, _slot(assigned), assigned.losses)
        for instance, assigned in sorted(state.assigned.items())
    ]


def nodes(state: State) -> list[NodeView]:
    """All nodes, by id."""
    return [_node_view(record) for _, record in sorted(state.nodes.items())]


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


def assignment(state: State, instance: InstanceId) -> tuple[Attempt, WorkerSlot] | None:
    """The current attempt of an instance and its slot."""
    assigned = state.assigned.get(instance)
    return None if assigned is None else (assigned.attempt, _slot(assigned))


def holder(state: State, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
    """The instance and the node of a current attempt."""
    assigned = state.attempts.get(attempt)
    return None if assigned is None else (assigned.instance, assigned.node)


def worker(state: State, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
    """The instance and the node of a worker."""
    hired = state.hired.get(attempt)
    return holder(state, attempt) if hired is None else (hired.instance, hired.node)


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


def explain(state: State, instance: InstanceId) -> Explanation:
    """Why an instance waits."""
    waiting = state.queue.get(instance)
    if waiting is not None:
        return _explain_waiting(state, waiting)
    if instance in state.paused:
        return Explanation(instance, Status.PAUSED, "It is paused; once it is resumed, it waits for a slot.")
    assigned = state.assigned.get(instance)
    if assigned is None:
        return Explanation(instance, Status.UNKNOWN, "It is not in the queue: it ended, or never was here.")
    if assigned.has_slot:
        text = f"It is on node {assigned.node}, slot {assigned.index}, as attempt {assigned.attempt}."
    elif assigned.status is Status.PAUSED:
        text = f"It is paused on node {assigned.node}, as attempt {assigned.attempt}."
    else:
        text = f"It waits until node {assigned.node}, where its main worker is, has a free slot."
    return Explanation(instance, assigned.status, text)


def _explain_waiting(state: State, waiting: Waiting) -> Explanation:
    ahead = state.queue.ahead_of(waiting)
    refusals = tuple(
        NodeRefusal(identity, _refusal(record)) for identity, record in sorted(state.nodes.items())
    )
    if not refusals:
        text = "It waits: no node has connected yet."
    elif not any(record.standing is Standing.READY for record in state.nodes.values()):
        text = "It waits: no node is ready."
    else:
        text = "It waits: every slot of every ready node is busy."
    if ahead:
        text += f" {ahead} more will run before it." if ahead > 1 else " One more will run before it."
    return Explanation(waiting.instance, Status.QUEUED, text, ahead, refusals)


def _refusal(record: NodeRecord) -> str:
    match record.standing:
        case Standing.SILENT:
            return "is not connected"
        case Standing.GONE:
            return "is gone: nothing was heard of it for a whole lease"
        case Standing.SUSPECT:
            return "is suspect: it is connected, but sends no heartbeat"
        case Standing.READY if not record.offered:
            return "offers no slots"
        case Standing.READY if not record.has_free_slot:
            return f"has no free slot: all {record.offered} are busy"
        case Standing.READY:
            return "has a free slot; it will be taken at the next turn"
        case _:
            assert_never(record.standing)


def _node_view(record: NodeRecord) -> NodeView:
    held = {name: amount / THOUSANDTHS for name, amount in sorted(record.held.items())}
    return NodeView(record.id, record.standing, record.offered, len(record.holders), record.heard, held)


def _slot(assigned: Assigned) -> WorkerSlot:
    return WorkerSlot(assigned.node, assigned.index)
