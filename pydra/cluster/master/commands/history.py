# SPDX-License-Identifier: MIT
"""What ran, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable

from pydra.cluster.interfaces import Store
from pydra.cluster.master.commands.instances import InstanceCommands
from pydra.cluster.master.commands.objects import JSON, instance_object, unit_object, units_object
from pydra.cluster.master.event_log import EventLog
from pydra.cluster.master.logs.archive import Choice
from pydra.cluster.master.logs.task_logs import TaskLogs
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.master.units.tally import UnitsView
from pydra.errors import InvalidParameters, NotFound
from pydra.model.ids import InstanceId, TaskKey
from pydra.model.instance import INLINE_LIMIT
from pydra.model.status import Status
from pydra.model.unit import INDEX_LIMIT, UnitPlace


class HistoryCommands:
    """Past instances and the lines of all."""

    def __init__(
        self,
        store: Store,
        instances: InstanceCommands,
        library: PackageLibrary,
        task_logs: TaskLogs,
        events: EventLog,
        seconds: Callable[[], float],
        log_rule: str,
    ) -> None:
        self._store = store
        self._instances = instances
        self._library = library
        self._task_logs = task_logs
        self._events = events
        self._seconds = seconds
        self._log_rule = log_rule

    async def task_history(self, key: str, page: int = 1) -> JSON:
        """Ten instances of a task, newest first; a page out of range is clipped."""
        found = await self._store.history(TaskKey(key), page)
        return {
            "prev": found.page - 1 if found.page > 1 else None,
            "next": found.page + 1 if found.page < found.pages else None,
            "page": found.page,
            "pages": found.pages,
            "instances": [instance_object(instance) for instance in found.instances],
        }

    async def task_history_detail(self, task_id: int, workunits: bool = True) -> JSON | None:
        """All that is known of one instance, with its first work units if asked; null if there is none."""
        try:
            instance = await self._instances.find(task_id)
        except NotFound:
            return None
        description = await self._library.description(instance.package, instance.version, instance.task_key)
        page = await self._store.unit_page(instance.id) if workunits else []
        return {
            "details": instance_object(instance, None, await self._instances.units(instance), INLINE_LIMIT),
            "name": instance.task_key,
            "description": description,
            "workunits": [unit_object(unit) for unit in page],
        }

    async def task_units(
        self,
        task_id: int,
        branch: str | None = None,
        after: str | None = None,
        limit: int = 100,
        state: str | None = None,
    ) -> JSON:
        """
        The work units of an instance that ended, or that a client submitted, by branch and index.

        ``branch`` and ``state`` (complete, failed, queued) choose. A page begins after the unit of that name
        (``Sub:7``); ``next`` is what to begin the next one after, or null. A result is shown if it is small,
        and of a traceback the last 4 KiB; a page of one unit has all of it.
        The first page has ``units``: how many there are in all, those that wait or run in the cluster too.
        """
        instance = await self._instances.find(task_id)
        place, status = _place(after), _unit_status(state)
        found = await self._store.unit_page(instance.id, branch, place, limit + 1, status)
        page = found[:limit]
        units = None
        if place is None:
            units = await self._instances.units(instance) or UnitsView(0, 0, 0, 0)
        return {
            "workunits": [unit_object(unit, is_alone=limit == 1) for unit in page],
            "next": f"{page[-1].branch}:{page[-1].index}" if len(found) > limit else None,
            **units_object(units),
        }

    async def task_log(self, task_id: int, subtask: str | None = None, workunit_id: object = None) -> str:
        """
        What an instance, one of its subtasks or one work unit wrote, by time, as text: the latest 4 MiB.

        Of a subtask or unit that it does not have, nothing. If the log was removed, the text says so.
        """
        await self._instances.find(task_id)
        instance, choice = InstanceId(task_id), _choice(subtask, workunit_id)
        if choice is None:
            return ""
        text = await self._task_logs.text(instance, choice)
        return text or (f"{self._removed}\n" if await self._task_logs.was_removed(instance) else "")

    async def task_lines(
        self,
        task_id: int,
        after: int = 0,
        wait: float = 0.0,
        subtask: str | None = None,
        workunit_id: object = None,
    ) -> JSON:
        """
        Lines from a position on, by time, as ``[time, level, stream, text]``, and the position after them.

        Without any, it answers when some came, when the instance ended, or after ``wait`` seconds. ``more``:
        there are further lines now. ``units``: the work unit of each line, or null if all are of the root.
        ``removed``: a sentence, if lines were removed.
        """
        deadline = self._seconds() + wait
        choice = _choice(subtask, workunit_id) or Choice("", -1)
        while True:
            instance = await self._instances.find(task_id)
            # Asked before the lines are read, so that none can come between.
            is_final = instance.status.is_final and self._task_logs.is_complete(instance.id)
            page = await self._task_logs.read(instance.id, after, choice)
            left = deadline - self._seconds()
            if page.lines or page.has_more or is_final or left <= 0:
                return {
                    "lines": [[line.time, line.level, line.stream, line.text] for line in page.lines],
                    "units": page.units if any(page.units) else None,
                    "next": page.next,
                    "more": page.has_more,
                    "final": is_final,
                    "removed": self._removed if page.was_removed else None,
                }
            after = page.next
            await self._events.news(instance.id, min(left, 1.0))

    @property
    def _removed(self) -> str:
        return f"Lines of this instance were removed: {self._log_rule}."


def _place(unit: str | None) -> UnitPlace | None:
    """The place of a unit by its name; `InvalidParameters` if that is none."""
    if unit is None:
        return None
    branch, colon, index = unit.rpartition(":")
    is_number = index.isascii() and index.isdecimal() and len(index) < 20
    if not colon or not is_number or int(index) > INDEX_LIMIT:
        raise InvalidParameters(errors={"after": ["a work unit is named like Sub:7."]})
    return UnitPlace(branch, int(index))


def _unit_status(state: str | None) -> Status | None:
    if state is None:
        return None
    found = {status.name.lower(): status for status in (Status.COMPLETE, Status.FAILED, Status.QUEUED)}
    if state not in found:
        raise InvalidParameters(errors={"state": [f"it is one of {', '.join(found)}."]})
    return found[state]


def _choice(subtask: str | None, workunit_id: object) -> Choice | None:
    """The work units that a caller means; None if there can be none."""
    if workunit_id is None:
        return Choice(subtask)
    if isinstance(workunit_id, str) and workunit_id.isdecimal() and len(workunit_id) < 20:
        workunit_id = int(workunit_id)
    if isinstance(workunit_id, bool) or not isinstance(workunit_id, int):
        return None
    return Choice(subtask, workunit_id)
