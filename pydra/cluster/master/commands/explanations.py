# SPDX-License-Identifier: MIT
"""Why an instance waits, and what came of it otherwise."""

from __future__ import annotations

from collections.abc import Callable

from pydra.cluster.master.commands.instances import InstanceCommands
from pydra.cluster.master.commands.objects import JSON
from pydra.cluster.master.commands.options import options_object
from pydra.cluster.master.roster import Roster
from pydra.cluster.scheduler.explaining import Explanation
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.views import NodeRefusal
from pydra.model.instance import Instance
from pydra.model.status import Status


class ExplanationCommands:
    """Joins what the scheduler knows of an instance with what the store and the roster do."""

    def __init__(
        self,
        instances: InstanceCommands,
        scheduler: Scheduler,
        roster: Roster,
        wall_clock: Callable[[], float],
    ) -> None:
        self._instances = instances
        self._scheduler = scheduler
        self._roster = roster
        self._wall_clock = wall_clock

    async def explain(self, task_id: int) -> JSON:
        """
        Where an instance stands and why it waits: ``text`` in words, and what there is behind it.

        ``ahead``: those before it that could take its slot. ``dependencies``: what it depends on. ``nodes``:
        each node and why it was not taken, for the instance itself or its waiting ``units``. ``retry_in``:
        seconds.
        """
        instance = await self._instances.find(task_id)
        found = self._scheduler.explain(instance.id)
        status = instance.status if found.status is Status.UNKNOWN else found.status
        retry_in = self._retry_in(instance)
        return {
            "id": instance.id,
            "task_key": instance.task_key,
            "status": status.api_code,
            "state": status.name.lower(),
            "final": status.is_final,
            "text": self._text(instance, found, retry_in),
            "ahead": found.ahead,
            "retry_in": retry_in,
            "options": options_object(instance.options),
            "dependencies": [
                {
                    "kind": each.kind,
                    "id": each.instance,
                    "state": each.status.name.lower(),
                    "met": each.is_met,
                }
                for each in found.needed
            ],
            "nodes": [self._node(refusal) for refusal in found.refusals],
            "units": None
            if found.units is None
            else {
                "queued": found.units.queued,
                "running": found.units.running,
                "workers": found.units.workers,
            },
        }

    def _text(self, instance: Instance, found: Explanation, retry_in: float | None) -> str:
        failure = instance.failure
        if found.status is Status.UNKNOWN and instance.status.is_final:
            why = f": {failure.message}" if failure is not None and failure.message else "."
            return f"{_ENDED[instance.status]}{why}"
        if found.status is Status.UNKNOWN:
            return "It has ended; what came of it is being stored."
        if retry_in is not None and failure is not None:
            return f"{found.text} It begins in {retry_in:.0f} s. The failure was: {failure.message}"
        return found.text

    def _retry_in(self, instance: Instance) -> float | None:
        if instance.status is not Status.QUEUED or instance.not_before is None:
            return None
        return round(max(0.0, instance.not_before - self._wall_clock()), 3)

    def _node(self, refusal: NodeRefusal) -> JSON:
        node = self._roster.node(refusal.node)
        is_removed = node is not None and node.deleted
        return {
            "id": refusal.node,
            "host": node.host if node is not None else None,
            "port": node.port if node is not None else None,
            "reason": "was removed from the cluster" if is_removed else refusal.reason,
        }


_ENDED = {
    Status.COMPLETE: "It is complete",
    Status.FAILED: "It failed",
    Status.CANCELLED: "It was cancelled",
}
