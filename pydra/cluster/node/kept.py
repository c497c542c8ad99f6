# SPDX-License-Identifier: MIT
"""What an outbox keeps: messages, and the batches that results of units are of."""

from __future__ import annotations

from collections import deque

import attrs
import msgspec

from pydra.cluster.node.delivery import Blob
from pydra.cluster.wire.messages import HeldBatch, UnitFinished, UnitsDone, WorkerLost
from pydra.model.ids import Attempt


class BatchBegun(msgspec.Struct, frozen=True, tag="batch"):
    """In the journal, before the first results of a batch."""

    batch: HeldBatch


@attrs.define(eq=False)
class Kept:
    """A message that is sent until it is acknowledged."""

    source: Attempt
    message: UnitFinished | UnitsDone | WorkerLost
    size: int = 0
    blobs: tuple[Blob, ...] = ()
    is_written: bool = False


@attrs.define(eq=False)
class Batch:
    """A batch that has units to run, or results that were not acknowledged."""

    held: HeldBatch
    told: int
    """Results that there are, acknowledged or not."""
    recorded: int
    size: int = 0
    """Bytes of its own record, while that is needed."""
    results: deque[Kept] = attrs.Factory(deque)
    has_ended: bool = False
    """No more of it is run."""
    is_synced: bool = False

    @property
    def count(self) -> int:
        """Results that there will be."""
        return self.told if self.has_ended else len(self.held.indexes)

    def as_held(self, recorded: int) -> HeldBatch:
        """What the master is told of it."""
        held = self.held
        if self.count == len(held.indexes):
            return msgspec.structs.replace(held, recorded=recorded)
        width = len(held.digests) // len(held.indexes)
        return msgspec.structs.replace(
            held,
            indexes=held.indexes[: self.count],
            digests=held.digests[: self.count * width],
            recorded=recorded,
        )
