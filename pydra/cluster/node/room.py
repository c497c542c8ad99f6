# SPDX-License-Identifier: MIT
"""
Room in the outbox for results that do not fit into memory: a worker says how long its result is, and may send
it when all that was let in before it, and it, fit together.

One that is larger than the whole outbox is let in when there is no other: it would wait for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.cluster.node.journal_writer import JournalWriter
from pydra.errors import WireError

LOOK_S = 0.25
"""Seconds after which is looked whether there is room; results leave as the master records them."""


class Claim:
    """Room for one result; ``end`` gives back what did not come."""

    def __init__(self, room: Room, size: int, granted: Callable[[], None]) -> None:
        self._room = room
        self.left = size
        """Bytes that are still to come."""
        self.is_granted = False
        self._granted = granted

    def take(self, size: int) -> None:
        """So many bytes came; `WireError` if there are more than were announced."""
        self.left -= size
        if self.left < 0:
            raise WireError("The worker sent a longer result than it had announced.")

    def grant(self) -> None:
        """There is room."""
        self.is_granted = True
        self._granted()

    def end(self) -> None:
        """The result is here, or will not come."""
        self._room.ended(self)


class Room:
    """The room of an outbox of ``limit`` bytes, which ``writer`` fills."""

    def __init__(self, clock: IReactorTime, writer: JournalWriter, limit: int) -> None:
        self._clock = clock
        self._writer = writer
        self._limit = limit
        self._granted: dict[Claim, None] = {}
        self._waiting: deque[Claim] = deque()
        self._look: IDelayedCall | None = None

    def claim(self, size: int, granted: Callable[[], None]) -> Claim:
        """Room for so many bytes; ``granted`` is called when there is, perhaps at once."""
        claim = Claim(self, size, granted)
        self._waiting.append(claim)
        self._go_on()
        return claim

    def ended(self, claim: Claim) -> None:
        """It needs no further room."""
        if claim in self._granted:
            del self._granted[claim]
        elif claim in self._waiting:
            self._waiting.remove(claim)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._has_room(self._waiting[0].left):
            claim = self._waiting.popleft()
            self._granted[claim] = None
            claim.grant()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._waiting:
            self._look = self._clock.callLater(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._go_on()

    def _has_room(self, size: int) -> bool:
        coming = sum(claim.left for claim in self._granted)
        if self._writer.size + coming + size <= self._limit:
            return True
        return not self._granted and not self._writer.blob_bytes
