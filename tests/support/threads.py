# SPDX-License-Identifier: MIT
"""A stand-in for the reactor's side of threads: the test itself runs what they hand over."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class PumpedReactor:
    """
    ``callFromThread`` queues; ``wait`` runs what is queued until an awaitable has its result.

    Threads are real and nothing sleeps: ``wait`` blocks on the queue.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[object, ...], dict[str, object]]] = (
            SimpleQueue()
        )

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Have something called in the thread of the test."""
        self._calls.put((callable, args, kwargs))

    def wait(self, awaited: Coroutine[Any, Any, T] | Deferred[T], timeout_s: float = 60) -> T:
        """The result of a coroutine or Deferred; raises what it raises."""
        deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
        results: list[T | Failure] = []
        deferred.addBoth(results.append)
        while not results:
            self._run(timeout_s)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def pump(self) -> None:
        """Run what is queued now, and wait for nothing."""
        while True:
            try:
                self._run(0)
            except Empty:
                return

    def _run(self, timeout_s: float) -> None:
        function, args, kwargs = self._calls.get(timeout=timeout_s)
        function(*args, **kwargs)
