# SPDX-License-Identifier: MIT
"""What is kept on a disk, within a number of bytes: what was not used for the longest goes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class BoundedCache(Generic[Key]):
    """The record of a cache; what is held is never given up, so it may exceed its limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[Key, int] = {}
        """Bytes of each thing, the one that was used last at the end."""
        self._total = 0
        self._holders: Counter[Key] = Counter()

    def __contains__(self, key: Key) -> bool:
        return key in self._sizes

    def add(self, key: Key, size: int) -> None:
        """It is there, and used now."""
        self._total += size - self._sizes.pop(key, 0)
        self._sizes[key] = size

    def touch(self, key: Key) -> None:
        """It is used now, if it is there."""
        if key in self._sizes:
            self._sizes[key] = self._sizes.pop(key)

    def hold(self, key: Key) -> None:
        """It is needed, there or not, until it is released as often."""
        self._holders[key] += 1

    def release(self, key: Key) -> None:
        """One fewer needs it."""
        self._holders[key] -= 1
        if self._holders[key] <= 0:
            del self._holders[key]

    def is_needed(self, key: Key) -> bool:
        """It is held, or came (again) after it was given up."""
        return key in self._holders or key in self._sizes

    def give_up(self) -> list[Key]:
        """What must go to be within the limit; it is not in the record any more."""
        given_up = []
        for key in list(self._sizes):
            if self._total <= self._limit:
                break
            if key not in self._holders:
                self._total -= self._sizes.pop(key)
                given_up.append(key)
        return given_up
