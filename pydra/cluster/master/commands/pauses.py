# SPDX-License-Identifier: MIT
"""Letting an instance pause, and go on."""

from __future__ import annotations

from pydra.cluster.master.commands.instances import InstanceCommands
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested
from pydra.errors import Conflict
from pydra.model.ids import InstanceId
from pydra.model.status import Status


class PauseCommands:
    """What waits can be paused, and what gets its work done in units."""

    def __init__(self, instances: InstanceCommands, dispatcher: Dispatcher, scheduler: Scheduler) -> None:
        self._instances = instances
        self._dispatcher = dispatcher
        self._scheduler = scheduler

    async def pause_task(self, task_id: int) -> bool:
        """
        Give out no further work of an instance; true once that is stored, and if it was paused before.

        Its running units end, its main worker keeps its memory. `Conflict` says in words why it cannot pause.
        """
        instance = (await self._instances.find(task_id)).id
        if not self._scheduler.may_pause(instance):
            raise Conflict(f"Task instance {instance} cannot be paused: it {await self._why_not(instance)}.")
        await self._dispatcher.ask(PauseRequested(instance))
        return True

    async def resume_task(self, task_id: int) -> bool:
        """Let a paused instance go on; `Conflict` if it is not paused."""
        instance = (await self._instances.find(task_id)).id
        status = await self._status(instance)
        if status is not Status.PAUSED:
            raise Conflict(f"Task instance {instance} is not paused: it {_NOW[status]}.")
        await self._dispatcher.ask(ResumeRequested(instance))
        return True

    async def _status(self, instance: InstanceId) -> Status:
        """Where it stands: with the scheduler, or at its end."""
        status = self._scheduler.status(instance)
        return status if status is not Status.UNKNOWN else (await self._instances.find(instance)).status

    async def _why_not(self, instance: InstanceId) -> str:
        status = await self._status(instance)
        if status is Status.RUNNING:
            return (
                "runs, and has asked for no units yet; what waits can be paused, and what is done in units."
                " If it is a parallel task, try again when it has begun with them"
            )
        return _NOW[status]


_NOW = {
    Status.UNKNOWN: "has ended",
    Status.QUEUED: "waits",
    Status.RUNNING: "runs",
    Status.CANCELLING: "is being cancelled",
    Status.PAUSED: "is paused",
    Status.COMPLETE: "is complete",
    Status.FAILED: "has failed",
    Status.CANCELLED: "was cancelled",
}
