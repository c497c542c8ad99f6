# SPDX-License-Identifier: MIT
"""
Units of a session that run and are not stored yet.

What has its result within a moment is stored with that, by one commit, and acknowledged and answered at once;
the rest is stored by itself when the moment is over.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

MOMENT_S = 0.003
"""About twice what the way of one short unit takes; an acknowledgement comes later by it."""

MOST = 16
"""Units of one message that may all be done within a moment."""


@attrs.frozen(eq=False)
class _Waiting:
    """The units of a message; ``left`` are those without a result."""

    left: set[int]
    told: Deferred[bool]


class Unstored:
    """Those of one session, for ``moment_s`` seconds each; none if that is 0."""

    def __init__(self, clock: IReactorTime, moment_s: float) -> None:
        self._clock = clock
        self._moment_s = moment_s
        self._waiting: list[_Waiting] = []
        self._timer: IDelayedCall | None = None

    async def are_recorded(self, indexes: Collection[int]) -> bool:
        """Wait a moment; true as soon as the results of all of them are stored, and they with these."""
        if not self._moment_s or len(indexes) > MOST:
            return False
        told: Deferred[bool] = Deferred()
        self._waiting.append(_Waiting(set(indexes), told))
        if self._timer is None:
            self._timer = self._clock.callLater(self._moment_s, self._over)
        return await told

    def recorded(self, indexes: Collection[int]) -> None:
        """Results are stored."""
        for waiting in list(self._waiting):
            waiting.left.difference_update(indexes)
            if not waiting.left:
                self._waiting.remove(waiting)
                waiting.told.callback(True)
        if not self._waiting:
            self.stop()

    def stop(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        """The moment is over; for those that came during it a little early."""
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.told.callback(False)
