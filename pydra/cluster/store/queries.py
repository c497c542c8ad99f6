# SPDX-License-Identifier: MIT
"""
What may be asked of the store.

Django has to be configured before this is imported, since it imports the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from django.db import connections
from django.db.models import Max

from pydra.cluster.interfaces import HistoryPage
from pydra.cluster.store.models import InstanceRow, NodeRow, PackageRow
from pydra.cluster.store.rows import INSTANCE_COLUMNS, instance_value
from pydra.cluster.store.unit_queries import UnitQueries
from pydra.errors import StoreError
from pydra.model.ids import InstanceId, NodeId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Ended, Instance
from pydra.model.node import Node, NodeInformation
from pydra.model.package import PackageDescription
from pydra.model.status import Status

T = TypeVar("T")

PAGE = 10
RECENT_LIMIT = 1000
AT_ONCE = 500
"""Values that are bound to one statement, at most."""

# From one task key to the next in the index: it costs a few steps for each task, not for each instance.
_LAST_RUNS = """
WITH RECURSIVE keys (task_key) AS (
    SELECT MIN(task_key) FROM pydra_instance WHERE status = 3
    UNION ALL
    SELECT (SELECT MIN(i.task_key) FROM pydra_instance i WHERE i.status = 3 AND i.task_key > keys.task_key)
    FROM keys WHERE keys.task_key IS NOT NULL
)
SELECT task_key, (
    SELECT MAX(i.completed) FROM pydra_instance i WHERE i.status = 3 AND i.task_key = keys.task_key
) FROM keys WHERE task_key IS NOT NULL
"""


class Queries(UnitQueries):
    """
    The questions; each runs in a thread that has a connection, and answers in values of ``pydra.model``.
    """

    def instance(self, number: InstanceId) -> Instance | None:
        """The instance as it was committed last, or None."""
        row = InstanceRow.objects.filter(id=number).values_list(*INSTANCE_COLUMNS).first()
        return None if row is None else instance_value(row)

    def endings(self, instances: Sequence[InstanceId]) -> dict[InstanceId, Ended]:
        """How those of these instances ended that are final."""
        final = [int(status) for status in Status if status.is_final]
        found: dict[InstanceId, Ended] = {}
        for start in range(0, len(instances), AT_ONCE):
            some = instances[start : start + AT_ONCE]
            rows = InstanceRow.objects.filter(id__in=some, status__in=final)
            for number, status, node in rows.values_list("id", "status", "node"):
                found[InstanceId(number)] = Ended(Status(status), None if node is None else NodeId(node))
        return found

    def unfinished(self) -> list[Instance]:
        """All instances that are not final, by id."""
        statuses = [int(status) for status in Status if not status.is_final]
        rows = InstanceRow.objects.filter(status__in=statuses).order_by("id")
        return [instance_value(row) for row in rows.values_list(*INSTANCE_COLUMNS).iterator()]

    def history(self, task_key: TaskKey, page: int) -> HistoryPage:
        """Ten instances of a task, newest first; a page out of range is clipped."""
        rows = InstanceRow.objects.filter(task_key=task_key).order_by("-id")
        pages = max(1, -(-rows.count() // PAGE))
        page = min(max(1, page), pages)
        shown = rows.values_list(*INSTANCE_COLUMNS)[(page - 1) * PAGE : page * PAGE]
        return HistoryPage(tuple(instance_value(row) for row in shown), page, pages)

    def recent(self, limit: int) -> list[Instance]:
        """The newest instances of all tasks, at most a thousand, newest first."""
        rows = InstanceRow.objects.order_by("-id").values_list(*INSTANCE_COLUMNS)
        return [instance_value(row) for row in rows[: min(max(0, limit), RECENT_LIMIT)]]

    def last_runs(self) -> dict[TaskKey, float]:
        """When the latest complete instance of each task ended."""
        with connections["default"].cursor() as cursor:
            cursor.execute(_LAST_RUNS)
            return {TaskKey(task_key): completed for task_key, completed in cursor.fetchall()}

    def highest_instance(self) -> InstanceId:
        """The highest id that an instance has; 0 if there is none. Instances are never removed."""
        return InstanceId(InstanceRow.objects.aggregate(highest=Max("id"))["highest"] or 0)

    def blobs(self) -> set[str]:
        """The names of the payloads, of all instances and units, that are not inline."""
        return self.unit_blobs() | {
            name
            for column in ("args_sha256", "result_sha256")
            for name in InstanceRow.objects.exclude(**{column: ""}).values_list(column, flat=True).distinct()
            if name is not None  # an instance without a result
        }

    def nodes(self) -> list[Node]:
        """All node records, deleted ones too, by id."""
        return [_node(row) for row in NodeRow.objects.order_by("id")]

    def package(self, name: PackageName, version: PackageVersion) -> PackageDescription | None:
        """What the describe run of this version told, or None."""
        rows = PackageRow.objects.filter(package=name, version=version)
        description = rows.values_list("description", flat=True).first()
        return None if description is None else _decode(bytes(description), PackageDescription)


def _node(row: NodeRow) -> Node:
    information = None
    if row.information is not None:
        information = _decode(bytes(row.information), NodeInformation)
    return Node(
        id=NodeId(row.id),
        host=row.host,
        port=row.port,
        fingerprint=row.fingerprint,
        slots=row.slots,
        information=information,
        seen=row.seen,
        deleted=row.deleted,
    )


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise StoreError(f"The store holds a {kind.__name__} that cannot be read: {error}.") from error
