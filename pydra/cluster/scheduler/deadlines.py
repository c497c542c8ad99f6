# SPDX-License-Identifier: MIT
"""What is due when, for things whose deadlines move all the time."""

from __future__ import annotations

from enum import IntEnum
from heapq import heapify, heappop, heappush, heapreplace

SLACK = 64
"""Entries beyond twice the deadlines that there are, before those that are no more are cleared away."""


class DueKind(IntEnum):
    """What a deadline is about; at one instant nodes come first."""

    NODE = 0
    """Nothing was heard of a node."""
    STOP = 1
    """An instance did not stop within its grace."""
    LIMIT = 2
    """An instance runs for as long as it may."""
    RETRY = 3
    """An instance that failed is run again."""
    IDLE = 4
    """Hired workers of an instance had nothing to do for long enough."""
    EXPECTED = 5
    """Nodes did not come back after a restart of the master."""
    EXCLUSIVE = 6
    """A node did not name something exclusive for so long that it has ended it."""
    LATE = 7
    """A worker of an instance should have done its quick units by now, and others wait."""


Key = tuple[DueKind, int]
"""A kind, and the number of the node or instance."""


class Deadlines:
    """
    One deadline per key, the earliest one known at any time.

    Moving a deadline later (each heartbeat does) is a write into a dict: its entry in the heap is moved only
    when it comes to the top. Moving it earlier adds an entry, and the old one is dropped when it comes to the
    top.
    """

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._entry: dict[Key, float] = {}
        """The time of the one valid heap entry of a key; never later than its deadline."""

    def put(self, key: Key, at: float) -> None:
        """The key is due at ``at``, and no more at the time it had before."""
        self._at[key] = at
        entry = self._entry.get(key)
        if entry is None or at < entry:
            self._entry[key] = at
            heappush(self._heap, (at, key))

    def clear(self, key: Key) -> None:
        """The key is not due any more."""
        self._at.pop(key, None)
        if len(self._heap) > 2 * len(self._at) + SLACK:
            self._entry = dict(self._at)
            self._heap = [(at, left) for left, at in self._at.items()]
            heapify(self._heap)

    def get(self, key: Key) -> float | None:
        """When the key is due."""
        return self._at.get(key)

    def keys(self) -> set[Key]:
        """All keys that have a deadline; for the invariants."""
        return set(self._at)

    def next_at(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap:
            at, key = heap[0]
            if self._entry.get(key) != at:
                heappop(heap)
                continue
            deadline = self._at.get(key)
            if deadline is None:
                heappop(heap)
                del self._entry[key]
            elif deadline > at:
                heapreplace(heap, (deadline, key))
                self._entry[key] = deadline
            else:
                return at
        return None

    def take_due(self, now: float) -> Key | None:
        """A key whose deadline has come, which has none from now on; None if nothing is due."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, key = heappop(self._heap)
        del self._at[key], self._entry[key]
        return key
