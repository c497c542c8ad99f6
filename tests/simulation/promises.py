# SPDX-License-Identifier: MIT
"""P3: what runs at most once begins once, and of what is exclusive one attempt is alive at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from pydra.model.options import Guarantee

Key = tuple[int, str, int]
"""Instance, branch and index of a unit; a root has no branch."""


class Alive(Protocol):
    """A worker, wherever it is."""

    is_gone: bool
    name: str


class Promises:
    """Looks at what begins, at the workers themselves: what should not be is told."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun: Counter[Key] = Counter()
        self._alive: dict[Key, Alive] = {}

    def begins(self, key: Key, guarantee: Guarantee, worker: Alive) -> None:
        """A worker begins a unit, or a root."""
        self._begun[key] += 1
        if guarantee & Guarantee.ONCE and self._begun[key] > 1:
            self._tell(
                f"{key} is to run at most once, and began {self._begun[key]} times, at last in {worker.name}"
            )
        before = self._alive.get(key)
        is_alive = before is not None and before is not worker and not before.is_gone
        if guarantee & Guarantee.EXCLUSIVE and before is not None and is_alive:
            self._tell(
                f"{key} is exclusive, and began in {worker.name} while {before.name} was alive with it"
            )
        self._alive[key] = worker

    def ends(self, key: Key, worker: Alive) -> None:
        """It has done with it; a root is alive until its worker is gone."""
        if self._alive.get(key) is worker:
            del self._alive[key]
