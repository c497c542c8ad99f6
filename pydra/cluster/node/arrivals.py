# SPDX-License-Identifier: MIT
"""Things that were asked of the master and have not come yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

from pydra.cluster.wire.messages import ToMaster
from pydra.errors import PydraError

T = TypeVar("T")


class Arrivals(Generic[T]):
    """One request a name, however many wait for it; what is outstanding is asked again on each new link."""

    def __init__(self, ask: Callable[[ToMaster], bool]) -> None:
        self._ask = ask
        self._waiting: dict[str, list[Deferred[T]]] = {}
        self._requests: dict[str, ToMaster] = {}

    async def wait(self, name: str, request: ToMaster) -> T:
        """What arrives under ``name``; sends ``request`` if nobody did yet."""
        waiter: Deferred[T] = Deferred()
        if name in self._waiting:
            self._waiting[name].append(waiter)
        else:
            self._waiting[name] = [waiter]
            self._requests[name] = request
            self._ask(request)
        return await waiter

    def is_awaited(self, name: str) -> bool:
        """Somebody waits for it: only then a stream of it is let in."""
        return name in self._waiting

    def arrived(self, name: str, thing: T) -> None:
        """It is here."""
        for waiter in self._end(name):
            waiter.callback(thing)

    def failed(self, name: str, fault: PydraError) -> None:
        """It will not come."""
        for waiter in self._end(name):
            waiter.errback(fault)

    def ask_again(self) -> None:
        """There is a new link to the master."""
        for request in self._requests.values():
            self._ask(request)

    def _end(self, name: str) -> list[Deferred[T]]:
        self._requests.pop(name, None)
        return self._waiting.pop(name, [])
