# SPDX-License-Identifier: MIT
"""
The SQL by which work units become rows.

Tens of thousands are written a second, by a thread that shares the interpreter with the reactor's: each
statement that it runs may cost it a turn of waiting. So one statement inserts many rows, of a few fixed
numbers of rows, which SQLite has compiled already; and it goes to the driver as it is, without Django's
rewriting of its text. What all rows of a statement have in common is bound once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import repeat
from typing import Any

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from pydra.cluster.store.database import MARK, direct_cursor
from pydra.model.changes import Change, Committed, InsertUnits, RecordUnits
from pydra.model.ids import InstanceId
from pydra.model.instance import Payload
from pydra.model.status import Status
from pydra.model.unit import BRANCH_LIMIT, DIGEST_SIZE

LARGEST_PART = 1024
"""Rows that one statement inserts at most."""

SMALL_PART = 16
"""Below it there is a statement for each number of rows, above it only for powers of two."""

BRANCHES_KNOWN = 10_000
"""Branches whose ids are remembered."""

_FINAL = ", ".join(str(int(status)) for status in Status if status.is_final)

# Only constants of this file, of the enum and the driver's mark of a value are put into the texts.
_TAKES_UNITS = f"SELECT 1 FROM pydra_instance WHERE id = {MARK} AND status NOT IN ({_FINAL})"  # noqa: S608
_BRANCH = f"SELECT id FROM pydra_branch WHERE instance = {MARK} AND branch = {MARK}"  # noqa: S608
_NEW_BRANCH = f"INSERT INTO pydra_branch (instance, branch) VALUES ({MARK}, {MARK})"  # noqa: S608

_Columns = Sequence[Sequence[Any]]
"""What the rows of a statement have of their own, one sequence a column; values of any type."""
_Own = tuple[Sequence[int], list[bytearray], list[bytearray]]
"""Index, digest and payload."""


def weight(change: Change) -> int:
    """What a change adds to its transaction: rows, and one more for each KiB of its units."""
    match change:
        case InsertUnits(_, _, indexes, payloads, _) | RecordUnits(_, _, indexes, _, payloads):
            return len(indexes) + (sum(map(len, payloads)) >> 10)
    return 1


class UnitChanges:
    """
    Makes the changes that are about units, in the open transaction of a writing connection.

    It remembers the ids of branches, which are true once they are committed: it is to be told of the end of
    the transaction, and of each savepoint that is rolled back.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._cursor = direct_cursor(connection)
        self._errors_as_django_has_them = connection.wrap_database_errors
        self._branches: dict[tuple[InstanceId, str], int] = {}
        self._new_branches: dict[tuple[InstanceId, str], int] = {}
        self._takes_units: tuple[InstanceId, bool] | None = None

    def committed(self) -> None:
        """The transaction was committed."""
        if self._new_branches:
            if len(self._branches) + len(self._new_branches) > BRANCHES_KNOWN:
                self._branches.clear()
            self._branches.update(self._new_branches)
            self._new_branches.clear()
        self.instances_changed()

    def rolled_back(self) -> None:
        """The transaction, or a part of it, was rolled back."""
        self._new_branches.clear()
        self.instances_changed()

    def instances_changed(self) -> None:
        """Any instance may have another status than before."""
        self._takes_units = None

    def apply(self, change: InsertUnits | RecordUnits) -> Committed:
        """Make one change; it is applied unless its instance is final, or unknown."""
        instance, count = change.instance, len(change.indexes)
        if len(change.digests) != DIGEST_SIZE * count:
            raise ValueError(f"{count} units have {len(change.digests)} bytes of digests")
        if len(change.branch) > BRANCH_LIMIT:
            raise ValueError(f"the branch has {len(change.branch)} characters")
        with self._errors_as_django_has_them:
            if not self._instance_takes_units(instance):
                return Committed(False, instance)
            self._write(change, count)
        return Committed(True, instance)

    def _write(self, change: InsertUnits | RecordUnits, count: int) -> None:
        branch = self._branch(change.instance, change.branch)
        # The driver binds a bytearray at once, and looks for an adapter for each value that is bytes.
        data = bytearray(change.digests)
        digests = [data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE)]
        if isinstance(change, InsertUnits):
            columns = (change.indexes, digests, _payloads(change.args, count))
            self._insert(Status.QUEUED, (branch, None, None, None, None), columns)
            return
        attempt = change.attempt
        shared = (branch, attempt.epoch, attempt.number, change.node, change.at)
        columns = (change.indexes, digests, _payloads(change.results, count))
        if change.failures or change.blobs:
            columns = self._record_special(shared, columns, change)
        self._insert(Status.COMPLETE, shared, columns)

    def _record_special(self, shared: tuple[Any, ...], columns: _Own, change: RecordUnits) -> _Own:
        """Insert the units that failed, and those with a blob; the columns of the others."""
        indexes, digests, results = columns
        failures, blobs = change.failures, _without(change.blobs, change.failures)
        if failures:
            of_failed = ([column[at] for at in failures] for column in (indexes, digests))
            encoded = [bytearray(msgspec.msgpack.encode(failure)) for failure in failures.values()]
            self._insert(Status.FAILED, shared, (*of_failed, encoded))
        if blobs:
            of_blobs = ([column[at] for at in blobs] for column in (indexes, digests))
            payloads = [bytearray(blob.inline) for blob in blobs.values()]
            sizes, names = zip(*((blob.size, blob.sha256) for blob in blobs.values()), strict=True)
            self._insert(Status.COMPLETE, shared, (*of_blobs, payloads, sizes, names))
        others = [at for at in range(len(indexes)) if at not in failures and at not in blobs]
        return [indexes[at] for at in others], [digests[at] for at in others], [results[at] for at in others]

    def _insert(self, status: Status, shared: tuple[Any, ...], columns: _Columns) -> None:
        """Insert rows of this status; those that have an earlier one take its place, if they may."""
        width = len(columns)
        for start, rows in parts(len(columns[0])):
            cells = [*shared, *repeat(None, width * rows)]
            for at, column in enumerate(columns, len(shared)):
                cells[at::width] = column[start : start + rows]
            self._cursor.execute(_insertion(status, width, rows), cells)

    def _instance_takes_units(self, instance: InstanceId) -> bool:
        if self._takes_units is None or self._takes_units[0] != instance:
            found = self._cursor.execute(_TAKES_UNITS, (instance,)).fetchone()
            self._takes_units = (instance, found is not None)
        return self._takes_units[1]

    def _branch(self, instance: InstanceId, branch: str) -> int:
        """The id of a branch, which has a row then."""
        key = (instance, branch)
        known = self._branches.get(key) or self._new_branches.get(key)
        if known is not None:
            return known
        row = self._cursor.execute(_BRANCH, key).fetchone()
        if row is None:
            self._cursor.execute(_NEW_BRANCH, key)
            row = self._cursor.execute(_BRANCH, key).fetchone()
        found = int(row[0])
        self._new_branches[key] = found
        return found


def parts(count: int) -> Iterator[tuple[int, int]]:
    """Where the part of each statement begins, and how many rows it has."""
    at, rows = 0, LARGEST_PART
    while rows >= SMALL_PART:
        while count - at >= rows:
            yield at, rows
            at += rows
        rows //= 2
    if at < count:
        yield at, count - at


def _payloads(payloads: Sequence[bytes], count: int) -> list[bytearray]:
    if len(payloads) != count:
        raise ValueError(f"{count} units have {len(payloads)} payloads")
    return list(map(bytearray, payloads))


def _without(blobs: Mapping[int, Payload], failures: Mapping[int, object]) -> Mapping[int, Payload]:
    return {at: blob for at, blob in blobs.items() if at not in failures} if failures else blobs


@cache
def _insertion(status: Status, width: int, rows: int) -> str:
    """The statement that inserts so many rows of so many values each: 3, or 5 if they have a blob."""
    blob = "column4, column5" if width == 5 else "NULL, NULL"
    row = f"({', '.join([MARK] * width)})"
    # What ended takes the place of what did not complete; what waits, only of what failed.
    yields = f"= {int(Status.FAILED)}" if status is Status.QUEUED else f"<> {int(Status.COMPLETE)}"
    return (
        "INSERT INTO pydra_unit (branch, attempt_epoch, attempt_number, node, ended, "  # noqa: S608
        "unit_index, digest, status, payload, size, sha256) "
        f"SELECT {', '.join([MARK] * 5)}, column1, column2, {int(status)}, column3, {blob} "
        f"FROM (VALUES {', '.join([row] * rows)}) AS units WHERE true "
        "ON CONFLICT (branch, unit_index) DO UPDATE SET status = excluded.status, digest = excluded.digest, "
        "payload = excluded.payload, size = excluded.size, sha256 = excluded.sha256, "
        "attempt_epoch = excluded.attempt_epoch, attempt_number = excluded.attempt_number, "
        "node = excluded.node, ended = excluded.ended "
        f"WHERE pydra_unit.status {yields} OR pydra_unit.digest <> excluded.digest"
    )
