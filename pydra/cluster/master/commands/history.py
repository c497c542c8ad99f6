# SPDX-License-Identifier: MIT
"""What ran, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable

from pydra.cluster.interfaces import Store
from pydra.cluster.master.commands.instances import InstanceCommands
from pydra.cluster.master.commands.objects import JSON, instance_object
from pydra.cluster.master.event_log import EventLog
from pydra.cluster.master.package_library import PackageLibrary
from pydra.cluster.master.task_logs import TaskLogs, as_text
from pydra.errors import NotFound
from pydra.model.ids import InstanceId, TaskKey
from pydra.model.instance import LogLine


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
    ) -> None:
        self._store = store
        self._instances = instances
        self._library = library
        self._task_logs = task_logs
        self._events = events
        self._seconds = seconds

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

    async def task_history_detail(self, task_id: int) -> JSON | None:
        """
        All that is known of one instance; null if there is none. A root task has no work units of its own.
        """
        try:
            instance = await self._instances.find(task_id)
        except NotFound:
            return None
        description = await self._library.description(instance.package, instance.version, instance.task_key)
        return {
            "details": instance_object(instance),
            "name": instance.task_key,
            "description": description,
            "workunits": [],
        }

    async def task_log(self, task_id: int, subtask: str | None = None, workunit_id: object = None) -> str:
        """What an instance wrote, as text; of a subtask or unit that it does not have, nothing."""
        await self._instances.find(task_id)
        if subtask is not None or workunit_id is not None:
            return ""
        lines: list[LogLine] = []
        position = 0
        while True:
            more, after = await self._task_logs.read(InstanceId(task_id), position)
            lines += more
            if not more or after == position:
                return as_text(sorted(lines, key=lambda line: line.time))
            position = after

    async def task_lines(self, task_id: int, after: int = 0, wait: float = 0.0) -> JSON:
        """
        Lines from a position on, as ``[time, level, stream, text]``, and the position after them.

        Without any, it answers when some came, when the instance ended, or after ``wait`` seconds.
        """
        deadline = self._seconds() + wait
        while True:
            instance = await self._instances.find(task_id)
            lines, position = await self._task_logs.read(instance.id, after)
            left = deadline - self._seconds()
            if lines or instance.status.is_final or left <= 0:
                return {
                    "lines": [[line.time, line.level, line.stream, line.text] for line in lines],
                    "next": position,
                    "final": instance.status.is_final,
                }
            await self._events.news(instance.id, min(left, 1.0))
