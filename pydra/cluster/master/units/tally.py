# SPDX-License-Identifier: MIT
"""How many units of an instance are recorded, kept for views as batches come."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from pydra.cluster.interfaces import Store
from pydra.model.ids import InstanceId
from pydra.model.status import Status
from pydra.model.unit import UnitCounts, UnitPlace

PAGE = 1000
"""Rows that are asked of the store at once."""

FAILED_LIMIT = 10_000
"""Units of an instance that are known as failed; of others, those that are complete later count as both."""


class UnitTally:
    """The recorded units of one instance; one that failed and is complete later counts as complete alone."""

    def __init__(self) -> None:
        self.complete = 0
        self.failed = 0
        self.is_exact = True
        """All that failed are known, so none of them can count as both."""
        self._failed: dict[str, set[int]] = {}
        """Which these are, as far as is known."""
        self._known = 0

    def add(self, stored: UnitCounts) -> None:
        """Take what was recorded before this was made."""
        self.complete += stored.complete
        self.failed += stored.failed

    def has_failed(self, branch: str, indexes: Collection[int]) -> None:
        """These are some of those that were taken as failed."""
        if self._known + len(indexes) > FAILED_LIMIT:
            self.is_exact = False
        else:
            self._failed.setdefault(branch, set()).update(indexes)
            self._known += len(indexes)

    def recorded(self, branch: str, indexes: Sequence[int], failures: Collection[int]) -> tuple[int, int]:
        """Take a batch, of which these positions failed; how many of it are complete, and how many failed."""
        held = self._failed.get(branch)
        if held:
            # Units that were tried again.
            before = len(held)
            held.difference_update(indexes)
            self.failed -= before - len(held)
            self._known -= before - len(held)
        if failures:
            self.has_failed(branch, [indexes[position] for position in failures])
            self.failed += len(failures)
        complete = len(indexes) - len(failures)
        self.complete += complete
        return complete, len(failures)

    def end(self) -> None:
        """Nothing more is recorded."""
        self._failed.clear()


class UnitsView(msgspec.Struct, frozen=True):
    """How many units of an instance are where."""

    complete: int
    failed: int
    running: int
    queued: int


async def stored_tally(store: Store, instance: InstanceId, *, is_live: bool) -> UnitTally:
    """What the store has; of a live instance also which units failed, unless these are very many."""
    tally = UnitTally()
    stored = await store.unit_counts(instance)
    tally.add(stored)
    tally.is_exact = stored.failed <= FAILED_LIMIT
    after: UnitPlace | None = None
    left = stored.failed if tally.is_exact and is_live else 0
    while left > 0:
        rows = await store.unit_page(instance, after=after, limit=PAGE, status=Status.FAILED)
        for row in rows:
            tally.has_failed(row.branch, [row.index])
            after = UnitPlace(row.branch, row.index)
        left = left - len(rows) if rows else 0
    return tally
