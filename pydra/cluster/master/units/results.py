# SPDX-License-Identifier: MIT
"""Recorded results of units as messages to the worker that asked for them, each small enough to travel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pydra.cluster.wire.messages import BATCH_LIMIT, UnitResults
from pydra.model.ids import Attempt
from pydra.model.instance import Failure, Payload
from pydra.model.unit import UnitRow

UNIT_OVERHEAD = 16
"""Bytes that a unit takes in a message beside its result: its index and the lengths, at most."""

BLOB_OVERHEAD = 128
"""Bytes that a result takes that is a blob."""

ROOM = BATCH_LIMIT - 8 * 1024
"""Bytes for results; the rest is for the asker, the branch and what is around them."""


class Results(msgspec.Struct, frozen=True):
    """Columns of results, as in ``UnitsDone``."""

    indexes: Sequence[int]
    results: Sequence[bytes]
    failures: Mapping[int, Failure] = {}
    blobs: Mapping[int, Payload] = {}

    def messages(self, asker: Attempt, branch: str) -> Iterator[UnitResults]:
        """All of it, in as many messages as it needs."""
        if len(self.indexes) > 1 and self._size() > ROOM:
            middle = len(self.indexes) // 2
            yield from self._part(0, middle).messages(asker, branch)
            yield from self._part(middle, len(self.indexes)).messages(asker, branch)
        elif self.indexes:
            yield UnitResults(
                asker, branch, list(self.indexes), list(self.results), dict(self.failures), dict(self.blobs)
            )

    def _size(self) -> int:
        """Bytes of the message, or a few more."""
        size = sum(map(len, self.results)) + UNIT_OVERHEAD * len(self.indexes)
        if self.failures:
            size += len(msgspec.msgpack.encode(self.failures))
        return size + BLOB_OVERHEAD * len(self.blobs)

    def _part(self, start: int, end: int) -> Results:
        return Results(
            self.indexes[start:end],
            self.results[start:end],
            {position - start: each for position, each in self.failures.items() if start <= position < end},
            {position - start: each for position, each in self.blobs.items() if start <= position < end},
        )


def stored_results(rows: Sequence[UnitRow]) -> Results:
    """The results of units that have ended."""
    known = [row for row in rows if row.result is not None or row.failure is not None]
    return Results(
        [row.index for row in known],
        [row.result.inline if row.result is not None else b"" for row in known],
        {position: row.failure for position, row in enumerate(known) if row.failure is not None},
        {position: row.result for position, row in enumerate(known) if row.result and row.result.sha256},
    )
