# SPDX-License-Identifier: MIT
"""What may be asked of the store about work units."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from django.db import connections

from pydra.cluster.store.models import WorkUnitRow
from pydra.cluster.store.unit_changes import GUARANTEE_BITS
from pydra.errors import StoreError
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Failure, Payload
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import INDEX_LIMIT, UnitCounts, UnitPlace, UnitRow

AT_ONCE = 500
"""Indexes that one statement asks for."""

PAGE_LIMIT = 1000

_COLUMNS = (
    "unit_index",
    "status",
    "digest",
    "payload",
    "size",
    "sha256",
    "attempt_epoch",
    "attempt_number",
    "node",
    "ended",
)

_STATUSES = {int(status): status for status in Status}

# Only constants of this file are put into the texts. Branches come in the order of an index, and the units of
# each in that of theirs, so a page costs what it shows.
_SELECT = (
    f"SELECT b.branch, {', '.join(f'u.{name}' for name in _COLUMNS)} "  # noqa: S608
    "FROM pydra_branch b JOIN pydra_unit u ON u.branch = b.id WHERE b.instance = %s "
)
_ORDER = "ORDER BY b.branch, u.unit_index"
# The condition of the index of units that are not complete; it is used if a text has it word for word.
_NOT_COMPLETE = "u.status < 3"
_OF_INSTANCE = "COUNT(*) FROM pydra_branch b JOIN pydra_unit u ON u.branch = b.id WHERE b.instance = %s"
_RUNNING = (
    f"SELECT b.instance, b.branch, {', '.join(f'u.{name}' for name in _COLUMNS)} "  # noqa: S608
    "FROM pydra_instance i JOIN pydra_branch b ON b.instance = i.id JOIN pydra_unit u ON u.branch = b.id "
    f"WHERE i.status NOT IN ({', '.join(str(int(status)) for status in Status if status.is_final)}) "
    f"AND {_NOT_COMPLETE} AND u.status = {int(Status.RUNNING)} ORDER BY b.instance, b.branch, u.unit_index"
)


class UnitQueries:
    """The questions; each runs in a thread that has a connection."""

    def units(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there are, by index."""
        wanted = sorted(index for index in indexes if 0 <= index <= INDEX_LIMIT)
        found: list[UnitRow] = []
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            if some[-1] - some[0] < 2 * len(some):
                # Most of what is between them is meant.
                meant = set(some)
                text = f"{_SELECT}AND b.branch = %s AND u.unit_index BETWEEN %s AND %s {_ORDER}"
                rows = self._rows(instance, text, [instance, branch, some[0], some[-1]])
                found += [row for row in rows if row.index in meant]
            else:
                marks = ", ".join(["%s"] * len(some))
                text = f"{_SELECT}AND b.branch = %s AND u.unit_index IN ({marks}) {_ORDER}"
                found += self._rows(instance, text, [instance, branch, *some])
        return found

    def unit_page(
        self,
        instance: InstanceId,
        branch: str | None = None,
        after: UnitPlace | None = None,
        limit: int = 100,
        status: Status | None = None,
    ) -> list[UnitRow]:
        """The first units after a place, by branch and index; only of a branch or status, if it is told."""
        chosen, wanted = "", []
        if status is not None:
            chosen = f"AND {_NOT_COMPLETE} " if status < Status.COMPLETE else ""
            chosen, wanted = f"{chosen}AND u.status = %s ", [int(status)]
        limit = min(max(0, limit), PAGE_LIMIT)
        found: list[UnitRow] = []
        for where, values in _seeks(branch, after):
            text = f"{_SELECT}{where}{chosen}{_ORDER} LIMIT %s"
            found += self._rows(instance, text, [instance, *values, *wanted, limit - len(found)])
            if len(found) >= limit:
                break
        return found

    def queued_units(self, instance: InstanceId) -> list[UnitRow]:
        """What the client of a session submitted and did not end, by branch and index."""
        status = f"AND {_NOT_COMPLETE} AND u.status = {int(Status.QUEUED)} "
        return self._rows(instance, f"{_SELECT}{status}{_ORDER}", [instance])

    def running_units(self) -> list[UnitRow]:
        """What has a guarantee and was begun, of all instances that are not final; by instance."""
        with connections["default"].cursor() as cursor:
            cursor.execute(_RUNNING)
            return [_unit(InstanceId(row[0]), *row[1:]) for row in cursor.fetchall()]

    def unit_counts(self, instance: InstanceId, branch: str | None = None) -> UnitCounts:
        """How many units an instance has, by status; only of a branch, if it is told."""
        chosen = _OF_INSTANCE
        values: list[int | str] = [instance]
        if branch is not None:
            chosen += " AND b.branch = %s"
            values.append(branch)
        text = (
            f"SELECT u.status, {chosen} AND {_NOT_COMPLETE} GROUP BY u.status UNION ALL SELECT NULL, {chosen}"
        )
        with connections["default"].cursor() as cursor:
            cursor.execute(text, values * 2)
            counts = dict(cursor.fetchall())
        failed = counts.get(int(Status.FAILED), 0)
        queued = counts.get(int(Status.QUEUED), 0) + counts.get(int(Status.RUNNING), 0)
        return UnitCounts(counts[None] - failed - queued, failed, queued)

    def unit_blobs(self) -> set[str]:
        """The names of the results that are not inline."""
        rows = WorkUnitRow.objects.filter(sha256__isnull=False)
        return {name for name in rows.values_list("sha256", flat=True).distinct() if name}

    def _rows(self, instance: InstanceId, text: str, values: Sequence[int | str]) -> list[UnitRow]:
        with connections["default"].cursor() as cursor:
            cursor.execute(text, values)
            return [_unit(instance, *row) for row in cursor.fetchall()]


def _seeks(branch: str | None, after: UnitPlace | None) -> list[tuple[str, list[str | int]]]:
    """
    What is looked for, one after another: conditions and their values.

    The rest of a branch and all branches behind it are two questions, since one with both would read what is
    before the page.
    """
    if after is None:
        return [("", [])] if branch is None else [("AND b.branch = %s ", [branch])]
    rest: tuple[str, list[str | int]] = (
        "AND b.branch = %s AND u.unit_index > %s ",
        [after.branch, after.index],
    )
    if branch is None:
        return [rest, ("AND b.branch > %s ", [after.branch])]
    if branch == after.branch:
        return [rest]
    return [("AND b.branch = %s ", [branch])] if branch > after.branch else []


def _unit(instance: InstanceId, branch: str, *cells: Any) -> UnitRow:
    """A unit from the cells of its row; the database gives cells of any type."""
    index, code, digest, data, size, sha256, epoch, number, node, ended = cells
    payload, status = bytes(data), _STATUSES[code]
    is_complete = status is Status.COMPLETE
    is_running, worker, guarantee = status is Status.RUNNING, None, Guarantee.NONE
    if is_running:
        worker = Attempt(int(ended), size >> GUARANTEE_BITS)
        guarantee = Guarantee(size & Guarantee.ONCE | size & Guarantee.EXCLUSIVE)
    result = Payload(len(payload) if size is None else size, payload, sha256 or "") if is_complete else None
    return UnitRow(
        instance,
        branch,
        index,
        status,
        bytes(digest),
        args=payload if is_running or status is Status.QUEUED else b"",
        result=result,
        failure=_failure(payload) if status is Status.FAILED else None,
        attempt=None if number is None else Attempt(epoch, number),
        node=None if node is None else NodeId(node),
        ended=None if is_running else ended,
        worker=worker,
        guarantee=guarantee,
    )


def _failure(data: bytes) -> Failure:
    try:
        return msgspec.msgpack.decode(data, type=Failure)
    except msgspec.DecodeError as error:
        raise StoreError(f"The store holds a failure that cannot be read: {error}.") from error
