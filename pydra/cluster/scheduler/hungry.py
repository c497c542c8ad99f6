# SPDX-License-Identifier: MIT
"""Which instance gets the next further worker: by priority, then who has the fewest, then by age."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from pydra.cluster.scheduler.crews import Crew
from pydra.cluster.scheduler.wishes import Requirement
from pydra.model.ids import InstanceId

Order = tuple[int, int, float, InstanceId]
_Entry = tuple[Order, int, Crew]
"""The number in it is unique, so crews are never compared."""

_SLACK = 64
"""Dead heap entries that are never worth a clean-up."""


class Hungry:
    """A heap for each requirement; an entry is alive if it is the present one of its crew."""

    def __init__(self) -> None:
        self._lines: dict[Requirement, list[_Entry]] = {}
        self._entries: dict[Crew, tuple[Order, int, Requirement]] = {}
        self._number = 0
        self.has_news = False
        """Something was put since a place was looked for."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, crew: object) -> bool:
        return crew in self._entries

    def put(self, crew: Crew, requirement: Requirement) -> None:
        """It wants a further worker, with this requirement; or it did before."""
        order = (crew.priority, len(crew.workers), crew.queued_at, crew.instance)
        entry = self._entries.get(crew)
        if entry is not None and (entry[0], entry[2]) == (order, requirement):
            return
        self._number += 1
        self._entries[crew] = (order, self._number, requirement)
        line = self._lines.setdefault(requirement, [])
        heappush(line, (order, self._number, crew))
        self.has_news = True
        if len(line) > 2 * len(self._entries) + _SLACK:
            line[:] = [one for one in line if self._is_alive(one, requirement)]
            heapify(line)

    def drop(self, crew: Crew) -> None:
        """It wants none; or it did not before."""
        self._entries.pop(crew, None)

    def first(self, accepts: Callable[[Crew, Requirement], bool]) -> Crew | None:
        """The first for which there is a place; others with the same requirement are not looked at."""
        self.has_news = False
        found: _Entry | None = None
        for requirement in list(self._lines):
            line = self._lines[requirement]
            while line and not self._is_alive(line[0], requirement):
                heappop(line)
            if not line:
                del self._lines[requirement]
            elif (found is None or line[0] < found) and accepts(line[0][2], requirement):
                found = line[0]
        return None if found is None else found[2]

    def _is_alive(self, entry: _Entry, requirement: Requirement) -> bool:
        return self._entries.get(entry[2]) == (entry[0], entry[1], requirement)
