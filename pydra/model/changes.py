# SPDX-License-Identifier: MIT
"""
What may be committed to the store.

A change is conditional where a late answer could do harm: ``StartAttempt`` needs a queued instance,
``FinishInstance``, ``RequeueInstance`` and ``RetryInstance`` with an attempt need that attempt to be the
recorded one and the instance not to be final. A change whose condition does not hold changes nothing, and its
outcome says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerKey
from pydra.model.instance import Failure, Instance, Payload
from pydra.model.node import Node
from pydra.model.options import Guarantee
from pydra.model.package import PackageDescription
from pydra.model.status import Status


class InsertInstance(msgspec.Struct, frozen=True):
    """A new instance; with a known request key nothing is inserted and the outcome holds the first id."""

    instance: Instance


class StartAttempt(msgspec.Struct, frozen=True):
    """A queued instance runs as ``attempt``; ``started`` is kept from its first attempt."""

    instance: InstanceId
    attempt: Attempt
    node: NodeId
    worker: WorkerKey
    at: float


class MarkCancelling(msgspec.Struct, frozen=True):
    """A running instance was asked to stop; a ``failure`` or ``result`` is how it will have ended then."""

    instance: InstanceId
    failure: Failure | None = None
    result: Payload | None = None


class RequeueInstance(msgspec.Struct, frozen=True):
    """The attempt was lost and the instance waits again."""

    instance: InstanceId
    attempt: Attempt
    losses: int


class RetryInstance(msgspec.Struct, frozen=True):
    """The attempt failed; the instance, which shows the failure, waits for its ``retried``-th retry."""

    instance: InstanceId
    attempt: Attempt
    retried: int
    not_before: float
    failure: Failure


class FinishInstance(msgspec.Struct, frozen=True):
    """The instance is final; ``attempt`` is None if it never ran."""

    instance: InstanceId
    attempt: Attempt | None
    status: Status
    at: float
    result: Payload | None = None
    failure: Failure | None = None


class InsertUnits(msgspec.Struct, frozen=True):
    """
    Units that a client submitted, queued until they are recorded.

    Known ones with the same digest stay as they are: they may have ended already. An instance that is final
    takes none.
    """

    instance: InstanceId
    branch: str
    indexes: Sequence[int]
    args: Sequence[bytes]
    digests: bytes


class StartUnit(msgspec.Struct, frozen=True):
    """
    A unit with a guarantee runs: from now on only what comes of this attempt (of a batch) is recorded.

    What is recorded as complete with the same digest stays as it is. An instance that is final takes none.
    """

    instance: InstanceId
    branch: str
    index: int
    digest: bytes
    guarantee: Guarantee
    attempt: Attempt
    worker: Attempt
    node: NodeId


class RecordUnits(msgspec.Struct, frozen=True):
    """
    How units of one batch ended: positions in ``failures`` failed, the others are complete.

    The result of a position is inline in ``results``, unless ``blobs`` names it. What is recorded as complete
    with the same digest stays as it is, and so does what is RUNNING as another attempt. An instance that is
    final takes none.
    """

    instance: InstanceId
    branch: str
    indexes: Sequence[int]
    digests: bytes
    results: Sequence[bytes]
    failures: Mapping[int, Failure]
    blobs: Mapping[int, Payload]
    attempt: Attempt
    node: NodeId | None
    at: float


class MarkPaused(msgspec.Struct, frozen=True):
    """
    An instance that runs or waits pauses, or a paused one goes on as it was.

    A paused instance without an attempt is one that waits; one that loses its attempt meanwhile has none.
    """

    instance: InstanceId
    paused: bool


class PutNode(msgspec.Struct, frozen=True):
    """The record of a node, whole; it is found by its id."""

    node: Node


class PutPackage(msgspec.Struct, frozen=True):
    """The description of a package version; it takes the place of an earlier one."""

    description: PackageDescription


Change = (
    InsertInstance
    | StartAttempt
    | MarkCancelling
    | RequeueInstance
    | RetryInstance
    | FinishInstance
    | InsertUnits
    | StartUnit
    | RecordUnits
    | MarkPaused
    | PutNode
    | PutPackage
)


class Committed(msgspec.Struct, frozen=True):
    """The outcome of one change: whether it changed anything, and which instance it concerned."""

    applied: bool
    instance: InstanceId | None = None
