# SPDX-License-Identifier: MIT
"""A node as the scheduler knows it: what it is good for, its slots, and what holds them."""

from __future__ import annotations

from enum import Enum
from heapq import heapify, heappop, heappush

import attrs

from pydra.cluster.scheduler.crews import Hired
from pydra.cluster.scheduler.strays import Stray
from pydra.cluster.scheduler.wishes import ANYWHERE, NO_WISH, Amounts, Requirement, Wish
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
    """An instance whose root is with a node; it occupies a slot of it, unless it is paused."""

    instance: InstanceId
    priority: int
    queued: float
    losses: int
    attempt: Attempt
    node: NodeId
    index: int
    status: Status
    """RUNNING, CANCELLING or PAUSED."""
    named: float
    """When the node last named the attempt, or when it was dispatched."""
    fails: bool = False
    """A CANCELLING one: it was terminated, and ends FAILED."""
    reason: str = ""
    """Why it ``fails``, with a ``code``; nothing means that a user ended it."""
    code: str = ""
    is_killed: bool = False
    """A CANCELLING one: it gets no grace."""
    wish: Wish = NO_WISH
    retried: int = 0
    """Attempts that failed and were followed by a retry."""
    has_slot: bool = True
    left_s: float | None = None
    """Of its time limit, while it is paused; None for all of it."""


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
    holders: dict[int, Assigned | Hired] = attrs.Factory(dict)
    roots: dict[InstanceId, Assigned] = attrs.Factory(dict)
    """The main workers that are here, paused ones too."""
    hired: dict[Attempt, Hired] = attrs.Factory(dict)
    """The hired workers that are here, on lent slots too, and those of which results are to come."""
    exclusive: dict[Attempt, Assigned | Hired | Stray] = attrs.Factory(dict)
    """Workers of something exclusive that are here, or may be."""
    kept_until: float = float("-inf")
    """It is not gone before this, for the sake of these."""
    returned: list[int] = attrs.Factory(list)
    unused: int = 0
    labels: frozenset[str] = frozenset()
    isolation: str = ""
    resources: dict[str, int] = attrs.Factory(dict)
    """What it offers, in thousandths by name; what is held may be more after it came back with less."""
    held: dict[str, int] = attrs.Factory(dict)
    """What its workers hold of it; none is 0."""
    latest: int = 0
    """The number of the latest attempt that it was given."""
    refusal: str = ""
    """Why it begins nothing new at the moment; empty if it does."""
    described: int = 0
    """Rises when it offers other things."""

    @property
    def has_free_slot(self) -> bool:
        """True if a slot that it offers has no holder."""
        return self.unused < self.offered or bool(self.returned)

    @property
    def is_placeable(self) -> bool:
        """True if new work may go here."""
        return self.standing is Standing.READY and not self.refusal and self.has_free_slot

    def describe(self, labels: frozenset[str], isolation: str, resources: Amounts) -> None:
        """It has and offers this from now on."""
        self.labels, self.isolation, self.resources = labels, isolation, dict(resources)
        self.described += 1

    def suits(self, requirement: Requirement) -> bool:
        """True if it would do when nothing ran on it."""
        return requirement is ANYWHERE or (
            requirement.labels <= self.labels
            and requirement.isolation in ("", self.isolation)
            and (requirement.nodes is None or self.id in requirement.nodes)
            and all(amount <= self.resources.get(name, 0) for name, amount in requirement.resources)
        )

    def meets(self, requirement: Requirement) -> bool:
        """True if a worker with this requirement may go here, as far as slots do not matter."""
        return self.suits(requirement) and not self.short_of(requirement.resources)

    def would_meet(self, requirement: Requirement, without: Amounts) -> bool:
        """True if a worker with this requirement could go here once such resources were given back."""
        if not self.suits(requirement):
            return False
        self.let_go(without)
        is_met = not self.short_of(requirement.resources)
        self.hold(without)
        return is_met

    def short_of(self, resources: Amounts) -> list[str]:
        """The names of those resources of which it has not so much left."""
        if not resources:
            return []
        offered, held = self.resources, self.held
        return [name for name, amount in resources if amount > offered.get(name, 0) - held.get(name, 0)]

    def hold(self, resources: Amounts) -> None:
        """A worker takes so much."""
        for name, amount in resources:
            self.held[name] = self.held.get(name, 0) + amount

    def let_go(self, resources: Amounts) -> None:
        """A worker gives back what it took."""
        for name, amount in resources:
            left = self.held[name] - amount
            if left:
                self.held[name] = left
            else:
                del self.held[name]

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
        self.offered = slots
        above = max(self.holders, default=-1) + 1
        self.unused = min(above, self.offered)
        self.returned = [index for index in range(self.unused) if index not in self.holders]
        heapify(self.returned)

    def take(self, holder: Assigned | Hired) -> None:
        """A new worker takes its slot, which ``next_index`` told, and what it needs."""
        self.holders[holder.index] = holder
        self.hold(holder.wish.requirement.resources)
        self.latest = holder.attempt.number

    def next_index(self) -> int:
        """The lowest free slot, which is free no more; there must be one."""
        if self.returned:
            return heappop(self.returned)
        self.unused += 1
        return self.unused - 1

    def hold_again(self, holder: Assigned | Hired) -> None:
        """A worker of before takes its slot, or the lowest one if another has it."""
        if holder.index < 0 or holder.index in self.holders:
            holder.index = next(index for index in range(len(self.holders) + 1) if index not in self.holders)
        self.holders[holder.index] = holder
        self.hold(holder.wish.requirement.resources)
        self.offer(self.offered)

    def hand_over(self, index: int, heir: Hired) -> None:
        """The slot, and what its worker held, is that of another worker of the same instance."""
        self.holders[index] = heir

    def release(self, index: int) -> None:
        """The slot is free again, and what its worker held."""
        self.let_go(self.holders.pop(index).wish.requirement.resources)
        if index < self.offered:
            heappush(self.returned, index)

    def by_slot(self) -> list[Assigned]:
        """Its main workers in the order of slots."""
        return sorted(self.roots.values(), key=lambda assigned: (assigned.index, assigned.attempt))
