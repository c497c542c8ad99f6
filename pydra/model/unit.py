# SPDX-License-Identifier: MIT
"""
A work unit: one call of a subtask that a main worker, a nested task or the client of a session asked for.

Units that are asked for by the same asker for the same subtask make a branch, and have an index in it. The
text of a branch is the path of the asker's own unit (nothing for the root), a slash, and the key of the
subtask below the asker's task: ``Sub``, or ``Sub:7/Other``. The path of a unit reads ``3/Sub:7`` with the
number of its instance.
"""

from __future__ import annotations

import msgspec

from pydra.model.ids import NUMBER_LIMIT, Attempt, InstanceId, NodeId, TaskKey
from pydra.model.instance import Failure, Payload
from pydra.model.options import Guarantee
from pydra.model.status import Status

SESSION_TASK = TaskKey("pydra.session")
"""The task of instances whose units come from a client."""

BRANCH_LIMIT = 1024
"""Characters of a branch."""

INDEX_LIMIT = NUMBER_LIMIT
"""The highest index of a unit."""

DIGEST_SIZE = 16
"""Bytes of the digest (BLAKE2b) of a unit's arguments; those of many units are sent one after another."""

OUTSTANDING_LIMIT = 10_000
"""Units that one asker may have asked for and not got the results of."""

OUTSTANDING_BYTES = 64 * 1024 * 1024
"""Bytes of their arguments."""


class UnitRow(msgspec.Struct, frozen=True):
    """
    A unit as the store has it: COMPLETE or FAILED, or QUEUED if a session's client submitted it.

    One with a guarantee is RUNNING from before it is sent to its end.
    """

    instance: InstanceId
    branch: str
    index: int
    status: Status
    digest: bytes
    args: bytes = b""
    """Of a QUEUED one, which is not recorded otherwise, and of a RUNNING one that was QUEUED before."""
    result: Payload | None = None
    failure: Failure | None = None
    attempt: Attempt | None = None
    """Of the batch that it ran in."""
    node: NodeId | None = None
    ended: float | None = None
    """UTC seconds."""
    worker: Attempt | None = None
    """Of a RUNNING one: the worker that it was given to."""
    guarantee: Guarantee = Guarantee.NONE
    """Of a RUNNING one."""


class UnitPlace(msgspec.Struct, frozen=True):
    """Where a unit stands among those of its instance: units come by branch, those of one by index."""

    branch: str
    index: int


class UnitCounts(msgspec.Struct, frozen=True):
    """How many units of an instance the store has, of each status that they may have there."""

    complete: int = 0
    failed: int = 0
    queued: int = 0
    """Without an end; those that run are among them."""


def digest_at(digests: bytes, place: int) -> bytes:
    """One of the digests that are sent one after another."""
    return digests[place * DIGEST_SIZE : (place + 1) * DIGEST_SIZE]


def unit_path(instance: InstanceId, branch: str, index: int) -> str:
    """The name of a unit for people."""
    return f"{instance}/{branch}:{index}"
