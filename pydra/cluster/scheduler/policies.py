# SPDX-License-Identifier: MIT
"""
Which of the nodes that could take it gets the next worker; one small class for each way to choose.

A policy is told of each node that takes work and of each change of its load, and when it takes no more. None
looks at slots, and all choose in O(log nodes) or less. What is left to chance comes from a generator that is
handed in, so the same seed chooses the same nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Protocol

from pydra.cluster.scheduler.nodes import NodeRecord
from pydra.model.ids import NodeId

_SLACK = 64
"""Stale heap entries that are never worth a clean-up."""


class Chance(Protocol):
    """A generator of random numbers, such as ``random.Random(seed)``."""

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 to below ``stop``."""
        ...


class Policy(Protocol):
    """Chooses among the nodes that were put and not dropped."""

    def put(self, node: NodeRecord) -> None:
        """The node takes work; or it did before, and its load changed."""
        ...

    def drop(self, node: NodeRecord) -> None:
        """The node takes no more; or it did not before."""
        ...

    def choose(self) -> NodeRecord | None:
        """The node that gets the next worker; None if there is none. It stays until it is dropped."""
        ...

    def nodes(self) -> Collection[NodeId]:
        """All nodes that may be chosen."""
        ...


MakePolicy = Callable[[], Policy]


class _Ordered:
    """Nodes in the order of a key: a heap with lazy deletion, O(log nodes)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, NodeId, int, NodeRecord]] = []
        self._current: dict[NodeId, int] = {}
        """The number of the one living entry of a node."""
        self._number = 0

    def key(self, node: NodeRecord) -> float:
        """What decides; the smallest is chosen, among equals the lowest node id."""
        raise NotImplementedError

    def put(self, node: NodeRecord) -> None:
        """The node takes work; or it did before, and its load changed."""
        self._number += 1
        self._current[node.id] = self._number
        # The number is unique, so records are never compared.
        heappush(self._heap, (self.key(node), node.id, self._number, node))
        if len(self._heap) > 2 * len(self._current) + _SLACK:
            self._heap = [entry for entry in self._heap if self._current.get(entry[1]) == entry[2]]
            heapify(self._heap)

    def drop(self, node: NodeRecord) -> None:
        """The node takes no more; or it did not before."""
        self._current.pop(node.id, None)

    def choose(self) -> NodeRecord | None:
        """The node with the smallest key."""
        heap, current = self._heap, self._current
        if not current:
            heap.clear()
            return None
        while current.get(heap[0][1]) != heap[0][2]:
            heappop(heap)
        return heap[0][3]

    def nodes(self) -> Collection[NodeId]:
        """All nodes that may be chosen."""
        return self._current.keys()


class LeastLoad(_Ordered):
    """The node with the smallest share of busy slots."""

    def key(self, node: NodeRecord) -> float:
        """Its load."""
        return node.load


class LeastRecentlyUsed(_Ordered):
    """The node that was given nothing for the longest time; one that is new comes first."""

    def key(self, node: NodeRecord) -> float:
        """The number of the latest attempt that it was given."""
        return node.latest


class PlainRandom:
    """Any node, all with the same chance."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._nodes: list[NodeRecord] = []
        self._place: dict[NodeId, int] = {}

    def put(self, node: NodeRecord) -> None:
        """The node takes work; or it did before."""
        if node.id not in self._place:
            self._place[node.id] = len(self._nodes)
            self._nodes.append(node)

    def drop(self, node: NodeRecord) -> None:
        """The node takes no more: the last one takes its place."""
        place = self._place.pop(node.id, None)
        if place is None:
            return
        last = self._nodes.pop()
        if last is not node:
            self._nodes[place] = last
            self._place[last.id] = place

    def choose(self) -> NodeRecord | None:
        """One of them, by chance."""
        return self._any() if self._nodes else None

    def nodes(self) -> Collection[NodeId]:
        """All nodes that may be chosen."""
        return self._place.keys()

    def _any(self) -> NodeRecord:
        return self._nodes[self._chance.randrange(len(self._nodes))]


class TwoBin(PlainRandom):
    """Of two nodes that chance names the less loaded one."""

    def choose(self) -> NodeRecord | None:
        """The better of two; the first, if they are equal."""
        if not self._nodes:
            return None
        first, second = self._any(), self._any()
        return second if second.load < first.load else first


class Weighted:
    """
    Like ``TwoBin``, but a node is named the more often the less it is loaded.

    Weights are whole numbers in a tree of sums, so that rounding loses nothing.
    """

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._nodes: list[NodeRecord] = []
        """By place; a place stays with its node for ever, and its weight is 0 while it is not here."""
        self._place: dict[NodeId, int] = {}
        self._weight: dict[NodeId, int] = {}
        self._sums: list[int] = [0]
        """Of the weights, as a binary indexed tree, from place 1 on."""
        self._total = 0

    def put(self, node: NodeRecord) -> None:
        """The node takes work; or it did before, and its load changed."""
        if node.id not in self._place:
            self._place[node.id] = len(self._nodes)
            self._nodes.append(node)
            at = len(self._nodes)
            # The sum of a new place covers those before it down to the lowest bit.
            self._sums.append(self._before(at - 1) - self._before(at - (at & -at)))
        self._set(node.id, _weight(node))

    def drop(self, node: NodeRecord) -> None:
        """The node takes no more; or it did not before."""
        if node.id in self._weight:
            self._set(node.id, 0)
            del self._weight[node.id]

    def choose(self) -> NodeRecord | None:
        """The better of two; the first, if they are equal."""
        if not self._total:
            return None
        first, second = self._any(), self._any()
        return second if second.load < first.load else first

    def nodes(self) -> Collection[NodeId]:
        """All nodes that may be chosen."""
        return self._weight.keys()

    def _set(self, node: NodeId, weight: int) -> None:
        more = weight - self._weight.get(node, 0)
        self._weight[node] = weight
        self._total += more
        at = self._place[node] + 1
        while at < len(self._sums):
            self._sums[at] += more
            at += at & -at

    def _before(self, at: int) -> int:
        """The sum of the weights of so many places."""
        found = 0
        while at:
            found += self._sums[at]
            at &= at - 1
        return found

    def _any(self) -> NodeRecord:
        """A node, with the chance of its weight: the first place whose sum exceeds a number."""
        left, at = self._chance.randrange(self._total), 0
        step = 1 << (len(self._nodes).bit_length() - 1)
        while step:
            if at + step < len(self._sums) and self._sums[at + step] <= left:
                at += step
                left -= self._sums[at]
            step >>= 1
        return self._nodes[at]


def _weight(node: NodeRecord) -> int:
    """The inverse of the load; an idle node weighs a million times as much as a busy one."""
    return int(1e6 / (1e-6 + node.load))


POLICIES: dict[str, Callable[[Chance], Policy]] = {
    "leastload": lambda _: LeastLoad(),
    "lru": lambda _: LeastRecentlyUsed(),
    "plainrandom": PlainRandom,
    "twobin": TwoBin,
    "weighted": Weighted,
}
"""By the name that the settings have."""


def make_policy(name: str, chance: Chance) -> MakePolicy:
    """What makes policies of this name, one of ``POLICIES``; all draw from the same generator."""
    return partial(POLICIES[name], chance)
