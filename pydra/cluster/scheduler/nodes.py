# SPDX-License-Identifier: MIT
"""A node as the scheduler knows it: what it is good for, its slots, and what holds them."""

from __future__ import annotations

from enum import Enum
from heapq import heapify, heappop, heappush

import attrs

from pydra.cluster.scheduler.limits import MOST_SLOTS
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.status import Status


class Standing(Enum):
    """What a node is good for."""

    READY = "ready"
    """Linked and heard of; takes work."""
    SUSPECT = "suspect"
    """Linked, but not heard of for a while; takes no new work until it is heard of."""
    SILENT = "silent"
    """Not linked; keeps its assignments until the lease runs out, takes none until it is ready."""
    GONE = "gone"
    """Not heard of for a whole lease; has no assignments, and nothing but being ready counts."""

    @property
    def is_connected(self) -> bool:
        """True if messages can be sent to it."""
        return self is Standing.READY or self is Standing.SUSPECT


@attrs.define(eq=False)
class Assigned:
    """An instance whose unit is with a node; it occupies a slot of it."""

    instance: InstanceId
    priority: int
    queued: float
    losses: int
    attempt: Attempt
    node: NodeId
    index: int
    status: Status
    """RUNNING or CANCELLING."""
    named: float
    """When the node last named the attempt, or when it was dispatched."""
    fails: bool = False
    """A CANCELLING one: it was terminated, and ends FAILED."""
    is_killed: bool = False
    """A CANCELLING one: it gets no grace."""


@attrs.define(eq=False)
class NodeRecord:
    """
    A node and its slots.

    Slots from ``unused`` on have no holder, and below it the free ones are in the heap ``returned``; so a
    node with many slots costs nothing. A slot at or above ``offered`` is kept by its holder, and is gone
    afterwards.
    """

    id: NodeId
    standing: Standing
    heard: float
    offered: int = 0
    holders: dict[int, Assigned] = attrs.Factory(dict)
    returned: list[int] = attrs.Factory(list)
    unused: int = 0
    version: int = 0
    """Belongs to ``LeastLoad``: which of its entries is the living one."""

    @property
    def has_free_slot(self) -> bool:
        """True if a slot that it offers has no holder."""
        return self.unused < self.offered or bool(self.returned)

    @property
    def is_placeable(self) -> bool:
        """True if new work may go here."""
        return self.standing is Standing.READY and self.has_free_slot

    @property
    def load(self) -> float:
        """The busy share of its slots."""
        return len(self.holders) / self.offered if self.offered else 1.0

    @property
    def free(self) -> int:
        """The number of free slots."""
        return len(self.returned) + self.offered - self.unused

    def offer(self, slots: int) -> None:
        """It has so many slots from now on; busy ones above that stay busy."""
        self.offered = min(max(slots, 0), MOST_SLOTS)
        above = max(self.holders, default=-1) + 1
        self.unused = min(above, self.offered)
        self.returned = [index for index in range(self.unused) if index not in self.holders]
        heapify(self.returned)

    def next_index(self) -> int:
        """The lowest free slot, which is free no more; there must be one."""
        if self.returned:
            return heappop(self.returned)
        self.unused += 1
        return self.unused - 1

    def hold_again(self, assigned: Assigned) -> None:
        """An assignment of before takes its slot, or the lowest one if another has it."""
        if assigned.index < 0 or assigned.index in self.holders:
            assigned.index = next(
                index for index in range(len(self.holders) + 1) if index not in self.holders
            )
        self.holders[assigned.index] = assigned
        self.offer(self.offered)

    def release(self, index: int) -> None:
        """The slot is free again."""
        del self.holders[index]
        if index < self.offered:
            heappush(self.returned, index)

    def by_slot(self) -> list[Assigned]:
        """Its assignments in the order of slots."""
        return [assigned for _, assigned in sorted(self.holders.items())]
