# SPDX-License-Identifier: MIT
"""The scheduler's tables: what waits, what is assigned, and the nodes."""

from __future__ import annotations

from collections import deque

import attrs

from pydra.cluster.scheduler.crews import Batch, Crew, Hired
from pydra.cluster.scheduler.deadlines import Deadlines, DueKind
from pydra.cluster.scheduler.dependencies import Dependencies
from pydra.cluster.scheduler.hungry import Hungry
from pydra.cluster.scheduler.instructions import Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.placement import Placement
from pydra.cluster.scheduler.policies import LeastLoad, MakePolicy
from pydra.cluster.scheduler.queue import Waiting, WaitingQueue
from pydra.cluster.scheduler.strays import Strays
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.status import Status


@attrs.define(eq=False)
class State:
    """Everything that the scheduler knows."""

    epoch: int
    limits: Limits
    now: float = float("-inf")
    number: int = 0
    """Of the latest attempt of this epoch."""
    queue: WaitingQueue = attrs.field(
        default=attrs.Factory(lambda self: WaitingQueue(self.limits.backfill), takes_self=True)
    )
    blocked: dict[InstanceId, Waiting] = attrs.Factory(dict)
    """What waits for the end of others before it may stand in the queue."""
    resting: dict[InstanceId, Waiting] = attrs.Factory(dict)
    """What failed and waits for its retry."""
    dependencies: Dependencies = attrs.Factory(Dependencies)
    assigned: dict[InstanceId, Assigned] = attrs.Factory(dict)
    attempts: dict[Attempt, Assigned] = attrs.Factory(dict)
    """The same by attempt; any other attempt is stale or foreign."""
    nodes: dict[NodeId, NodeRecord] = attrs.Factory(dict)
    make_policy: MakePolicy = LeastLoad
    placement: Placement = attrs.field(
        default=attrs.Factory(lambda self: Placement(self.make_policy, self.queue.has_line), takes_self=True)
    )
    paused: dict[InstanceId, Waiting] = attrs.Factory(dict)
    """What would wait in the queue if it were not paused."""
    resuming: dict[InstanceId, Assigned] = attrs.Factory(dict)
    """What goes on as soon as its node has a slot for it."""
    crews: dict[InstanceId, Crew] = attrs.Factory(dict)
    """Of all sessions, and of instances that asked for units."""
    hired: dict[Attempt, Hired] = attrs.Factory(dict)
    batches: dict[Attempt, Batch] = attrs.Factory(dict)
    strays: Strays = attrs.Factory(Strays)
    stirred: dict[Crew, None] = attrs.Factory(dict)
    """Crews to which something happened in this feed."""
    hungry: Hungry = attrs.Factory(Hungry)
    """Crews that want a further worker on a slot of its own."""
    spare: dict[Hired, None] = attrs.Factory(dict)
    """Hired workers on slots of their own where nobody has a batch."""
    expected: set[NodeId] = attrs.Factory(set)
    """Nodes that were not ready since the start, and may hold units of what was restored."""
    adopted: set[Attempt] = attrs.Factory(set)
    """Hired workers and batches of earlier masters that were taken over, once and never again."""
    deadlines: Deadlines = attrs.Factory(Deadlines)
    out: list[Instruction] = attrs.Factory(list)
    """What the present feed wants done."""
    ended: dict[InstanceId, Ended] = attrs.Factory(dict)
    """What became final in the present feed."""
    completing: set[InstanceId] = attrs.Factory(set)
    """What is cancelled because it has done what it was to do."""
    news: deque[InstanceId] = attrs.Factory(deque)
    """Those of them whose end somebody waits for."""

    def status(self, instance: InstanceId) -> Status:
        """Where an instance stands; UNKNOWN if it never was here or is final."""
        assigned = self.assigned.get(instance)
        if assigned is not None:
            return assigned.status
        if instance in self.paused:
            return Status.PAUSED
        waits = instance in self.queue or instance in self.blocked or instance in self.resting
        return Status.QUEUED if waits else Status.UNKNOWN

    def is_held_by(self, attempt: Attempt, node: NodeId) -> bool:
        """The attempt is a current one, and with this node."""
        assigned = self.attempts.get(attempt)
        return assigned is not None and assigned.node == node

    def next_attempt(self) -> Attempt:
        """One that never was."""
        self.number += 1
        return Attempt(self.epoch, self.number)

    def known(self, identity: NodeId) -> NodeRecord:
        """The record of a node, made if there is none: silent, with its lease beginning now."""
        node = self.nodes.get(identity)
        if node is None:
            node = NodeRecord(identity, Standing.SILENT, heard=self.now)
            self.nodes[identity] = node
            self.watch_node(node)
        return node

    def watch_node(self, node: NodeRecord) -> None:
        """Set the deadline that belongs to the node's standing."""
        wait_s = self.limits.suspect_s if node.standing is Standing.READY else self.limits.lease_s
        node.kept_until = float("-inf")
        self.deadlines.put((DueKind.NODE, node.id), node.heard + wait_s)

    def watch_exclusive(self, node: NodeRecord) -> None:
        """Set the deadline of what is exclusive there: that of the one that was not named for the longest."""
        key = (DueKind.EXCLUSIVE, node.id)
        if node.exclusive:
            named = min(each.named for each in node.exclusive.values())
            self.deadlines.put(key, named + self.limits.exclusive_s)
        else:
            self.deadlines.clear(key)
