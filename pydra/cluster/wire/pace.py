# SPDX-License-Identifier: MIT
"""How often something may happen."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime


class Pace:
    """A bucket of ``burst`` permits that fills with ``per_second``."""

    def __init__(self, clock: IReactorTime, per_second: float, burst: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._permits = float(burst)
        self._filled = clock.seconds()

    def take(self) -> bool:
        """True if it may happen now; that uses a permit."""
        now = self._clock.seconds()
        self._permits = min(self._burst, self._permits + (now - self._filled) * self._per_second)
        self._filled = now
        if self._permits < 1.0:
            return False
        self._permits -= 1.0
        return True

    def wait_s(self) -> float:
        """Seconds until there is a permit again, as of the last ``take``."""
        return max(0.0, (1.0 - self._permits) / self._per_second)
