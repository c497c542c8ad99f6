# SPDX-License-Identifier: MIT
"""How many unused workers are worth keeping: as many as were taken lately, within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

LATELY_S = 30.0
"""How far back demand is looked at."""

FEWEST = 2
"""Workers that are kept ready when nobody takes any, so that the first comers do not wait."""


class Demand:
    """Counts takers; ``most`` is what there is ever use for, since no more can run at a time."""

    def __init__(self, seconds: Callable[[], float], most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._taken: deque[float] = deque(maxlen=max(most, 1))

    def taken(self) -> None:
        """A worker is wanted now."""
        self._taken.append(self._seconds())

    @property
    def fewest(self) -> int:
        """What is kept whatever happens."""
        return min(FEWEST, self._most)

    def wanted(self) -> int:
        """How many unused workers there should be."""
        since = self._seconds() - LATELY_S
        while self._taken and self._taken[0] < since:
            self._taken.popleft()
        return max(self.fewest, min(self._most, len(self._taken)))
