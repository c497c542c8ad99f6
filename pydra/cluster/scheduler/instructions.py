# SPDX-License-Identifier: MIT
"""What the scheduler wants done, as values; the order in which they come is the order in which to do them."""

from __future__ import annotations

import msgspec

from pydra.cluster.scheduler.unit_values import UnitInstruction
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.status import Status


class Dispatch(msgspec.Struct, frozen=True):
    """Store that the instance runs as ``attempt``, then send it to the node of the slot."""

    instance: InstanceId
    attempt: Attempt
    slot: WorkerSlot


class StopUnit(msgspec.Struct, frozen=True):
    """Tell the node to set the stop flag of the attempt; the node is connected."""

    node: NodeId
    attempt: Attempt


class KillUnit(msgspec.Struct, frozen=True):
    """Tell the node to kill the worker of the attempt, if it has one; the node is connected."""

    node: NodeId
    attempt: Attempt


class BeginCancelling(msgspec.Struct, frozen=True):
    """Store that the running instance was asked to stop, and whether it will have failed then."""

    instance: InstanceId
    attempt: Attempt
    fails: bool = False
    reason: str = ""
    """Why it will have failed, with a ``code`` of ``pydra.errors``; nothing means that a user ended it."""
    code: str = ""


class Requeue(msgspec.Struct, frozen=True):
    """Store that an attempt was lost, the ``losses``-th of its instance, which waits or stays paused."""

    instance: InstanceId
    attempt: Attempt
    losses: int


class Retry(msgspec.Struct, frozen=True):
    """Store that the attempt failed, and that its instance is run again, the ``retried``-th time."""

    instance: InstanceId
    attempt: Attempt
    retried: int
    delay_s: float
    """From now on; it is dispatched later by itself."""


class Finish(msgspec.Struct, frozen=True):
    """
    Store that the instance is final; it comes once for each instance, and nothing of it follows.

    ``attempt`` is None if the instance was not running. ``reason`` is a sentence for people, where there is
    one; with a ``code`` (of ``pydra.errors``) it goes before whatever the node told.
    """

    instance: InstanceId
    attempt: Attempt | None
    status: Status
    reason: str | None = None
    code: str = ""


class Discard(msgspec.Struct, frozen=True):
    """Tell the node to forget this outcome: it is stale or was never ours."""

    node: NodeId
    attempt: Attempt


Instruction = (
    Dispatch | StopUnit | KillUnit | BeginCancelling | Requeue | Retry | Finish | Discard | UnitInstruction
)
