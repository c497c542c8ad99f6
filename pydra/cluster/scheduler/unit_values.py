# SPDX-License-Identifier: MIT
"""
Inputs and instructions that are about work units; they carry whole batches.

A worker is named by an attempt: the main worker by that of the root, a hired one by an attempt of its own. A
batch has an attempt too, which fences the results of its units.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.instance import Payload
from pydra.model.options import Guarantee


class UnitsAsked(msgspec.Struct, frozen=True):
    """
    A worker of the instance wants units run, or (``asker`` is None) the client of a session does.

    Those that are outstanding already keep their place, and their arguments if they have none.
    """

    instance: InstanceId
    asker: Attempt | None
    branch: str
    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: Mapping[int, Payload] = {}
    time_limit: float = 0.0
    guarantee: Guarantee = Guarantee.NONE
    """What these units promise, beside what their instance does."""
    started: Mapping[int, Attempt] = {}
    """Those of them that the store has as RUNNING with the same digest, and the attempt."""


class UnitsForgotten(msgspec.Struct, frozen=True):
    """The asker wants no more results of a branch: what did not begin never does."""

    instance: InstanceId
    asker: Attempt | None
    branch: str


class UnitsDone(msgspec.Struct, frozen=True):
    """A node told ``count`` results of a batch from position ``start`` on; ``told`` is handed through."""

    node: NodeId
    worker: Attempt
    batch: Attempt
    start: int
    count: int
    busy_s: float
    told: object = None


class WorkerLost(msgspec.Struct, frozen=True):
    """A hired worker ended by itself; ``code`` is that of the failure that a unit of it may end with."""

    node: NodeId
    worker: Attempt
    reason: str
    code: str


class WorkerHeld(msgspec.Struct, frozen=True):
    """A part of ``NodeReady``: a hired worker that the node still has."""

    worker: Attempt
    instance: InstanceId
    index: int
    was_given: bool = True
    """False if the node cannot show that it was given this worker, for that instance."""


class BatchHeld(msgspec.Struct, frozen=True):
    """A part of ``NodeReady``: a batch that the node has units to run of, or results to tell."""

    batch: Attempt
    worker: Attempt
    instance: InstanceId
    branch: str
    indexes: list[int]
    digests: bytes
    recorded: int
    was_given: bool = True
    """As that of its worker."""
    is_guarded: bool = False
    """It has a guarantee, so it was stored as begun before the node had it."""


class UnitRestored(msgspec.Struct, frozen=True):
    """
    The store holds this unit of an unfinished instance as RUNNING; fed at start, after all instances.

    A node may still run it, or hold its result.
    """

    instance: InstanceId
    branch: str
    index: int
    digest: bytes
    guarantee: Guarantee
    batch: Attempt
    worker: Attempt
    node: NodeId


class PauseRequested(msgspec.Struct, frozen=True):
    """
    Dispatch no further unit of an instance; its running units end.

    For that, units that these wait for still run.
    """

    instance: InstanceId


class NodesExpected(msgspec.Struct, frozen=True):
    """
    Nodes that may hold workers and batches of what was restored; fed once at start, after all of that.

    Units of these instances wait until all of the nodes were ready, or for ``Limits.return_s``: what runs
    there already is not given out once more.
    """

    nodes: tuple[NodeId, ...]


class ResumeRequested(msgspec.Struct, frozen=True):
    """A paused instance goes on."""

    instance: InstanceId


class HireWorker(msgspec.Struct, frozen=True):
    """Send word to the node of the slot to begin a further worker of an instance."""

    worker: Attempt
    instance: InstanceId
    slot: WorkerSlot


class ReleaseWorker(msgspec.Struct, frozen=True):
    """Tell the node to end a hired worker; the node is connected."""

    node: NodeId
    worker: Attempt


class RunUnits(msgspec.Struct, frozen=True):
    """
    Send a batch to a hired worker; its units may run more than once, so nothing is stored before.

    One with a ``guarantee`` has one unit, and is stored before it is sent.
    """

    node: NodeId
    worker: Attempt
    batch: Attempt
    instance: InstanceId
    branch: str
    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: Mapping[int, Payload]
    time_limit: float
    guarantee: Guarantee = Guarantee.NONE


class RecordUnits(msgspec.Struct, frozen=True):
    """
    Store results, then acknowledge them to the node, then give them to the asker.

    ``indexes`` and ``digests`` are those of the results in ``told``, from ``start`` on; ``recorded`` results
    of the batch are stored then. Some of them may have been recorded before, if a node tells them once more.
    ``asker`` is None for a session, or if nobody waits for them any more.
    """

    node: NodeId
    batch: Attempt
    instance: InstanceId
    asker: Attempt | None
    branch: str
    indexes: list[int]
    digests: bytes
    recorded: int
    told: object


class FailUnits(msgspec.Struct, frozen=True):
    """Store that units failed because their workers were lost, or took too long, and tell the asker."""

    instance: InstanceId
    asker: Attempt | None
    branch: str
    indexes: list[int]
    digests: bytes
    batch: Attempt
    code: str
    reason: str


class DiscardUnits(msgspec.Struct, frozen=True):
    """Tell the node to forget the first ``count`` results of this batch: they are stale or not ours."""

    node: NodeId
    batch: Attempt
    count: int


class Pause(msgspec.Struct, frozen=True):
    """Store that an instance is paused, or (not ``paused``) goes on."""

    instance: InstanceId
    paused: bool


UnitInput = (
    UnitsAsked
    | UnitsForgotten
    | UnitsDone
    | WorkerLost
    | UnitRestored
    | NodesExpected
    | PauseRequested
    | ResumeRequested
)
UnitInstruction = HireWorker | ReleaseWorker | RunUnits | RecordUnits | FailUnits | DiscardUnits | Pause
