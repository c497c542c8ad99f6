# SPDX-License-Identifier: MIT
"""What an instance is after a change of its status, as the store has it then too."""

from __future__ import annotations

import msgspec

from pydra.cluster.scheduler.instructions import Finish
from pydra.cluster.wire.messages import FAILED, UnitFinished
from pydra.errors import WorkerDied
from pydra.model.instance import Failure, Instance
from pydra.model.status import Status


def as_paused(before: Instance) -> Instance:
    """What waited has no attempt then: so it is known for one that waits."""
    attempt = None if before.status is Status.QUEUED else before.attempt
    return msgspec.structs.replace(before, status=Status.PAUSED, attempt=attempt)


def as_resumed(before: Instance) -> Instance:
    """It runs, or waits, as before."""
    status = Status.QUEUED if before.attempt is None else Status.RUNNING
    return msgspec.structs.replace(before, status=status)


def as_waiting(before: Instance, losses: int) -> Instance:
    """The attempt was lost; what is paused stays so, without one."""
    if before.status is Status.PAUSED:
        return msgspec.structs.replace(before, attempt=None, losses=losses)
    return msgspec.structs.replace(before, status=Status.QUEUED, losses=losses)


def failure_of(told: UnitFinished | None, finish: Finish) -> Failure:
    """Why an instance failed: its own exception, or the reason for which it was given up."""
    reason = finish.reason
    if finish.code:
        return Failure(finish.code, reason or "")
    own = told.failure if told is not None else None
    if own is not None and told is not None and told.outcome == FAILED:
        return own
    code = own.code if own is not None else WorkerDied.code
    return Failure(code, reason or (own.message if own is not None else str(WorkerDied())))
