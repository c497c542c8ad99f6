# SPDX-License-Identifier: MIT
"""Where a task, an instance or a work unit stands."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Status of a task instance; the integers are those of the original API, ``CANCELLING`` aside."""

    UNKNOWN = -3
    CANCELLED = -2
    """Final: ended by request; no result follows."""
    FAILED = -1
    """Final: raised, was refused, or lost its worker too often."""
    QUEUED = 0
    """Waits for a worker slot (the original's STOPPED)."""
    RUNNING = 1
    PAUSED = 2
    COMPLETE = 3
    """Final: there is a result."""
    CANCELLING = 4
    """Asked to stop, its worker not gone yet; the function API shows it as RUNNING."""

    @property
    def is_final(self) -> bool:
        """True if nothing changes any more."""
        return self in (Status.CANCELLED, Status.FAILED, Status.COMPLETE)

    @property
    def api_code(self) -> int:
        """The integer that the original API has for it."""
        return int(Status.RUNNING if self is Status.CANCELLING else self)
