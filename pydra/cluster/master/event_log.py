# SPDX-License-Identifier: MIT
"""Numbers events, tells them to followers, and wakes who waits for news of an instance."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pydra.events import Event, InstanceChanged, InstanceProgressed
from pydra.model.ids import InstanceId

REMEMBERED = 10_000
"""Instances of which the number of the latest event is known."""

EPOCH_BITS = 32
"""An event has the epoch of its master in the bits above these, so no other master gives the same number."""


class EventLog:
    """The events of one epoch of the master."""

    def __init__(self, clock: IReactorTime, epoch: int, remembered: int = REMEMBERED) -> None:
        self._clock = clock
        self._remembered = remembered
        self._first = self._number = epoch << EPOCH_BITS
        self._latest: OrderedDict[InstanceId, int] = OrderedDict()
        self._waiters: dict[InstanceId, list[Deferred[None]]] = {}
        self._followers: list[Callable[[int, Event], None]] = []

    def follow(self, follower: Callable[[int, Event], None]) -> None:
        """Call this with each event and its number, from now on."""
        self._followers.append(follower)

    def publish(self, event: Event) -> int:
        """Number an event and wake those who wait for its instance."""
        self._number += 1
        number = self._number
        if isinstance(event, InstanceChanged | InstanceProgressed):
            self._latest[event.instance] = number
            self._latest.move_to_end(event.instance)
            if len(self._latest) > self._remembered:
                self._latest.popitem(last=False)
        for follower in self._followers:
            follower(number, event)
        if isinstance(event, InstanceChanged | InstanceProgressed):
            self.wake(event.instance)  # who wakes up may publish in turn
        return number

    def latest(self, instance: InstanceId) -> int:
        """Number of the latest event of an instance; the one before all events if none is known."""
        return self._latest.get(instance, self._first)

    def wake(self, instance: InstanceId) -> None:
        """Wake those who wait for news of an instance, without an event."""
        for waiter in self._waiters.pop(instance, []):
            waiter.callback(None)

    async def news(self, instance: InstanceId, timeout_s: float) -> None:
        """Return at the next event of the instance, or after the time."""
        waiter: Deferred[None] = Deferred()
        waiting = self._waiters.setdefault(instance, [])
        waiting.append(waiter)

        def give_up() -> None:
            # The list may have been popped and made anew meanwhile: look again.
            remaining = self._waiters.get(instance, [])
            if waiter in remaining:
                remaining.remove(waiter)
                if not remaining:
                    del self._waiters[instance]
                waiter.callback(None)

        timer = self._clock.callLater(timeout_s, give_up)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()
            remaining = self._waiters.get(instance, [])
            if waiter in remaining:
                # The one who waited went away.
                remaining.remove(waiter)
                if not remaining:
                    del self._waiters[instance]
