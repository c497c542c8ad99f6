# SPDX-License-Identifier: MIT
"""Where the next unit goes: the ready node with the smallest share of busy slots, its lowest free slot."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from pydra.cluster.scheduler.nodes import NodeRecord

_SLACK = 64
"""Stale heap entries that are never worth a clean-up."""


class LeastLoad:
    """
    The ready nodes that have a free slot, least loaded first; among equals the lowest node id.

    A heap with lazy deletion. ``reconsider`` must be called after each change of a node's load, slots or
    standing; it makes the node's older entry stale. Choosing costs O(log nodes), whatever the number of
    slots.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, NodeRecord]] = []
        self._placeable: set[int] = set()

    def reconsider(self, node: NodeRecord) -> None:
        """The node's load, slots or standing changed."""
        node.version += 1
        if not node.is_placeable:
            self._placeable.discard(node.id)
            return
        self._placeable.add(node.id)
        # The version is unique for a node, so records are never compared.
        heappush(self._heap, (node.load, node.id, node.version, node))
        if len(self._heap) > 2 * len(self._placeable) + _SLACK:
            self._heap = [entry for entry in self._heap if entry[3].version == entry[2]]
            heapify(self._heap)

    def choose(self) -> NodeRecord | None:
        """The node that takes the next unit; None if no ready node has a free slot."""
        if not self._placeable:
            return None
        heap = self._heap
        while heap[0][3].version != heap[0][2]:
            heappop(heap)
        return heap[0][3]

    def living_entries(self) -> Iterator[tuple[int, float]]:
        """The id and load in each entry that is not stale, in no order; for the invariants."""
        for load, identity, version, node in self._heap:
            if node.version == version:
                yield identity, load
