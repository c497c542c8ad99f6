# SPDX-License-Identifier: MIT
"""
The SQL of what may be committed.

Every change is one statement whose WHERE holds its condition, so that its row count tells whether it was
applied. Changes of different instances do not touch each other: those of one kind are run together, which
nobody sees, because all of it is one transaction. Values are always bound, never written into the text.
Changes about units have a room of their own (``unit_changes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, assert_never

import msgspec

from pydra.cluster.store.rows import INSTANCE_COLUMNS, Cells, failure_cells, instance_row, payload_cells
from pydra.cluster.store.unit_changes import UnitChanges
from pydra.model.changes import (
    Change,
    Committed,
    FinishInstance,
    InsertInstance,
    InsertUnits,
    MarkCancelling,
    MarkPaused,
    PutNode,
    PutPackage,
    RecordUnits,
    RequeueInstance,
    RetryInstance,
    StartAttempt,
    StartUnit,
)
from pydra.model.ids import InstanceId
from pydra.model.status import Status


class Cursor(Protocol):
    """What is used of a cursor of Django's."""

    @property
    def rowcount(self) -> int:
        """Rows that the last call changed, all of an ``executemany`` together."""
        ...

    def execute(self, sql: str, params: Sequence[Any] | None = None) -> object:
        """Run one statement."""
        ...

    def executemany(self, sql: str, param_list: Sequence[Sequence[Any]]) -> object:
        """Run one statement once for each list of parameters."""
        ...

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row of the answer."""
        ...


QUEUED, RUNNING, CANCELLING = int(Status.QUEUED), int(Status.RUNNING), int(Status.CANCELLING)
PAUSED = int(Status.PAUSED)

# Only constants of this file and of the enum above are put into the texts.
_INSERT = (
    f"INSERT INTO pydra_instance ({', '.join(INSTANCE_COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join(['%s'] * len(INSTANCE_COLUMNS))}) "
    "ON CONFLICT (request_key) WHERE NOT (request_key = '') DO NOTHING"
)
_FIRST_WITH_KEY = "SELECT id FROM pydra_instance WHERE request_key = %s AND NOT (request_key = '')"
_START = (
    f"UPDATE pydra_instance SET status = {RUNNING}, attempt_epoch = %s, attempt_number = %s, "  # noqa: S608
    "node = %s, worker = %s, started = COALESCE(started, %s), not_before = NULL, failure_code = NULL, "
    f"failure_message = NULL, failure_traceback = NULL WHERE id = %s AND status = {QUEUED}"
)
_MARK_CANCELLING = (
    f"UPDATE pydra_instance SET status = {CANCELLING}, failure_code = %s, failure_message = %s, "  # noqa: S608
    "failure_traceback = %s, result_size = %s, result_inline = %s, result_sha256 = %s "
    f"WHERE id = %s AND (status = {RUNNING} OR status = {PAUSED} AND attempt_number IS NOT NULL)"
)
# A paused instance that loses its attempt stays paused, and has none: so it is known for one that waits.
_WAITS_AGAIN = (
    f"status = CASE status WHEN {PAUSED} THEN {PAUSED} ELSE {QUEUED} END, "
    f"attempt_epoch = CASE status WHEN {PAUSED} THEN NULL ELSE attempt_epoch END, "
    f"attempt_number = CASE status WHEN {PAUSED} THEN NULL ELSE attempt_number END"
)
_REQUEUE = (
    f"UPDATE pydra_instance SET {_WAITS_AGAIN}, losses = %s "  # noqa: S608
    f"WHERE id = %s AND attempt_epoch = %s AND attempt_number = %s AND status IN ({RUNNING}, {PAUSED})"
)
_RETRY = (
    f"UPDATE pydra_instance SET {_WAITS_AGAIN}, retried = %s, not_before = %s, "  # noqa: S608
    "failure_code = %s, failure_message = %s, failure_traceback = %s "
    f"WHERE id = %s AND attempt_epoch = %s AND attempt_number = %s AND status IN ({RUNNING}, {PAUSED})"
)
_PAUSE = (
    f"UPDATE pydra_instance SET status = {PAUSED}, "  # noqa: S608
    f"attempt_epoch = CASE status WHEN {QUEUED} THEN NULL ELSE attempt_epoch END, "
    f"attempt_number = CASE status WHEN {QUEUED} THEN NULL ELSE attempt_number END "
    f"WHERE id = %s AND status IN ({QUEUED}, {RUNNING})"
)
_RESUME = (
    f"UPDATE pydra_instance SET status = CASE WHEN attempt_number IS NULL THEN {QUEUED} "  # noqa: S608
    f"ELSE {RUNNING} END WHERE id = %s AND status = {PAUSED}"
)
_FINISH = (
    "UPDATE pydra_instance SET status = %s, completed = %s, "
    "result_size = %s, result_inline = %s, result_sha256 = %s, "
    "failure_code = %s, failure_message = %s, failure_traceback = %s WHERE id = %s AND "
)
_FINISH_QUEUED = f"{_FINISH}(status = {QUEUED} OR status = {PAUSED} AND attempt_number IS NULL)"
_FINISH_ATTEMPT = (
    f"{_FINISH}attempt_epoch = %s AND attempt_number = %s AND status IN ({RUNNING}, {CANCELLING}, {PAUSED})"
)
_PUT_NODE = (
    "INSERT INTO pydra_node (id, host, port, fingerprint, slots, information, seen, deleted) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET host = excluded.host, "
    "port = excluded.port, fingerprint = excluded.fingerprint, slots = excluded.slots, "
    "information = excluded.information, seen = excluded.seen, deleted = excluded.deleted"
)
_PUT_PACKAGE = (
    "INSERT INTO pydra_package (package, version, described, description) VALUES (%s, %s, %s, %s) "
    "ON CONFLICT (package, version) DO UPDATE SET described = excluded.described, "
    "description = excluded.description"
)


def apply_changes(cursor: Cursor, units: UnitChanges, changes: Sequence[Change]) -> list[Committed]:
    """
    Run the changes inside the open transaction; the outcomes are in the order of the changes.

    Raises what the database or the binding of a value raises; then the transaction is to be rolled back.
    """
    outcomes: dict[int, Committed] = {}
    waiting: dict[str, list[_Member]] = {}
    touched: dict[InstanceId, str] = {}
    for position, change in enumerate(changes):
        if isinstance(change, InsertUnits | StartUnit | RecordUnits):
            if change.instance in touched:
                _run_all(cursor, units, waiting, outcomes)
                touched = {}
            outcomes[position] = units.apply(change)
            continue
        sql, cells = _statement(change)
        instance = instance_of(change)
        if instance is not None and touched.setdefault(instance, sql) != sql:
            # Something else was to happen to this instance before.
            _run_all(cursor, units, waiting, outcomes)
            touched = {instance: sql}
        waiting.setdefault(sql, []).append((position, change, cells))
    _run_all(cursor, units, waiting, outcomes)
    return [outcomes[position] for position in range(len(changes))]


_Member = tuple[int, Change, Cells]
_OfRows = (
    InsertInstance
    | StartAttempt
    | MarkCancelling
    | RequeueInstance
    | RetryInstance
    | FinishInstance
    | MarkPaused
    | PutNode
    | PutPackage
)
"""Changes that are one statement, and about one row."""


def _run_all(
    cursor: Cursor, units: UnitChanges, waiting: dict[str, list[_Member]], outcomes: dict[int, Committed]
) -> None:
    units.flush()
    for sql, members in waiting.items():
        if not _run_together(cursor, sql, members, outcomes):
            for position, change, cells in members:
                cursor.execute(sql, cells)
                applied = cursor.rowcount == 1
                instance = instance_of(change) if applied else _concerned(cursor, change)
                outcomes[position] = Committed(applied, instance)
    waiting.clear()


def _run_together(
    cursor: Cursor, sql: str, members: Sequence[_Member], outcomes: dict[int, Committed]
) -> bool:
    """Whether one call did all of it; it is undone if a condition did not hold, for it does not say whose."""
    if len(members) == 1:
        return False
    cursor.execute("SAVEPOINT pydra_together")
    cursor.executemany(sql, [cells for _, _, cells in members])
    together = cursor.rowcount == len(members)
    if together:
        outcomes.update((position, Committed(True, instance_of(change))) for position, change, _ in members)
    else:
        cursor.execute("ROLLBACK TO SAVEPOINT pydra_together")
    cursor.execute("RELEASE SAVEPOINT pydra_together")
    return together


def _concerned(cursor: Cursor, change: Change) -> InstanceId | None:
    """The instance of a change that was not applied: of a repeated submission it is the first one."""
    if isinstance(change, InsertInstance):
        cursor.execute(_FIRST_WITH_KEY, (change.instance.request_key,))
        if (row := cursor.fetchone()) is not None:
            return InstanceId(row[0])
    return instance_of(change)


def instance_of(change: Change) -> InstanceId | None:
    """The instance that a change names, if it is about one."""
    if isinstance(change, InsertInstance):
        return change.instance.id
    if isinstance(change, PutNode | PutPackage):
        return None
    return change.instance


def _statement(change: _OfRows) -> tuple[str, Cells]:
    """The text of a change and the values to bind."""
    cells: Cells
    match change:
        case InsertInstance(instance):
            return _INSERT, instance_row(instance)
        case StartAttempt(instance, attempt, node, worker, at):
            return _START, (attempt.epoch, attempt.number, node, worker, at, instance)
        case MarkCancelling(instance, failure, result):
            return _MARK_CANCELLING, (*failure_cells(failure), *payload_cells(result), instance)
        case RequeueInstance(instance, attempt, losses):
            return _REQUEUE, (losses, instance, attempt.epoch, attempt.number)
        case RetryInstance(instance, attempt, retried, not_before, failure):
            cells = (retried, not_before, *failure_cells(failure))
            return _RETRY, (*cells, instance, attempt.epoch, attempt.number)
        case FinishInstance():
            return _finish_statement(change)
        case MarkPaused(instance, paused):
            return _PAUSE if paused else _RESUME, (instance,)
        case PutNode(node):
            information = None if node.information is None else msgspec.msgpack.encode(node.information)
            cells = (node.id, node.host, node.port, node.fingerprint, node.slots, information)
            return _PUT_NODE, (*cells, node.seen, node.deleted)
        case PutPackage(description):
            encoded = msgspec.msgpack.encode(description)
            return _PUT_PACKAGE, (description.package, description.version, description.described, encoded)
        case _:
            assert_never(change)


def _finish_statement(change: FinishInstance) -> tuple[str, Cells]:
    if not change.status.is_final:
        raise ValueError(f"{change.status.name} is not final")
    cells = (
        *(int(change.status), change.at),
        *payload_cells(change.result),
        *failure_cells(change.failure),
        change.instance,
    )
    if change.attempt is None:
        return _FINISH_QUEUED, cells
    return _FINISH_ATTEMPT, (*cells, change.attempt.epoch, change.attempt.number)
