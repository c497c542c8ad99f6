# SPDX-License-Identifier: MIT
"""
What must hold: at every moment, and when all is over.

P1: what was answered with an id is there. P2: what is final does not change. P4: the result is that of the
recorded attempt. P6: when faults stop, all becomes final. P10: no result after a cancel that was answered.
"""

from __future__ import annotations

from pydra.cluster.scheduler import invariants
from pydra.model.ids import InstanceId
from pydra.model.instance import Instance
from pydra.model.status import Status
from tests.simulation.cluster import SimulatedCluster


class Broken(AssertionError):
    """A promise was broken."""


class Checks:
    """Looks at a cluster from outside and inside, and remembers what was final."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._finals: dict[InstanceId, Instance] = {}
        self._looked_at = 0

    def at_every_moment(self) -> None:
        """After each thing that happened."""
        cluster = self._cluster
        if cluster.faults:
            raise Broken(cluster.faults[0])
        if cluster.master.fatal:
            raise Broken(f"the master stopped: {cluster.master.fatal[0]}")
        if cluster.store.committed[self._looked_at :]:
            self._looked_at = len(cluster.store.committed)
            self._check_store()
        if cluster.master.scheduler.state.now >= 0:
            try:
                invariants.check(cluster.master.scheduler.state)
            except AssertionError as fault:
                raise Broken(f"the scheduler's tables: {fault}") from None
            self._check_leases()

    def _check_leases(self) -> None:
        """A lease is renewed by its holder alone: at its dispatch, by heartbeats and hellos that name it."""
        master = self._cluster.master
        for attempt, assigned in master.scheduler.state.attempts.items():
            told = max(
                master.begun,
                master.leases.named.get((assigned.node, attempt), 0.0),
                self._cluster.dispatched.get(attempt, 0.0),
            )
            if assigned.named > told + 1e-6:
                raise Broken(
                    f"attempt {attempt} was named at {told:.3f}, but counts as at {assigned.named:.3f}"
                )

    def _check_store(self) -> None:
        cluster = self._cluster
        instances = cluster.store._instances
        for number in cluster.accepted:
            if number not in instances:
                raise Broken(f"instance {number} was answered, and is not there")
        for instance in instances.values():
            before = self._finals.get(instance.id)
            if before is not None:
                if before != instance:
                    raise Broken(f"instance {instance.id} was final and changed: {before} to {instance}")
                continue
            if instance.status.is_final:
                self._finals[instance.id] = instance
                self._check_final(instance)

    def _check_final(self, instance: Instance) -> None:
        if instance.id in self._cluster.cancelled and instance.status is not Status.CANCELLED:
            raise Broken(f"instance {instance.id} was cancelled and ended {instance.status.name}")
        if instance.status is Status.COMPLETE:
            given = self._cluster.diary.results.get(str(instance.attempt))
            if instance.result is None or instance.result.inline != given:
                raise Broken(
                    f"instance {instance.id} has another result than attempt {instance.attempt} gave"
                )

    def when_all_is_over(self) -> None:
        """Faults stopped long ago."""
        cluster = self._cluster
        left = [one for one in cluster.store._instances.values() if not one.status.is_final]
        if left:
            shown = ", ".join(f"{one.id} {one.status.name}" for one in left[:5])
            raise Broken(f"{len(left)} instances did not end: {shown}")
        if cluster.master.dispatcher.live:
            raise Broken(f"the dispatcher still holds {list(cluster.master.dispatcher.live)}")
        for number, node in cluster.nodes.items():
            if node.units.running():
                raise Broken(f"node {number} still runs {node.units.running()}")
            if node.outbox.attempts():
                raise Broken(f"node {number} still holds outcomes of {node.outbox.attempts()}")
            if node.workers.living():
                raise Broken(
                    f"node {number} still has workers: {[each.name for each in node.workers.living()]}"
                )
