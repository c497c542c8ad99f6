# SPDX-License-Identifier: MIT
"""What a master does again and again, with a pause after each time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure


class Repeated:
    """Carries out ``look``; ``failed`` is told what it raised, and it is tried again all the same."""

    def __init__(
        self,
        clock: IReactorTime,
        look: Callable[[], Coroutine[Deferred[Any], Any, None]],
        failed: Callable[[Failure], None],
        pause_s: float,
    ) -> None:
        self._clock = clock
        self._look = look
        self._failed = failed
        self._pause_s = pause_s
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self._stopped = False

    def begin(self) -> None:
        """Look now, and again and again."""
        self._timer = None
        self._looking = Deferred.fromCoroutine(self._look())
        self._looking.addErrback(self._tell)
        self._looking.addCallback(lambda _: self.begin_in(self._pause_s))

    def begin_in(self, seconds: float) -> None:
        """Look after a while, and again and again."""
        if not self._stopped:
            self._timer = self._clock.callLater(seconds, self.begin)

    def stop(self) -> None:
        """Look no more; a look that is under way is cancelled."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _tell(self, fault: Failure) -> None:
        if not (self._stopped and fault.check(CancelledError)):
            self._failed(fault)
