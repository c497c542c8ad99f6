# SPDX-License-Identifier: MIT
"""What waits for a slot: by priority, then by age; in one line for each requirement."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, merge
from itertools import islice

import attrs
import msgspec

from pydra.cluster.scheduler.limits import Limits
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

    group: _Group
    heap: list[Order] = attrs.Factory(list)
    count: int = 0
    """Of the entries that are alive."""
    is_open: bool = False
    entry: tuple[Order, int] | None = None
    """Of a closed one: when its head was looked at last, and the number of the one valid entry of it."""


@attrs.define(eq=False)
class _Group:
    """
    Lines whose requirements differ in amounts alone.

    Places are looked for only for those with the first heads, ``backfill`` of them: the open ones. What no
    ready node could take if nothing ran on it is not among them, and so keeps nobody from being one.
    """

    kind: Requirement
    open: dict[Requirement, _Line] = attrs.Factory(dict)
    closed: list[tuple[Order, int, Requirement]] = attrs.Factory(list)
    """A heap by heads, which may have become later since."""
    hopeless: dict[Requirement, _Line] = attrs.Factory(dict)


class WaitingQueue:
    """
    All that waits; an instance that cannot be placed does not block those with another requirement.

    An entry of a line is alive if it is the very ``order`` of a waiting instance. Of lines that differ in
    amounts alone only some are open, so that what a decision costs does not grow with the number of amounts.
    """

    def __init__(self, backfill: int = Limits().backfill) -> None:
        self._backfill = backfill
        self._waiting: dict[InstanceId, Waiting] = {}
        self._lines: dict[Requirement, _Line] = {}
        self._groups: dict[Requirement, _Group] = {}
        self._unsettled: dict[_Group, None] = {}
        """Groups in which other lines may have to be open than are."""
        self._number = 0
        self._offers = 0
        """Of the placement, when it was looked at last."""
        self.has_news = False
        """Something was added since ``first`` was asked for, or a line may have to be opened."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, instance: object) -> bool:
        return instance in self._waiting

    def has_line(self, requirement: Requirement) -> bool:
        """Somebody waits with this requirement, in an open line."""
        line = self._lines.get(requirement)
        return line is not None and line.is_open

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
            kind = _kind(requirement)
            group = self._groups.get(kind)
            if group is None:
                group = self._groups[kind] = _Group(kind)
            line = self._lines[requirement] = _Line(group)
        heappush(line.heap, waiting.order)
        line.count += 1
        self.has_news = True
        is_closed = not line.is_open and requirement not in line.group.hopeless
        if is_closed and (line.entry is None or waiting.order < line.entry[0]):
            self._close(requirement, line)

    def first(self, placement: Placement) -> tuple[Waiting, NodeRecord] | None:
        """The first in order of those for whose requirement there is a node, and that; it goes on waiting."""
        self._settle(placement)
        self.has_news = False
        first: Waiting | None = None
        for requirement in placement.met():
            line = self._lines.get(requirement)
            if line is not None and line.is_open:
                head = self._head(line)
                if first is None or head.order < first.order:
                    first = head
        node = None if first is None else placement.choose(first.wish.requirement)
        return None if first is None or node is None else (first, node)

    def heads(self) -> Iterator[Waiting]:
        """The first of each open line."""
        for group in self._groups.values():
            for line in group.open.values():
                yield self._head(line)

    def remove(self, instance: InstanceId) -> Waiting:
        """It waits no more; KeyError if it did not."""
        waiting = self._waiting.pop(instance)
        requirement = waiting.wish.requirement
        line = self._lines[requirement]
        line.count -= 1
        group = line.group
        if line.is_open and group.closed:
            self._unsettled[group] = None
            self.has_news = True
        if not line.count:
            del self._lines[requirement]
            group.open.pop(requirement, None)
            group.hopeless.pop(requirement, None)
            self._forget_if_empty(group)
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

    def open_lines(self) -> Iterator[tuple[list[Order], list[Order]]]:
        """Of each group the heads of the open lines, and of the closed ones; for the invariants."""
        for group in self._groups.values():
            lines = [line for line in self._lines.values() if line.group is group]
            closed = [
                line for one, line in self._lines.items() if line in lines and one not in group.hopeless
            ]
            yield (
                sorted(self._head(line).order for line in lines if line.is_open),
                sorted(self._head(line).order for line in closed if not line.is_open),
            )

    def _settle(self, placement: Placement) -> None:
        """Open the lines that are to be open now."""
        if placement.offers != self._offers:
            self._offers = placement.offers
            for group in self._groups.values():
                # Where none is closed too: one that is open may be of no use now, and keep later ones closed.
                for requirement, line in [*group.open.items(), *group.hopeless.items()]:
                    self._close(requirement, line)
                group.hopeless.clear()
        for group in self._unsettled:
            while (best := self._best_closed(group)) is not None:
                order, requirement = best
                if len(group.open) >= self._backfill:
                    last = max(group.open, key=lambda one: self._head(self._lines[one]).order)
                    if self._head(self._lines[last]).order < order:
                        break
                    if placement.is_possible(requirement):
                        self._close(last, self._lines[last])
                heappop(group.closed)
                self._open(group, requirement, placement)
            self._forget_if_empty(group)
        self._unsettled.clear()

    def _forget_if_empty(self, group: _Group) -> None:
        if not group.open and not group.hopeless and not group.closed:
            self._groups.pop(group.kind, None)

    def _open(self, group: _Group, requirement: Requirement, placement: Placement) -> None:
        """A line that was closed is open, unless that would be of no use."""
        line = self._lines[requirement]
        line.entry = None
        if placement.choose(requirement) is not None or placement.is_possible(requirement):
            line.is_open = True
            group.open[requirement] = line
        else:
            group.hopeless[requirement] = line

    def _close(self, requirement: Requirement, line: _Line) -> None:
        """It waits until it comes to be one of the first of its group."""
        self._number += 1
        line.is_open = False
        line.entry = (self._head(line).order, self._number)
        line.group.open.pop(requirement, None)
        closed = line.group.closed
        heappush(closed, (*line.entry, requirement))
        self._unsettled[line.group] = None
        if len(closed) > 2 * len(self._lines) + _SLACK:
            closed[:] = [one for one in closed if self._is_valid(one)]
            heapify(closed)

    def _is_valid(self, entry: tuple[Order, int, Requirement]) -> bool:
        line = self._lines.get(entry[2])
        return line is not None and line.entry == entry[:2]

    def _best_closed(self, group: _Group) -> tuple[Order, Requirement] | None:
        """The first of the closed lines, and its head; it is on top of their heap."""
        closed = group.closed
        while closed:
            order, _, requirement = entry = closed[0]
            if not self._is_valid(entry):
                heappop(closed)
            elif self._head(line := self._lines[requirement]).order != order:
                heappop(closed)
                self._close(requirement, line)
            else:
                return order, requirement
        return None

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


def _kind(requirement: Requirement) -> Requirement:
    """What the requirements of a group have in common: the same resources, but not as much of them."""
    resources = requirement.resources
    if not resources:
        return requirement
    return msgspec.structs.replace(requirement, resources=tuple((name, 0) for name, _ in resources))
