# SPDX-License-Identifier: MIT
"""What a node may say of units: columns of one length, digests of their size, blobs that came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydra.cluster.wire.messages import HeldBatch, UnitsAsked, UnitsDone
from pydra.errors import LimitExceeded, WireError
from pydra.model.instance import INLINE_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure, Payload
from pydra.model.options import Guarantee
from pydra.model.unit import BRANCH_LIMIT, DIGEST_SIZE, INDEX_LIMIT

ALL_GUARANTEES = int(Guarantee.ONCE | Guarantee.EXCLUSIVE)


def ask_fault(message: UnitsAsked, came: Mapping[str, int]) -> str:
    """What is wrong with an ask, as the end of a sentence; empty if nothing is."""
    count = len(message.indexes)
    if fault := column_fault(message.branch, message.indexes, message.digests):
        return fault
    if len(message.args) != count:
        return "has not as many arguments as units"
    if max(map(len, message.args)) > INLINE_LIMIT:
        return "has arguments that are too large to be in a message"
    if not 0.0 <= message.time_limit < math.inf:
        return "has no usable time limit"
    if not 0 <= message.guarantee <= ALL_GUARANTEES:
        return "wants something promised that nobody can"
    for position, blob in message.blobs.items():
        if not 0 <= position < count or came.get(blob.sha256) != blob.size:
            return "names arguments that did not come"
    return ""


def batch_fault(held: HeldBatch) -> str:
    """What is wrong with a batch that a node says it has; empty if nothing is."""
    if fault := column_fault(held.branch, held.indexes, held.digests):
        return fault
    return "" if 0 <= held.recorded <= len(held.indexes) else "has more recorded results than units"


def column_fault(branch: str, indexes: Sequence[int], digests: bytes) -> str:
    """What is wrong with units of a branch; empty if nothing is."""
    if not 0 < len(branch) <= BRANCH_LIMIT:
        return "has no usable branch"
    if not indexes:
        return "names no units"
    if min(indexes) < 0 or max(indexes) > INDEX_LIMIT:
        return "has an index that cannot be"
    if len(set(indexes)) != len(indexes):
        return "names a unit twice"
    if len(digests) != DIGEST_SIZE * len(indexes):
        return "has not one digest for each unit"
    return ""


def checked_results(message: UnitsDone, came: Mapping[str, int]) -> UnitsDone:
    """
    The results as they may be recorded: one that is too large, or did not come, is a failure.

    `WireError` if they are none.
    """
    count = len(message.results)
    if not count or message.start < 0 or not message.busy_s >= 0.0:
        raise WireError("The node told results that cannot be.")
    is_plain = not message.failures and not message.blobs
    if is_plain and max(map(len, message.results)) <= INLINE_LIMIT:
        return message
    failures, blobs = dict(message.failures), dict(message.blobs)
    for position in [*failures, *blobs]:
        if not 0 <= position < count or (position in failures and position in blobs):
            raise WireError("The node told results of units that are not in the batch.")
    for position, failure in failures.items():
        if len(failure.message) > MESSAGE_LIMIT or len(failure.traceback) > TRACEBACK_LIMIT:
            failures[position] = _cut(failure)
    for position, blob in list(blobs.items()):
        size = came.get(blob.sha256)
        if size is None:
            del blobs[position]
            failures[position] = Failure(WireError.code, "The node told of a result that it did not send.")
        else:
            blobs[position] = Payload(size, sha256=blob.sha256)
    results = list(message.results)
    for position, result in enumerate(results):
        if len(result) > INLINE_LIMIT:
            results[position] = b""
            blobs.pop(position, None)
            failures[position] = Failure(
                LimitExceeded.code, f"A result above {INLINE_LIMIT} bytes came in a message."
            )
    return UnitsDone(message.worker, message.batch, message.start, results, failures, blobs, message.busy_s)


def _cut(failure: Failure) -> Failure:
    """A failure that is as long as it may be."""
    return Failure(failure.code[:100], failure.message[:MESSAGE_LIMIT], failure.traceback[-TRACEBACK_LIMIT:])
