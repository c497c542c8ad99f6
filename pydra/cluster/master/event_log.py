# SPDX-License-Identifier: MIT
"""Numbers events, keeps the latest of them, and wakes who waits for news of an instance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pydra.events import Event, InstanceChanged, InstanceProgressed
from pydra.model.ids import InstanceId

CAPACITY = 10_000
"""Events that are kept; an older position cannot be resumed from."""


class EventLog:
    """The event stream of one epoch of the master; numbers begin at 1."""

    def __init__(self, clock: IReactorTime, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._ring: deque[tuple[int, Event]] = deque()
        self._capacity = capacity
        self._number = 0
        self._latest: dict[InstanceId, int] = {}
        self._waiters: dict[InstanceId, list[Deferred[None]]] = {}
        self._followers: list[Callable[[int, Event], None]] = []

    def follow(self, follower: Callable[[int, Event], None]) -> None:
        """Call this with each event and its number, from now on."""
        self._followers.append(follower)

    def publish(self, event: Event) -> int:
        """Number an event and wake those who wait for its instance."""
        self._number += 1
        number = self._number
        self._ring.append((number, event))
        if isinstance(event, InstanceChanged | InstanceProgressed):
            self._latest[event.instance] = number
        while len(self._ring) > self._capacity:
            oldest, old = self._ring.popleft()
            if isinstance(old, InstanceChanged | InstanceProgressed) and self._latest[old.instance] == oldest:
                del self._latest[old.instance]
        for follower in self._followers:
            follower(number, event)
        if isinstance(event, InstanceChanged | InstanceProgressed):
            self.wake(event.instance)  # who wakes up may publish in turn
        return number

    def latest(self, instance: InstanceId) -> int:
        """Number of the newest kept event of an instance; 0 if there is none."""
        return self._latest.get(instance, 0)

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
