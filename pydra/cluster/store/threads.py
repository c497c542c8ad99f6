# SPDX-License-Identifier: MIT
"""How an answer gets from a thread of the store to the one who waits for it in the reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class FromThreads(Protocol):
    """What is used of the reactor."""

    def callFromThread(  # noqa: N802 - Twisted's name
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """Call something in the thread of the reactor, soon."""
        ...


Answer = tuple[Deferred[Any], object]
"""Who waits (for anything, hence Any), and what comes: an exception is what failed."""


def deliver(answers: Sequence[Answer]) -> None:
    """Tell each one its answer; in the thread of the reactor."""
    for waiting, answer in answers:
        if isinstance(answer, Exception):
            waiting.errback(answer)
        else:
            waiting.callback(answer)
