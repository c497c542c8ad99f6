# SPDX-License-Identifier: MIT
"""Launches of workers that failed in a row: a pause after each, and when takers are told why."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pydra.cluster.sandbox.descriptors import Reactor

PATIENCE = 3
"""Failures in a row after which takers are refused."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0


class Setbacks:
    """Counts failures, and calls ``go_on`` after a pause that doubles."""

    log = Logger()

    def __init__(self, reactor: Reactor, go_on: Callable[[], None]) -> None:
        self._reactor = reactor
        self._go_on = go_on
        self._count = 0
        self._pause: IDelayedCall | None = None
        self.reason = ""
        """Of the last failure, in a sentence."""

    @property
    def is_pausing(self) -> bool:
        """Nothing is launched for a while."""
        return self._pause is not None

    @property
    def are_lasting(self) -> bool:
        """It failed too often to be waited for."""
        return self._count >= PATIENCE

    def add(self, why: str) -> None:
        """A launch failed; several that were started together fail together, which is one failure."""
        if self._pause is not None:
            return
        self._count += 1
        self.reason = f"No worker can be started: {why}"
        pause_s = min(FIRST_PAUSE_S * 2 ** (self._count - 1), LONGEST_PAUSE_S)
        self.log.warn("{reason}; next try in {pause_s} s", reason=self.reason, pause_s=pause_s)
        self._pause = self._reactor.callLater(pause_s, self._over)

    def end(self) -> None:
        """A worker was started and used."""
        self._count = 0

    def stop(self) -> None:
        """Leave no timer behind."""
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        self._pause = None

    def _over(self) -> None:
        self._pause = None
        self._go_on()
