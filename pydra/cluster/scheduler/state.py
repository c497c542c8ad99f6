# SPDX-License-Identifier: MIT
"""The scheduler's tables: what waits, what is assigned, and the nodes."""

from __future__ import annotations

from collections import deque

import attrs

from pydra.cluster.scheduler.deadlines import Deadlines, DueKind
from pydra.cluster.scheduler.dependencies import Dependencies
from pydra.cluster.scheduler.instructions import Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.placement import Placement
from pydra.cluster.scheduler.policies import LeastLoad, MakePolicy
from pydra.cluster.scheduler.queue import Waiting, WaitingQueue
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
    queue: WaitingQueue = attrs.Factory(WaitingQueue)
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
    deadlines: Deadlines = attrs.Factory(Deadlines)
    out: list[Instruction] = attrs.Factory(list)
    """What the present feed wants done."""
    ended: dict[InstanceId, Ended] = attrs.Factory(dict)
    """What became final in the present feed."""
    news: deque[InstanceId] = attrs.Factory(deque)
    """Those of them whose end somebody waits for."""

    def status(self, instance: InstanceId) -> Status:
        """Where an instance stands; UNKNOWN if it never was here or is final."""
        assigned = self.assigned.get(instance)
        if assigned is not None:
            return assigned.status
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
        self.deadlines.put((DueKind.NODE, node.id), node.heard + wait_s)
