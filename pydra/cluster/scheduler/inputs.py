# SPDX-License-Identifier: MIT
"""What may happen, as values that the scheduler is fed with."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from pydra.cluster.scheduler.unit_values import BatchHeld, UnitInput, WorkerHeld
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.options import NO_OPTIONS, RunOptions
from pydra.model.status import Status


class Outcome(StrEnum):
    """How an attempt ended; the words are those of the wire."""

    COMPLETE = "complete"
    """There is a result."""
    FAILED = "failed"
    """The task raised, or was refused."""
    STOPPED = "stopped"
    """The task stopped by the stop flag, or was killed when asked."""
    LOST = "lost"
    """The worker is gone without an answer."""


class Submitted(msgspec.Struct, frozen=True):
    """An instance was accepted and stored; a smaller ``priority`` runs first, then an earlier ``queued``."""

    instance: InstanceId
    priority: int
    queued: float
    is_session: bool = False
    """Its units come from a client."""
    options: RunOptions = NO_OPTIONS
    isolation: str = ""
    """The least that its package asks for."""
    ended: Mapping[InstanceId, Ended] = {}
    """Of what it depends on, all that is final; the rest is here."""


class Restored(msgspec.Struct, frozen=True):
    """
    The store holds this unfinished instance; fed once for each at start, before any node is ready.

    One that is RUNNING or CANCELLING has an attempt and a node, and keeps its slot until its node is ready
    and says what it still holds, or until the lease (from now) runs out. The node of a QUEUED one is where it
    ran last.
    """

    instance: InstanceId
    priority: int
    queued: float
    status: Status
    attempt: Attempt | None = None
    node: NodeId | None = None
    index: int | None = None
    losses: int = 0
    fails: bool = False
    """A CANCELLING one ends FAILED: its worker was terminated."""
    completes: bool = False
    """A CANCELLING one has done what it was to do, as in ``CancelRequested``."""
    is_session: bool = False
    """As in ``Submitted``."""
    options: RunOptions = NO_OPTIONS
    isolation: str = ""
    retried: int = 0
    """Attempts that failed and were followed by a retry."""
    reason: str = ""
    """Why one that ``fails`` does, with its ``code``; nothing means that a user ended it."""
    code: str = ""
    rest_s: float = 0.0
    """Seconds until the retry of a QUEUED one."""
    ended: Mapping[InstanceId, Ended] = {}
    """As in ``Submitted``; the rest is here, or was fed before it."""


class NodeReady(msgspec.Struct, frozen=True):
    """A node is linked and said what it offers and holds; ``finished`` ones follow as ``UnitFinished``."""

    node: NodeId
    slots: int
    running: tuple[Attempt, ...] = ()
    finished: tuple[Attempt, ...] = ()
    workers: tuple[WorkerHeld, ...] = ()
    batches: tuple[BatchHeld, ...] = ()
    labels: frozenset[str] = frozenset()
    resources: Mapping[str, float] = {}
    """By name; memory in MB."""
    isolation: str = ""
    ran_s: Mapping[Attempt, float] = {}
    """Seconds that the running ones have run, the time not counted in which their instances were paused."""
    refusal: str = ""
    """Why it begins nothing new at the moment."""


class HeartbeatReceived(msgspec.Struct, frozen=True):
    """A node lives and named the attempts that it holds."""

    node: NodeId
    held: tuple[Attempt, ...] = ()
    refusal: str = ""
    """Why it begins nothing new at the moment."""


class NodeSilent(msgspec.Struct, frozen=True):
    """The link to a node is down; nothing can be sent to it until it is ready again."""

    node: NodeId


class UnitFinished(msgspec.Struct, frozen=True):
    """A node said how an attempt ended; ``reason`` is a sentence for people."""

    attempt: Attempt
    node: NodeId
    outcome: Outcome
    reason: str | None = None
    code: str = ""
    """Of its failure, if it told one."""


class CancelRequested(msgspec.Struct, frozen=True):
    """Somebody wants an instance to end; with ``completes``, that is how it was to end."""

    instance: InstanceId
    completes: bool = False
    """What depends on it counts it as complete."""


class TerminateRequested(msgspec.Struct, frozen=True):
    """
    Somebody wants the worker of an instance to end; what is with no node is left alone.

    With ``kill`` at once, else by the stop flag and after the grace by force. An instance that nobody asked
    to end before ends FAILED with ``fail``, else CANCELLED.
    """

    instance: InstanceId
    kill: bool
    fail: bool


class TimePassed(msgspec.Struct, frozen=True):
    """Nothing happened but time."""


Input = (
    Submitted
    | Restored
    | NodeReady
    | HeartbeatReceived
    | NodeSilent
    | UnitFinished
    | CancelRequested
    | TerminateRequested
    | TimePassed
    | UnitInput
)
