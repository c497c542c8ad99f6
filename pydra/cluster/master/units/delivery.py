# SPDX-License-Identifier: MIT
"""
Results of units on their way to the node of the asker.

A node that is far behind is sent more only when it has caught up, so that large results do not break its
link. Nothing is lost with the link: what a node still waits for it asks for again, and it is in the store.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.cluster.interfaces import Link
from pydra.cluster.wire.messages import UnitResults

BACKLOG_LIMIT = 16 * 1024 * 1024
"""Bytes that may wait in a link."""

LOOK_S = 0.02
"""Seconds after which is looked whether a link has caught up."""


class ResultDelivery:
    """Results for one node."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[UnitResults] = deque()
        self._look: IDelayedCall | None = None

    def send(self, link: Link, message: UnitResults) -> None:
        """Send on this link, which is up, after all results before it."""
        if not self._waiting and link.backlog() <= BACKLOG_LIMIT:
            link.send(message)
            return
        self._waiting.append(message)
        if self._look is None:
            self._look = self._clock.callLater(LOOK_S, self._look_again, link)

    def reset(self) -> None:
        """The link is down."""
        self._waiting.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_again(self, link: Link) -> None:
        self._look = None
        while self._waiting:
            if link.backlog() > BACKLOG_LIMIT:
                self._look = self._clock.callLater(LOOK_S, self._look_again, link)
                return
            link.send(self._waiting.popleft())
