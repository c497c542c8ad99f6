# SPDX-License-Identifier: MIT
"""What waits for a slot: by priority, then by age; in one line for each requirement."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, merge
from itertools import islice

import attrs

from pydra.cluster.scheduler.nodes import NodeRecord
from pydra.cluster.scheduler.placement import Placement
from pydra.cluster.scheduler.wishes import NO_WISH, Requirement, Wish
from pydra.model.ids import InstanceId, NodeId

Order = tuple[int, float, InstanceId]
"""Priority, then age, then number: smaller runs first."""

SORTED_PART = 16
"""Sorting all costs less than taking more than this part of them, one by one."""

_SLACK = 64
"""Dead heap entries that are never worth a clean-up."""


@attrs.define(eq=False)
class Waiting:
    """An instance that waits for a slot."""

    instance: InstanceId
    priority: int
    queued: float
    losses: int
    wish: Wish = NO_WISH
    retried: int = 0
    """Attempts that failed and were followed by a retry."""
    node: NodeId | None = None
    """Where it ran last, if it did."""
    rests_until: float = float("-inf")
    """When the rest before its retry is over."""
    order: Order = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.order = (self.priority, self.queued, self.instance)


@attrs.define(eq=False)
class _Line:
    """
    Those with one requirement: a heap with lazy deletion.

    Adding and taking cost O(log n), removing from the middle O(1) on average.
    """

    heap: list[Order] = attrs.Factory(list)
    count: int = 0
    """Of the entries that are alive."""


class WaitingQueue:
    """
    All that waits; an instance that cannot be placed does not block those with another requirement.

    An entry of a line is alive if it is the very ``order`` of a waiting instance.
    """

    def __init__(self) -> None:
        self._waiting: dict[InstanceId, Waiting] = {}
        self._lines: dict[Requirement, _Line] = {}
        self._fresh: list[Requirement] = []
        """The lines that are new since ``first`` was asked for."""
        self.has_news = False
        """Something was added since ``first`` was asked for."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, instance: object) -> bool:
        return instance in self._waiting

    def has_line(self, requirement: Requirement) -> bool:
        """Somebody waits with this requirement."""
        return requirement in self._lines

    def get(self, instance: InstanceId) -> Waiting | None:
        """The waiting instance, or None if it does not wait."""
        return self._waiting.get(instance)

    def add(self, waiting: Waiting) -> None:
        """It waits from now on."""
        # Another tuple, so that an entry from an earlier stay in the queue is dead.
        waiting.order = (waiting.priority, waiting.queued, waiting.instance)
        self._waiting[waiting.instance] = waiting
        requirement = waiting.wish.requirement
        line = self._lines.get(requirement)
        if line is None:
            line = self._lines[requirement] = _Line()
            self._fresh.append(requirement)
        heappush(line.heap, waiting.order)
        line.count += 1
        self.has_news = True

    def first(self, placement: Placement) -> tuple[Waiting, NodeRecord] | None:
        """The first in order of those for whose requirement there is a node, and that; it goes on waiting."""
        for requirement in self._fresh:
            placement.choose(requirement)
        self._fresh.clear()
        self.has_news = False
        first: Waiting | None = None
        for requirement in placement.met():
            line = self._lines.get(requirement)
            if line is not None:
                head = self._head(line)
                if first is None or head.order < first.order:
                    first = head
        node = None if first is None else placement.choose(first.wish.requirement)
        return None if first is None or node is None else (first, node)

    def heads(self) -> Iterator[Waiting]:
        """The first of each line."""
        for line in self._lines.values():
            yield self._head(line)

    def remove(self, instance: InstanceId) -> Waiting:
        """It waits no more; KeyError if it did not."""
        waiting = self._waiting.pop(instance)
        requirement = waiting.wish.requirement
        line = self._lines[requirement]
        line.count -= 1
        if not line.count:
            del self._lines[requirement]
        elif line.heap[0] is waiting.order:
            heappop(line.heap)
        elif len(line.heap) > 2 * line.count + _SLACK:
            line.heap = [order for order in line.heap if self._is_alive(order)]
            heapify(line.heap)
        return waiting

    def ordered(self, most: int = sys.maxsize) -> list[Waiting]:
        """The first ones, first one first, for people; a few of many cost little more than themselves."""
        if most > len(self._waiting) // SORTED_PART:
            return sorted(self._waiting.values(), key=lambda waiting: waiting.order)[:most]
        found = merge(*map(self._living, self._lines.values()))
        return [self._waiting[order[2]] for order in islice(found, most)]

    def ahead_of(self, waiting: Waiting, is_rival: Callable[[Requirement], bool]) -> int:
        """How many with such requirements stand before it; O(n), for people."""
        return sum(
            order < waiting.order and self._is_alive(order)
            for requirement, line in self._lines.items()
            if is_rival(requirement)
            for order in line.heap
        )

    def living_entries(self) -> Iterator[InstanceId]:
        """The instances whose entries are alive, in no order; for the invariants."""
        for line in self._lines.values():
            for order in line.heap:
                if self._is_alive(order):
                    yield order[2]

    def _living(self, line: _Line) -> Iterator[Order]:
        """The entries of a line that are alive, first one first; the heap stays as it is."""
        heap = line.heap
        nearest = [(heap[0], 0)]
        while nearest:
            order, place = heappop(nearest)
            if self._is_alive(order):
                yield order
            for child in range(2 * place + 1, min(2 * place + 3, len(heap))):
                heappush(nearest, (heap[child], child))

    def _head(self, line: _Line) -> Waiting:
        """The first of a line, which is not empty."""
        while not self._is_alive(line.heap[0]):
            heappop(line.heap)
        return self._waiting[line.heap[0][2]]

    def _is_alive(self, order: Order) -> bool:
        waiting = self._waiting.get(order[2])
        return waiting is not None and waiting.order is order
