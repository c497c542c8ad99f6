# SPDX-License-Identifier: MIT
"""The scheduler's tables: what waits, what is assigned, and the nodes."""

from __future__ import annotations

import attrs

from pydra.cluster.scheduler.deadlines import Deadlines
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord
from pydra.cluster.scheduler.placement import LeastLoad
from pydra.cluster.scheduler.queue import WaitingQueue
from pydra.model.ids import Attempt, InstanceId, NodeId
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
    assigned: dict[InstanceId, Assigned] = attrs.Factory(dict)
    attempts: dict[Attempt, Assigned] = attrs.Factory(dict)
    """The same by attempt; any other attempt is stale or foreign."""
    nodes: dict[NodeId, NodeRecord] = attrs.Factory(dict)
    placement: LeastLoad = attrs.Factory(LeastLoad)
    deadlines: Deadlines = attrs.Factory(Deadlines)

    def status(self, instance: InstanceId) -> Status:
        """Where an instance stands; UNKNOWN if it never was here or is final."""
        assigned = self.assigned.get(instance)
        if assigned is not None:
            return assigned.status
        return Status.QUEUED if instance in self.queue else Status.UNKNOWN

    def is_held_by(self, attempt: Attempt, node: NodeId) -> bool:
        """The attempt is a current one, and with this node."""
        assigned = self.attempts.get(attempt)
        return assigned is not None and assigned.node == node
