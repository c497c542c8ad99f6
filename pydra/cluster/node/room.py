# SPDX-License-Identifier: MIT
"""
Room in the outbox for results that do not fit into memory: a worker says how long its result is, and may send
it when all that was let in before it, and it, fit together.

One that is larger than the whole outbox is let in when there is no other: it would wait for ever. And so that
nobody waits for one who announces much and sends little, whoever was let in must be quick while others wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.cluster.node.journal_writer import JournalWriter
from pydra.errors import WireError

LOOK_S = 0.25
"""Seconds after which is looked whether there is room; results leave as the master records them."""


PATIENCE_S = 60.0
"""Seconds that others may wait for one that sends nothing."""

SLOWEST = 1024 * 1024
"""Bytes a second that it may send for as long as it takes."""


class Claim:
    """Room for one result; ``end`` gives back what did not come."""

    def __init__(
        self, room: Room, size: int, granted: Callable[[], None], too_slow: Callable[[], None]
    ) -> None:
        self._room = room
        self.left = size
        """Bytes that are still to come."""
        self.is_granted = False
        self.is_held_up = False
        """By this node, so that its worker cannot send, or has no more to send."""
        self._granted = granted
        self._too_slow = too_slow
        self._left_before = size
        self._behind_s = 0.0

    def take(self, size: int) -> None:
        """So many bytes came; `WireError` if there are more than were announced."""
        self.left -= size
        if self.left < 0:
            raise WireError("The worker sent a longer result than it had announced.")

    def grant(self) -> None:
        """There is room."""
        self.is_granted = True
        self._granted()

    def looked_at(self) -> None:
        """Others wait for it since ``LOOK_S`` more seconds."""
        came, self._left_before = self._left_before - self.left, self.left
        if self.is_held_up:
            return
        self._behind_s = max(0.0, self._behind_s + LOOK_S - came / SLOWEST)
        if self._behind_s >= PATIENCE_S:
            self._too_slow()

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

    def claim(self, size: int, granted: Callable[[], None], too_slow: Callable[[], None]) -> Claim:
        """
        Room for so many bytes; ``granted`` is called when there is, perhaps at once.

        ``too_slow``, which must end it, is called if others wait for it longer than they should.
        """
        claim = Claim(self, size, granted, too_slow)
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
        if self._look is None and self._waiting:
            self._look = self._clock.callLater(LOOK_S, self._look_again)
        elif self._look is not None and not self._waiting:
            self._look.cancel()
            self._look = None

    def _look_again(self) -> None:
        self._look = None
        for claim in list(self._granted):
            claim.looked_at()
        self._go_on()

    def _has_room(self, size: int) -> bool:
        coming = sum(claim.left for claim in self._granted)
        if self._writer.size + coming + size <= self._limit:
            return True
        return not self._granted and not self._writer.blob_bytes
