# SPDX-License-Identifier: MIT
"""What runs, what waits, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable

from pydra.cluster.interfaces import InThread, Store
from pydra.cluster.master.commands.objects import (
    JSON,
    Shown,
    instance_object,
    outcome_object,
    percent,
    shown,
    units_object,
)
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.event_log import EventLog
from pydra.cluster.master.payloads.node_blobs import blob_pieces
from pydra.cluster.master.units.tally import UnitsView
from pydra.cluster.scheduler.inputs import CancelRequested
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.store.blobs import Blobs
from pydra.errors import NotFound
from pydra.model.ids import InstanceId
from pydra.model.instance import Instance
from pydra.model.status import Status
from pydra.model.unit import UnitCounts

JSON_LIMIT = 1024 * 1024
"""Bytes of a packed result that is shown as JSON."""


class InstanceCommands:
    """Instances that live in the dispatcher or rest in the store."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        scheduler: Scheduler,
        store: Store,
        events: EventLog,
        blobs: Blobs,
        in_thread: InThread,
        seconds: Callable[[], float],
    ) -> None:
        self._dispatcher = dispatcher
        self._scheduler = scheduler
        self._store = store
        self._events = events
        self._blobs = blobs
        self._in_thread = in_thread
        self._seconds = seconds

    async def find(self, task_id: int) -> Instance:
        """An instance; `NotFound` if the id was never given."""
        known = InstanceId(task_id)
        instance = self._dispatcher.live.get(known) or self._dispatcher.ended.get(known)
        if instance is None:
            instance = await self._store.instance(InstanceId(task_id))
        if instance is None:
            raise NotFound(f"There is no task instance {task_id}.")
        return instance

    async def cancel_task(self, task_id: int) -> bool:
        """Cancel; true if the instance was known and is, or soon will be, cancelled."""
        instance = InstanceId(task_id)
        if instance in self._dispatcher.live:
            await self._dispatcher.ask(CancelRequested(instance))
            if instance in self._dispatcher.live:
                return True
            # It was final all at once: cancelled while it waited, or it ended before this was asked.
        stored = await self._store.instance(instance)
        return stored is not None and stored.status is Status.CANCELLED

    async def list_queue(self, limit: int = 500, skip: int = 0) -> list[JSON]:
        """
        Queued, running and paused ones: what is with a node, what waits, in its order, and what would.

        At most ``limit`` of them, after the first ``skip``.
        """
        return [self._object(each) for each in self._some(limit, skip)]

    async def list_running(self) -> list[JSON]:
        """Running instances, by id; what is to run counts as queued until that is stored."""
        live = self._dispatcher.live
        return [
            self._object(running.instance)
            for running in self._scheduler.running()
            if running.instance in live and live[running.instance].status is not Status.QUEUED
        ]

    async def list_recent(self, limit: int = 20) -> list[JSON]:
        """The newest instances of all tasks, whatever their status, newest first."""
        recent = await self._store.recent(limit)
        dispatcher = self._dispatcher
        return [
            instance_object(
                dispatcher.live.get(each.id, each),
                dispatcher.progress.get(each.id),
                dispatcher.units.view(each.id),
            )
            for each in recent
        ]

    async def task_statuses(self, limit: int = 10_000, skip: int = 0) -> JSON:
        """
        Status, and for what runs also the start (epoch seconds), progress, message and units, by instance id.

        Of those that ``list_queue`` would list.
        """
        statuses: JSON = {}
        for instance in map(self._dispatcher.live.__getitem__, self._some(limit, skip)):
            status: JSON = {"s": instance.status.api_code}
            if instance.status is not Status.QUEUED:
                progress = self._dispatcher.progress.get(instance.id)
                status["t"] = instance.started
                status["p"] = percent(instance, progress)
                if progress is not None and progress.message is not None:
                    status["m"] = progress.message
                status |= units_object(self._dispatcher.units.view(instance.id))
            statuses[str(instance.id)] = status
        return statuses

    async def task_result(self, task_id: int) -> JSON:
        """Where an instance stands, and its result if it is complete."""
        return await self._outcome(await self.find(task_id))

    async def wait_task(self, task_id: int, timeout: float = 25.0, seen: int | None = None) -> JSON:
        """
        Like ``task_result``, but answers when the instance is final, or after ``timeout`` seconds.

        With ``seen`` (from the last answer) it also answers as soon as status or progress changed since.
        """
        instance = InstanceId(task_id)
        deadline = self._seconds() + timeout
        while True:
            latest = self._events.latest(instance)
            found = await self.find(task_id)
            left = deadline - self._seconds()
            is_news = seen is not None and latest != seen
            if found.status.is_final or is_news or left <= 0:
                return await self._outcome(found)
            if self._events.latest(instance) == latest:
                await self._events.news(instance, left)

    async def _outcome(self, instance: Instance) -> JSON:
        latest = self._events.latest(instance.id)
        progress = self._dispatcher.progress.get(instance.id)
        units = await self.units(instance)
        return outcome_object(instance, progress, latest, await self._result(instance), units)

    async def units(self, instance: Instance) -> UnitsView | None:
        """How many units an instance has; of those that ended long ago the store knows it."""
        if instance.id in self._dispatcher.live or instance.id in self._dispatcher.ended:
            return self._dispatcher.units.view(instance.id)
        stored = await self._store.unit_counts(instance.id)
        if stored == UnitCounts():
            return None
        return UnitsView(stored.complete, stored.failed, 0, stored.queued)

    async def open_result(self, task_id: int) -> tuple[int, AsyncIterator[bytes]]:
        """The size of the packed result, and its bytes; `NotFound` if there is none."""
        held = (await self.find(task_id)).result
        if held is None:
            raise NotFound(f"Task instance {task_id} has no result.")
        if held.sha256:
            return held.size, blob_pieces(self._blobs, held.sha256, self._in_thread)
        return held.size, _inline(held.inline)

    async def _result(self, instance: Instance) -> Shown:
        """The JSON of the result, if it is not too large for that, and whether it is all of it."""
        result = instance.result
        if result is None:
            return Shown(None, is_whole=True)
        if not result.sha256:
            return shown(result.inline)
        if result.size > JSON_LIMIT:
            return Shown(None)
        found: Shown = await self._in_thread(self._read, result.sha256)
        return found

    def _read(self, digest: str) -> Shown:
        return shown(self._blobs.read(digest))

    def _some(self, limit: int, skip: int) -> list[InstanceId]:
        """The instances that run, then those that wait, in order: at most ``limit``, after ``skip``."""
        scheduler, end = self._scheduler, min(skip + limit, sys.maxsize)
        found = [each.instance for each in scheduler.running()]
        found += [each.instance for each in scheduler.queued(end)]
        if len(found) < end:
            found += [each.instance for each in scheduler.paused(end)]
        return [each for each in found if each in self._dispatcher.live][skip:end]

    def _object(self, instance: InstanceId) -> JSON:
        dispatcher = self._dispatcher
        return instance_object(
            dispatcher.live[instance], dispatcher.progress.get(instance), dispatcher.units.view(instance)
        )


async def _inline(data: bytes) -> AsyncIterator[bytes]:
    yield data
