# SPDX-License-Identifier: MIT
"""
How long workers of something exclusive may go on, by what the master has heard of.

The master gives such a worker up so long after it heard it named last, or gave it out. This node knows when
it sent the latest heartbeat that was answered; what was named in it was heard of then or later. So a worker
that is ended a while after that is ended before the master gives its work to somebody else, whatever the
link loses or delays. A worker is named first in the heartbeat after its begin; until that is answered, what
counts is the one that the master had heard when it gave it out.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.model.ids import Attempt


@attrs.define
class _Lease:
    since: float
    """When a heartbeat was sent that the master has heard, and that it knew the worker by."""
    first: int
    """The number of the first heartbeat on this link that names it."""
    expired: Callable[[], None]


class ExclusiveLeases:
    """Calls who did not have a heartbeat answered for ``limit_s``."""

    def __init__(self, clock: IReactorTime, limit_s: float) -> None:
        self._clock = clock
        self.limit_s = limit_s
        self._sent: dict[int, float] = {}
        """When the heartbeats of this link were sent, but those whose answer would come too late."""
        self._number = 0
        self._leases: dict[Attempt, _Lease] = {}
        self._timer: IDelayedCall | None = None

    def greeted(self) -> None:
        """A hello is sent, which names everything; heartbeats are counted from it."""
        self._number = 0
        self._sent = {0: self._clock.seconds()}
        for lease in self._leases.values():
            lease.first = 0

    def beat(self) -> int:
        """A heartbeat is sent, with this number."""
        now = self._clock.seconds()
        self._number += 1
        self._sent = {number: at for number, at in self._sent.items() if at + self.limit_s > now}
        self._sent[self._number] = now
        return self._number

    def answered(self, number: int) -> None:
        """The master has heard this heartbeat; one that was never sent, or long ago, says nothing."""
        at = self._sent.get(number)
        if at is None or not self._leases:
            return
        for lease in self._leases.values():
            if lease.first <= number:
                lease.since = max(lease.since, at)
        self._watch()

    def begin(self, attempt: Attempt, heard: int, expired: Callable[[], None]) -> bool:
        """
        A worker has something exclusive from now on, until its ``end``.

        False, and it must not begin, if it was given out too long ago.
        """
        at = self._sent.get(heard)
        if at is None or at + self.limit_s <= self._clock.seconds():
            return False
        lease = self._leases.get(attempt)
        if lease is None:
            self._leases[attempt] = _Lease(at, self._number + 1, expired)
        else:
            lease.since = max(lease.since, at)
        self._watch()
        return True

    def end(self, attempt: Attempt) -> None:
        """The worker is gone, or never came."""
        if self._leases.pop(attempt, None) is not None:
            self._watch()

    def stop(self) -> None:
        """Leave no timer behind."""
        self._leases.clear()
        self._watch()

    def _watch(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._leases:
            at = min(lease.since for lease in self._leases.values()) + self.limit_s
            self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        over = [attempt for attempt, lease in self._leases.items() if lease.since + self.limit_s <= now]
        calls = [self._leases.pop(attempt).expired for attempt in over]
        self._watch()
        for expired in calls:
            expired()
