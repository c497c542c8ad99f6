# SPDX-License-Identifier: MIT
"""
The SQL by which work units become rows.

Tens of thousands are written a second, by a thread that shares the interpreter with the reactor's: each
statement that it runs may cost it a turn of waiting. So one statement inserts many rows, of a few fixed
numbers of rows, which SQLite has compiled already, of many changes together; and it goes to the driver as it
is, without Django's rewriting of its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from pydra.cluster.store.database import MARK, direct_cursor
from pydra.model.changes import Change, Committed, InsertUnits, RecordUnits, StartUnit
from pydra.model.ids import InstanceId
from pydra.model.status import Status
from pydra.model.unit import BRANCH_LIMIT, DIGEST_SIZE

LARGEST_PART = 1024
"""Rows that one statement inserts at most."""

SMALL_PART = 16
"""Below it there is a statement for each number of rows, above it only for powers of two."""

GUARANTEE_BITS = 2
"""Of the number in which the worker and the guarantee of a running unit are."""

BRANCHES_KNOWN = 10_000
"""Branches whose ids are remembered."""

_BEFORE_ITS_END = f"{int(Status.QUEUED)}, {int(Status.RUNNING)}"
_FINAL = ", ".join(str(int(status)) for status in Status if status.is_final)

# Only constants of this file, of the enum and the driver's mark of a value are put into the texts.
_TAKES_UNITS = f"SELECT 1 FROM pydra_instance WHERE id = {MARK} AND status NOT IN ({_FINAL})"  # noqa: S608
_BRANCH = f"SELECT id FROM pydra_branch WHERE instance = {MARK} AND branch = {MARK}"  # noqa: S608
_NEW_BRANCH = f"INSERT INTO pydra_branch (instance, branch) VALUES ({MARK}, {MARK})"  # noqa: S608

_Columns = Sequence[Sequence[Any]]
"""Rows, one sequence a column; values of any type."""


def weight(change: Change) -> int:
    """What a change adds to its transaction: rows, and one more for each KiB of its units."""
    match change:
        case InsertUnits(_, _, indexes, payloads, _) | RecordUnits(_, _, indexes, _, payloads):
            return len(indexes) + (sum(map(len, payloads)) >> 10)
    return 1


class UnitChanges:
    """
    Makes the changes that are about units, in the open transaction of a writing connection.

    Their rows are written by ``flush``, at the latest; until then only changes about units may be made. It
    remembers the ids of branches, which are true once they are committed: it is to be told of the end of
    the transaction, and of each savepoint that is rolled back.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._cursor = direct_cursor(connection)
        self._errors_as_django_has_them = connection.wrap_database_errors
        self._branches: dict[tuple[InstanceId, str], int] = {}
        self._new_branches: dict[tuple[InstanceId, str], int] = {}
        self._takes_units: tuple[InstanceId, bool] | None = None
        self._status = Status.COMPLETE
        self._columns: list[list[Any]] = []

    def committed(self) -> None:
        """The transaction was committed."""
        if self._new_branches:
            if len(self._branches) + len(self._new_branches) > BRANCHES_KNOWN:
                self._branches.clear()
            self._branches.update(self._new_branches)
            self._new_branches.clear()
        self._takes_units = None

    def rolled_back(self) -> None:
        """The transaction, or a part of it, was rolled back."""
        self._new_branches.clear()
        self._columns = []
        self._takes_units = None

    def apply(self, change: InsertUnits | StartUnit | RecordUnits) -> Committed:
        """Make one change; it is applied unless its instance is final, or unknown."""
        if isinstance(change, StartUnit):
            return self._start(change)
        count = len(change.indexes)
        if len(change.digests) != DIGEST_SIZE * count:
            raise ValueError(f"{count} units have {len(change.digests)} bytes of digests")
        if len(change.branch) > BRANCH_LIMIT:
            raise ValueError(f"the branch has {len(change.branch)} characters")
        with self._errors_as_django_has_them:
            if not self._instance_takes_units(change.instance):
                return Committed(False, change.instance)
            branch = [self._branch(change.instance, change.branch)] * count
            # The driver binds a bytearray at once, and looks for an adapter for each value that is bytes.
            data = bytearray(change.digests)
            digests = [data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE)]
            if isinstance(change, InsertUnits):
                self._add(Status.QUEUED, (branch, change.indexes, digests, _payloads(change.args, count)))
            else:
                own = (change.indexes, digests, _payloads(change.results, count))
                told = (change.attempt.epoch, change.attempt.number, change.node, change.at)
                columns: _Columns = (branch, *own, *([value] * count for value in told))
                if change.failures or change.blobs:
                    columns = self._write_special(columns, change)
                self._add(Status.COMPLETE, columns)
        return Committed(True, change.instance)

    def _start(self, change: StartUnit) -> Committed:
        if len(change.digest) != DIGEST_SIZE or len(change.branch) > BRANCH_LIMIT:
            raise ValueError(
                f"a unit of {len(change.branch)} characters, digest of {len(change.digest)} bytes"
            )
        with self._errors_as_django_has_them:
            if not self._instance_takes_units(change.instance):
                return Committed(False, change.instance)
            branch, attempt = self._branch(change.instance, change.branch), change.attempt
            row = (branch, change.index, bytearray(change.digest), bytearray())
            told = (attempt.epoch, attempt.number, change.node)
            # A running unit has neither an end nor a result: there the worker and the guarantee are kept.
            worker = (float(change.worker.epoch), change.worker.number << GUARANTEE_BITS | change.guarantee)
            self._add(Status.RUNNING, [[cell] for cell in (*row, *told, *worker, None)])
        return Committed(True, change.instance)

    def flush(self) -> None:
        """Write all rows; then any instance may get another status."""
        if self._columns:
            columns, self._columns = self._columns, []
            with self._errors_as_django_has_them:
                self._write(self._status, columns)
        self._takes_units = None

    def _add(self, status: Status, columns: _Columns) -> None:
        """Have rows written, with those that come after them."""
        if self._columns and self._status is status:
            for column, more in zip(self._columns, columns, strict=True):
                column += more
            return
        self._write(self._status, self._columns)
        self._status, self._columns = status, [list(column) for column in columns]

    def _write_special(self, columns: _Columns, change: RecordUnits) -> _Columns:
        """Write the units that failed and those with a blob; the rows of the others."""
        self._write(self._status, self._columns)
        self._columns = []
        indexes, failures, blobs = change.indexes, change.failures, change.blobs
        failed = _chosen(columns, list(failures))
        failed[3] = [bytearray(msgspec.msgpack.encode(failure)) for failure in failures.values()]
        self._write(Status.FAILED, failed)
        with_blobs = [at for at in blobs if at not in failures]
        payloads = [blobs[at] for at in with_blobs]
        large = _chosen(columns, with_blobs)
        large[3] = [bytearray(payload.inline) for payload in payloads]
        names = ([payload.size for payload in payloads], [payload.sha256 for payload in payloads])
        self._write(Status.COMPLETE, [*large, *names])
        return _chosen(columns, [at for at in range(len(indexes)) if at not in failures and at not in blobs])

    def _write(self, status: Status, columns: _Columns) -> None:
        """Insert rows of this status; where there is one of before, they take its place, if they may."""
        width = len(columns)
        for start, rows in parts(len(columns[0]) if columns else 0):
            cells: list[Any] = [None] * (width * rows)
            for at, column in enumerate(columns):
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


def _chosen(columns: _Columns, positions: Sequence[int]) -> list[Sequence[Any]]:
    """Some of the rows."""
    return [[column[at] for at in positions] for column in columns]


_COLUMNS = (
    *("branch", "unit_index", "digest", "payload"),
    *("attempt_epoch", "attempt_number", "node", "ended"),
    *("size", "sha256"),
)
"""The first four are those of a queued unit, the first eight of one that ended without a blob."""


@cache
def _insertion(status: Status, width: int, rows: int) -> str:
    """The statement that inserts so many rows of so many of the columns."""
    row = f"({', '.join([MARK] * width)}, {int(status)})"
    overwritten = ", ".join(f"{name} = excluded.{name}" for name in ("status", *_COLUMNS[2:]))
    if status is Status.RUNNING:
        # What a client submitted has its arguments until it ends.
        same = f"pydra_unit.digest = excluded.digest AND pydra_unit.status IN ({_BEFORE_ITS_END})"
        own = f"CASE WHEN {same} THEN pydra_unit.payload ELSE excluded.payload END"
        overwritten = overwritten.replace("excluded.payload", own)
    # What ended or begins takes the place of what did not complete; what waits, of nothing: it may come late.
    yields = "" if status is Status.QUEUED else f"pydra_unit.status <> {int(Status.COMPLETE)} OR "
    # What runs with a guarantee ends as this very attempt; and no attempt ends twice.
    fence = ""
    if status.is_final:
        fence = (
            f" AND (pydra_unit.status NOT IN ({int(Status.RUNNING)}, {int(Status.FAILED)}) OR "
            f"(pydra_unit.status = {int(Status.RUNNING)}) = "
            "(pydra_unit.attempt_epoch = excluded.attempt_epoch AND "
            "pydra_unit.attempt_number = excluded.attempt_number))"
        )
    return (
        f"INSERT INTO pydra_unit ({', '.join(_COLUMNS[:width])}, status) "  # noqa: S608
        f"VALUES {', '.join([row] * rows)} ON CONFLICT (branch, unit_index) DO UPDATE SET {overwritten} "
        f"WHERE ({yields}pydra_unit.digest <> excluded.digest){fence}"
    )
