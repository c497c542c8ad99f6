# SPDX-License-Identifier: MIT
"""
How long workers of something exclusive may go on, by what the master has heard of.

The master gives such a worker up so long after it heard it named last, or gave it out. This node knows when
it sent the latest heartbeat that was answered; what was named in it was heard of then or later. So a worker
that is ended a while after that is ended before the master gives its work to somebody else, whatever the
link loses or delays. A worker is named first in the heartbeat after its begin; until that is answered, what
counts is the one that the master had heard when it gave it out.

Who can end the worker is told how long it may go on, and each time that this is longer: it ends it also while
this daemon stands still. So what is counted are seconds of the boot-time clock, which goes on while the
machine is suspended.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.model.ids import Attempt


@attrs.define
class _Lease:
    since: float
    """When a heartbeat was sent that the master has heard, and that it knew the worker by."""
    first: int
    """The number of the first heartbeat on this link that names it."""
    expired: Callable[[], None]
    live_until: Callable[[float], None] | None = None
    """Tells who ends its worker; None before there is one."""
    told: float = -math.inf
    """The ``since`` of what was told."""


class ExclusiveLeases:
    """Calls who did not have a heartbeat answered for ``limit_s``, by what ``now`` says."""

    log = Logger()

    def __init__(self, clock: IReactorTime, now: Callable[[], float], limit_s: float) -> None:
        self._clock = clock
        self._now = now
        self.limit_s = limit_s
        self._sent: dict[int, float] = {}
        """When the heartbeats of this link were sent, but those whose answer would come too late."""
        self._number = 0
        self._leases: dict[Attempt, _Lease] = {}
        self._timer: IDelayedCall | None = None

    def greeted(self) -> None:
        """A hello is sent, which names everything; heartbeats are counted from it."""
        self._number = 0
        self._sent = {0: self._now()}
        for lease in self._leases.values():
            lease.first = 0

    def beat(self) -> int:
        """A heartbeat is sent, with this number."""
        now = self._now()
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
                self._tell(lease)
        self._watch()

    def begin(self, attempt: Attempt, heard: int, expired: Callable[[], None]) -> bool:
        """
        A worker has something exclusive from now on, until its ``end``.

        False, and it must not begin, if it was given out too long ago.
        """
        at = self._sent.get(heard)
        if at is None or at + self.limit_s <= self._now():
            return False
        lease = self._leases.get(attempt)
        if lease is None:
            self._leases[attempt] = _Lease(at, self._number + 1, expired)
        else:
            lease.since = max(lease.since, at)
            self._tell(lease)
        self._watch()
        return True

    def bind(self, attempt: Attempt, live_until: Callable[[float], None]) -> None:
        """Its worker is there, and is ended by whom this tells; nothing, if it has nothing exclusive."""
        lease = self._leases.get(attempt)
        if lease is not None:
            lease.live_until = live_until
            self._tell(lease)

    def lapse(self, attempt: Attempt) -> None:
        """Its worker was ended because its time had passed, before it was looked at here."""
        lease = self._leases.pop(attempt, None)
        if lease is not None:
            self._watch()
            self._expire(attempt, lease)

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
            self._timer = self._clock.callLater(max(0.0, at - self._now()), self._look)

    def _tell(self, lease: _Lease) -> None:
        if lease.live_until is not None and lease.since > lease.told:
            lease.told = lease.since
            lease.live_until(lease.since + self.limit_s)

    def _look(self) -> None:
        now = self._now()
        over = [attempt for attempt, lease in self._leases.items() if lease.since + self.limit_s <= now]
        expired = [(attempt, self._leases.pop(attempt)) for attempt in over]
        self._watch()
        for attempt, lease in expired:
            self._expire(attempt, lease)

    def _expire(self, attempt: Attempt, lease: _Lease) -> None:
        self.log.warn(
            "Attempt {attempt} is exclusive, and is ended: the master did not answer for {limit_s:g} s",
            attempt=str(attempt),
            limit_s=self.limit_s,
        )
        lease.expired()
