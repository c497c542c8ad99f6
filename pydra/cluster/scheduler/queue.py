# SPDX-License-Identifier: MIT
"""The instances that wait, in the order in which they will run."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

import attrs

from pydra.model.ids import InstanceId

Order = tuple[int, float, InstanceId]
"""Priority, then age, then number: smaller runs first."""

_SLACK = 64
"""Dead heap entries that are never worth a clean-up."""


@attrs.define(eq=False)
class Waiting:
    """An instance that waits for a slot."""

    instance: InstanceId
    priority: int
    queued: float
    losses: int
    order: Order = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.order = (self.priority, self.queued, self.instance)


class WaitingQueue:
    """
    A heap with lazy deletion: adding and taking cost O(log n), removing from the middle O(1) on average.

    An entry of the heap is alive if it is the very ``order`` of a waiting instance.
    """

    def __init__(self) -> None:
        self._heap: list[Order] = []
        self._waiting: dict[InstanceId, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, instance: object) -> bool:
        return instance in self._waiting

    def get(self, instance: InstanceId) -> Waiting | None:
        """The waiting instance, or None if it does not wait."""
        return self._waiting.get(instance)

    def add(self, waiting: Waiting) -> None:
        """It waits from now on."""
        self._waiting[waiting.instance] = waiting
        heappush(self._heap, waiting.order)

    def take(self) -> Waiting | None:
        """The first in order, which waits no more; None if nothing waits."""
        while self._heap:
            order = heappop(self._heap)
            waiting = self._waiting.get(order[2])
            if waiting is not None and waiting.order is order:
                del self._waiting[waiting.instance]
                return waiting
        return None

    def remove(self, instance: InstanceId) -> None:
        """It waits no more; KeyError if it did not."""
        del self._waiting[instance]
        if len(self._heap) > 2 * len(self._waiting) + _SLACK:
            self._heap = [waiting.order for waiting in self._waiting.values()]
            heapify(self._heap)

    def ordered(self) -> list[Waiting]:
        """All of them, first one first; O(n log n), for people."""
        return sorted(self._waiting.values(), key=lambda waiting: waiting.order)

    def ahead_of(self, waiting: Waiting) -> int:
        """How many run before it; O(n), for people."""
        return sum(other.order < waiting.order for other in self._waiting.values())

    def living_entries(self) -> Iterator[InstanceId]:
        """The instances whose entries in the heap are alive, in no order; for the invariants."""
        for order in self._heap:
            waiting = self._waiting.get(order[2])
            if waiting is not None and waiting.order is order:
                yield waiting.instance
