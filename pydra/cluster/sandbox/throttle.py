# SPDX-License-Identifier: MIT
"""How much may be read of a worker: what comes faster waits in its pipe, which then blocks the worker."""

from __future__ import annotations

from collections.abc import Callable


class Throttle:
    """A bucket of ``burst`` units that fills with ``per_second``; ``seconds`` is a clock."""

    def __init__(self, seconds: Callable[[], float], per_second: float, burst: float) -> None:
        self._seconds = seconds
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._filled = seconds()

    def take(self, amount: float) -> float:
        """Take what was read; the seconds until the next may be, 0.0 for at once."""
        now = self._seconds()
        self._left = min(self._burst, self._left + (now - self._filled) * self._per_second) - amount
        self._filled = now
        return max(0.0, -self._left / self._per_second)
