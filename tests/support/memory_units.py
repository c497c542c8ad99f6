# SPDX-License-Identifier: MIT
"""The part of the store in memory that has the work units."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from pydra.errors import StoreError
from pydra.model.changes import InsertUnits, RecordUnits, StartUnit
from pydra.model.ids import InstanceId
from pydra.model.instance import Payload
from pydra.model.status import Status
from pydra.model.unit import BRANCH_LIMIT, DIGEST_SIZE, UnitCounts, UnitPlace, UnitRow

Key = tuple[InstanceId, str, int]


class MemoryUnits:
    """Units by instance, branch and index; ``undo`` takes back what was done since the last ``settle``."""

    def __init__(self) -> None:
        self._rows: dict[InstanceId, dict[str, dict[int, UnitRow]]] = {}
        self._before: list[tuple[Key, UnitRow | None]] = []

    def settle(self) -> None:
        """Nothing of it is taken back any more."""
        self._before.clear()

    def undo(self) -> None:
        """Take back what was done."""
        for (instance, branch, index), row in reversed(self._before):
            rows = self._rows[instance][branch]
            if row is None:
                del rows[index]
            else:
                rows[index] = row
        self._before.clear()

    def apply(self, change: InsertUnits | StartUnit | RecordUnits) -> None:
        """Make a change of an instance that takes units; `StoreError` if it cannot be made."""
        _check(change)
        rows = self._rows.setdefault(change.instance, {}).setdefault(change.branch, {})
        for row in _given(change):
            known = rows.get(row.index)
            if known is not None and row.status is Status.RUNNING and _is_open(known, row):
                row = msgspec.structs.replace(row, args=known.args)
            if known is None or _gives_way(known, row):
                self._before.append(((row.instance, row.branch, row.index), known))
                rows[row.index] = row

    def some(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there are, by index."""
        rows = self._rows.get(instance, {}).get(branch, {})
        return [rows[index] for index in sorted(indexes) if index in rows]

    def page(
        self,
        instance: InstanceId,
        branch: str | None,
        after: UnitPlace | None,
        limit: int,
        status: Status | None,
    ) -> list[UnitRow]:
        """The first units after a place."""
        found = [
            row
            for row in self._of(instance)
            if branch in (None, row.branch)
            and status in (None, row.status)
            and (after is None or (row.branch, row.index) > (after.branch, after.index))
        ]
        return found[: min(max(0, limit), 1000)]

    def queued(self, instance: InstanceId) -> list[UnitRow]:
        """Those that did not end."""
        return [row for row in self._of(instance) if row.status is Status.QUEUED]

    def counts(self, instance: InstanceId, branch: str | None = None) -> UnitCounts:
        """How many there are, by status; only of a branch, if it is told."""
        found = [row.status for row in self._of(instance) if branch in (None, row.branch)]
        complete, failed = found.count(Status.COMPLETE), found.count(Status.FAILED)
        return UnitCounts(complete, failed, len(found) - complete - failed)

    def running(self, instances: Collection[InstanceId]) -> list[UnitRow]:
        """Those that were begun and did not end, by instance."""
        found = [row for instance in sorted(instances) for row in self._of(instance)]
        return [row for row in found if row.status is Status.RUNNING]

    def blobs(self) -> set[str]:
        """The names of the results that are not inline."""
        rows = [row for instance in self._rows for row in self._of(instance)]
        return {row.result.sha256 for row in rows if row.result is not None and row.result.sha256}

    def _of(self, instance: InstanceId) -> Iterator[UnitRow]:
        for _, rows in sorted(self._rows.get(instance, {}).items()):
            for index in sorted(rows):
                yield rows[index]


def _check(change: InsertUnits | StartUnit | RecordUnits) -> None:
    indexes, digests, payloads = _columns(change)
    count = len(indexes)
    is_right = (
        len(digests) == DIGEST_SIZE * count
        and len(payloads) == count
        and len(change.branch) <= BRANCH_LIMIT
        and not any("\ud800" <= letter <= "\udfff" for letter in change.branch)
        and all(-(2**63) <= index < 2**63 for index in indexes)
    )
    if not is_right:
        raise StoreError("The store refused, nothing was changed: these are no units.")


def _columns(change: InsertUnits | StartUnit | RecordUnits) -> tuple[Sequence[int], bytes, Sequence[bytes]]:
    match change:
        case StartUnit(index=index, digest=digest):
            return [index], digest, [b""]
        case InsertUnits(indexes=indexes, args=args):
            return indexes, change.digests, args
        case RecordUnits(indexes=indexes, results=results):
            return indexes, change.digests, results


def _given(change: InsertUnits | StartUnit | RecordUnits) -> Iterator[UnitRow]:
    """The rows as they would be new."""
    if isinstance(change, StartUnit):
        yield UnitRow(
            *(change.instance, change.branch, change.index, Status.RUNNING, change.digest),
            attempt=change.attempt,
            node=change.node,
            worker=change.worker,
            guarantee=change.guarantee,
        )
        return
    for at, index in enumerate(change.indexes):
        instance, branch = change.instance, change.branch
        digest = change.digests[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE]
        if isinstance(change, InsertUnits):
            yield UnitRow(instance, branch, index, Status.QUEUED, digest, args=change.args[at])
            continue
        failure, inline = change.failures.get(at), change.results[at]
        yield UnitRow(
            instance,
            branch,
            index,
            Status.COMPLETE if failure is None else Status.FAILED,
            digest,
            result=change.blobs.get(at, Payload(len(inline), inline)) if failure is None else None,
            failure=failure,
            attempt=change.attempt,
            node=change.node,
            ended=change.at,
        )


def _is_open(known: UnitRow, row: UnitRow) -> bool:
    """It has the arguments of the row, which did not end."""
    return known.digest == row.digest and not known.status.is_final


def _gives_way(known: UnitRow, row: UnitRow) -> bool:
    if row.status.is_final and known.status in (Status.RUNNING, Status.FAILED):
        is_its_end = known.attempt == row.attempt
        if is_its_end is not (known.status is Status.RUNNING):
            return False
    if known.digest != row.digest:
        return True
    return row.status is not Status.QUEUED and known.status is not Status.COMPLETE
