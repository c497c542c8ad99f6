# SPDX-License-Identifier: MIT
"""The legal changes of the status of an instance, as one table."""

from __future__ import annotations

from enum import StrEnum

from pydra.cluster.scheduler.inputs import Outcome
from pydra.errors import InternalError
from pydra.model.status import Status


class Happening(StrEnum):
    """What can happen to an instance."""

    SUBMITTED = "was submitted"
    DISPATCHED = "was dispatched"
    CANCEL_REQUESTED = "was asked to cancel"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost its worker"
    LOST_TOO_OFTEN = "lost its worker for the last time"
    TERMINATED = "was terminated"
    RETRIED = "failed and is to be run again"
    PAUSED = "was paused"
    RESUMED = "was resumed"


TRANSITIONS: dict[Status, dict[Happening, Status]] = {
    # UNKNOWN: not here, either because it never was or because it is final.
    Status.UNKNOWN: {
        Happening.SUBMITTED: Status.QUEUED,
        Happening.CANCEL_REQUESTED: Status.UNKNOWN,
    },
    Status.QUEUED: {
        Happening.DISPATCHED: Status.RUNNING,
        Happening.PAUSED: Status.PAUSED,
        Happening.CANCEL_REQUESTED: Status.CANCELLED,
    },
    Status.RUNNING: {
        Happening.COMPLETED: Status.COMPLETE,
        Happening.FAILED: Status.FAILED,
        Happening.STOPPED: Status.CANCELLED,  # by itself: its own code called stop()
        Happening.LOST: Status.QUEUED,
        Happening.RETRIED: Status.QUEUED,
        Happening.LOST_TOO_OFTEN: Status.FAILED,
        Happening.CANCEL_REQUESTED: Status.CANCELLING,
        Happening.PAUSED: Status.PAUSED,
    },
    # Cancel is final: whatever its worker answers, there is no result after it. TERMINATED is the end of one
    # that is to fail.
    Status.CANCELLING: {
        Happening.COMPLETED: Status.CANCELLED,
        Happening.FAILED: Status.CANCELLED,
        Happening.STOPPED: Status.CANCELLED,
        Happening.LOST: Status.CANCELLED,
        Happening.LOST_TOO_OFTEN: Status.CANCELLED,
        Happening.TERMINATED: Status.FAILED,
        Happening.CANCEL_REQUESTED: Status.CANCELLING,
    },
    Status.CANCELLED: {Happening.CANCEL_REQUESTED: Status.CANCELLED},
    Status.FAILED: {Happening.CANCEL_REQUESTED: Status.FAILED},
    Status.COMPLETE: {Happening.CANCEL_REQUESTED: Status.COMPLETE},
    # A root that is paused with a node may end by itself; one that is lost waits, and is paused there.
    Status.PAUSED: {
        Happening.COMPLETED: Status.COMPLETE,
        Happening.FAILED: Status.FAILED,
        Happening.STOPPED: Status.CANCELLED,  # by itself: its own code called stop()
        Happening.LOST: Status.QUEUED,
        Happening.LOST_TOO_OFTEN: Status.FAILED,
        Happening.RETRIED: Status.QUEUED,
        Happening.CANCEL_REQUESTED: Status.CANCELLING,
        Happening.RESUMED: Status.RUNNING,
    },
}
"""The status after a happening, by the status before it; what is not listed cannot happen."""

HAPPENINGS: dict[Outcome, Happening] = {
    Outcome.COMPLETE: Happening.COMPLETED,
    Outcome.FAILED: Happening.FAILED,
    Outcome.STOPPED: Happening.STOPPED,
    Outcome.LOST: Happening.LOST,
}
"""What an outcome does to its instance; the machine knows when a loss is the last one."""


def status_after(status: Status, happening: Happening) -> Status:
    """The status that follows; `InternalError` if this cannot happen to an instance with that status."""
    after = TRANSITIONS[status].get(happening)
    if after is None:
        raise InternalError(f"An instance that is {status.name} {happening}; that cannot be.")
    return after
