# SPDX-License-Identifier: MIT
"""What must come of the store at last: it is asked again while it refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.errors import StoreError, Unstorable

RETRY_FIRST_S, RETRY_LAST_S = 0.2, 5.0
"""Seconds between tries, doubling from the first to the last."""

ANSWER_S = 20.0
"""Seconds after which somebody who waits for what must come of the store is told that it comes later."""

T = TypeVar("T")


class StoreRetry:
    """Asks again and again; ``what`` is asked for, for the log."""

    log = Logger()

    def __init__(self, clock: IReactorTime, what: str) -> None:
        self._clock = clock
        self._what = what
        self._timers: set[IDelayedCall] = set()
        self._is_stopped = False

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """
        What the store answers at last, or `Unstorable`; after ``stop`` nothing comes any more.

        Whatever else is raised, nothing was changed.
        """
        retry_s = RETRY_FIRST_S
        while True:
            try:
                return await ask()
            except (Unstorable, CancelledError):
                raise
            # An edge: those who insist cannot go on without the answer.
            except Exception as fault:  # noqa: BLE001
                self.log.error(
                    "The store refused {what}; trying again in {s} s: {fault}",
                    what=self._what,
                    s=retry_s,
                    fault=str(fault),
                )
            await self._pause(retry_s)
            retry_s = min(retry_s * 2, RETRY_LAST_S)

    def stop(self) -> None:
        """Ask no more, and leave no timer behind."""
        self._is_stopped = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def _pause(self, seconds: float) -> None:
        paused: Deferred[None] = Deferred()
        if not self._is_stopped:
            timer = self._clock.callLater(seconds, paused.callback, None)
            self._timers.add(timer)
            paused.addCallback(lambda _: self._timers.discard(timer))
        await paused


def not_yet(*_: object) -> NoReturn:
    """What to tell then."""
    raise StoreError("The store takes nothing at the moment. What you asked for is done as soon as it does.")
