# SPDX-License-Identifier: MIT
"""A result that goes to the master while it comes from its worker: nobody knows its digest yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import Bulk, Link
from pydra.errors import PydraError


class Ahead:
    """
    Its one try to get there, over one link.

    The master names it by what it hashed. If it does not get there, no harm is done: it is sent again when it
    is whole.
    """

    log = Logger()

    def __init__(self, link: Link, bulk: Bulk, chunks: AsyncIterator[bytes]) -> None:
        self._link = link
        self._has_come = False
        self.is_over = False
        self._waiting: list[Deferred[None]] = []
        self._sent = Deferred.fromCoroutine(self._send(bulk, chunks))
        self._sent.addErrback(lambda fault: self.log.failure("A result could not be sent ahead", fault))

    async def came_over(self, link: Link) -> bool:
        """Whether the master has it, and by this link; when that is known."""
        while not self.is_over:
            told: Deferred[None] = Deferred()
            self._waiting.append(told)
            await told
        return self._has_come and self._link is link

    def stop(self) -> None:
        """Nobody wants it any more."""
        self._sent.cancel()

    async def _send(self, bulk: Bulk, chunks: AsyncIterator[bytes]) -> None:
        try:
            await bulk.send("unnamed", "", chunks)
            self._has_come = True
        except (PydraError, OSError, CancelledError) as fault:
            self.log.debug("A result is not sent ahead: {fault}", fault=str(fault))
        finally:
            self.is_over = True
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
