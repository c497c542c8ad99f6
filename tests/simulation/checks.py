# SPDX-License-Identifier: MIT
"""
What must hold: at every moment, and when all is over.

P1: what was answered with an id is there. P2: a result is recorded once, and what is final does not change.
P4: a result is that of the recorded attempt. P5: one request key, one instance. P6: when faults stop, all
becomes final. P10: no result after a cancel that was answered. ``watch`` has the rules of what is sent.
"""

from __future__ import annotations

from hashlib import sha256

from pydra.cluster.scheduler import invariants
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.nodes import Standing
from pydra.errors import TaskLost, WireError
from pydra.model.changes import Change, InsertUnits, RecordUnits
from pydra.model.ids import InstanceId
from pydra.model.instance import Instance, Payload
from pydra.model.status import Status
from pydra.model.unit import OUTSTANDING_LIMIT, SESSION_TASK, UnitRow
from tests.simulation.cluster import SimulatedCluster, SimulatedNode
from tests.simulation.plan import LOSSES
from tests.simulation.works import STEP

NODES_EVERY = 16
"""Things that happen, between two looks into the nodes."""

DELAYS = frozenset({"clog", "one_way", "freeze_node", "half_open"})
"""Faults by which messages are late."""

MOST_EVENTS = 30_000
"""More than happen in any run in which all is well, by far."""

UNCOMMITTED = frozenset({"lose_commit", "kill_master_at", "usurp"})
"""Faults by which what a master was committing may not be made."""

BLAMES = ("worker_died", "limit", "unavailable", "workers_unavailable")
"""Codes of units that failed because their workers were lost."""


class Broken(AssertionError):
    """A promise was broken."""


class Checks:
    """Looks at a cluster from outside and inside, and remembers what was final."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._finals: dict[InstanceId, Instance] = {}
        self._rows: dict[tuple[InstanceId, str, int], UnitRow] = {}
        self._looked_at = 0
        self._turn = 0
        self._feeds = (0, 0)
        faults = cluster.plan.faults
        self._is_blame_exact = not any(loss in faults for loss in LOSSES) and cluster.plan.is_gentle

    def at_every_moment(self) -> None:
        """After each thing that happened."""
        cluster = self._cluster
        if cluster.master.fatal:
            raise Broken(f"the master stopped: {cluster.master.fatal[0]}")
        if cluster.trail.count > MOST_EVENTS:
            raise Broken(f"{MOST_EVENTS} things happened, and there is no end to it")
        fresh = cluster.store.committed[self._looked_at :]
        if fresh:
            self._looked_at += len(fresh)
            for change in fresh:
                self._check_change(change)
        feeds = (cluster.store.epoch, cluster.master.feeds)
        if feeds != self._feeds and cluster.master.feeds:
            self._feeds = feeds
            try:
                invariants.check(cluster.master.scheduler.state)
            except AssertionError as fault:
                raise Broken(f"the scheduler's tables: {fault}") from None
            self._check_leases()
        self._turn += 1
        if self._turn % NODES_EVERY == 0:
            for number, node in cluster.nodes.items():
                self._check_node(number, node)
            self._check_counts()
        if cluster.faults:
            raise Broken(cluster.faults[0])

    def _check_leases(self) -> None:
        """A lease is renewed by its holder alone: at its begin, by heartbeats and hellos that name it."""
        master = self._cluster.master
        state = master.scheduler.state
        for held in (*state.assigned.values(), *state.hired.values()):
            told = master.watch.leases.latest(held.node, held.attempt)
            if held.named > told + 1e-6:
                raise Broken(
                    f"attempt {held.attempt} was named at {told:.3f}, but counts as at {held.named:.3f}"
                )

        self._check_limits()

    def _check_counts(self) -> None:
        """No more units are shown than the store has."""
        dispatcher = self._cluster.master.dispatcher
        for instance in dispatcher.live:
            shown = dispatcher.units.view(instance)
            stored = self._cluster.store._units.counts(instance)
            if shown is not None and shown.complete > stored.complete:
                raise Broken(f"instance {instance} shows {shown}, and the store has {stored}")

    def _check_limits(self) -> None:
        """What runs has no more of its time limit than is left, whichever master it began under."""
        cluster, state = self._cluster, self._cluster.master.scheduler.state
        for instance, assigned in state.assigned.items():
            began = cluster.diary.began.get(str(assigned.attempt))
            due = state.deadlines.get((DueKind.LIMIT, instance))
            is_ready = state.nodes[assigned.node].standing is Standing.READY
            runs = assigned.attempt in cluster.nodes[assigned.node].units.running()
            is_sure = is_ready and runs and instance not in cluster.paused
            if began is not None and due is not None and is_sure:
                over_s = due - began - assigned.wish.options.time_limit
                # What a node tells of it may be late by as much as a link lasts without an answer.
                if over_s > (10.5 if DELAYS & cluster.plan.faults.keys() else 1.0):
                    raise Broken(f"instance {instance} may run for {over_s:.1f} s longer than its limit")

    def _check_node(self, number: int, node: SimulatedNode) -> None:
        """No worker without an attempt, and no asker beyond its bounds."""
        named = {str(attempt) for attempt in (*node.units.running(), *node.hired.attempts())}
        for worker in node.workers.living():
            if worker.name and worker.name not in named:
                raise Broken(f"node {number} has a worker {worker.name}, which nobody knows")
        for attempt, count in node.told.items():
            if not node.has_kept(attempt, count):
                raise Broken(f"node {number} forgot what it told of {attempt}, which nobody recorded")
        for attempt, asker in node.askers._askers.items():
            held = sum(len(branch.args) for branch in asker._branches.values())
            if asker._count != held or held > OUTSTANDING_LIMIT:
                raise Broken(f"asker {attempt} waits for {held} units, and counts {asker._count}")

    # The store.

    def _check_change(self, change: Change) -> None:
        if isinstance(change, RecordUnits):
            self._check_units(change)
        elif not isinstance(change, InsertUnits) and hasattr(change, "instance"):
            number = change.instance
            number = number.id if isinstance(number, Instance) else number
            instance = self._cluster.store._instances.get(number)
            if instance is not None:
                self._check_instance(instance)

    def _check_instance(self, instance: Instance) -> None:
        before = self._finals.get(instance.id)
        if before is not None and before != instance:
            raise Broken(f"instance {instance.id} was final and changed: {before} to {instance}")
        if before is None and instance.status.is_final:
            self._finals[instance.id] = instance
            self._check_final(instance)

    def _check_final(self, instance: Instance) -> None:
        if instance.id in self._cluster.cancelled and instance.status is not Status.CANCELLED:
            raise Broken(f"instance {instance.id} was cancelled and ended {instance.status.name}")
        if instance.failure is not None and instance.failure.code == WireError.code:
            raise Broken(
                f"instance {instance.id} failed, and nobody broke a rule: {instance.failure.message}"
            )
        if instance.status is Status.COMPLETE and instance.task_key != SESSION_TASK:
            given = self._cluster.diary.results.get(str(instance.attempt))
            if not _is_same(instance.result, given):
                raise Broken(
                    f"instance {instance.id} has another result than attempt {instance.attempt} gave"
                )
            self._check_complete(instance)

    def _check_complete(self, instance: Instance) -> None:
        """It had the results of all its units."""
        count = max(0, self._cluster.works.work(instance.id).units)
        rows = self._cluster.store._units.some(instance.id, "Sub", range(count))
        ended = sum(row.status.is_final for row in rows)
        if ended != count:
            raise Broken(f"instance {instance.id} is complete with {ended} of {count} units")

    def _check_units(self, change: RecordUnits) -> None:
        for row in self._cluster.store._units.some(change.instance, change.branch, change.indexes):
            key = (row.instance, row.branch, row.index)
            before = self._rows.get(key)
            is_lost = before is not None and before.failure is not None
            is_lost = is_lost and before.failure.code == TaskLost.code
            if before is not None and (before.status is Status.COMPLETE or is_lost) and before != row:
                raise Broken(f"{key} was recorded and changed: {before} to {row}")
            if before != row:
                self._rows[key] = row
                self._check_row(row)

    def _check_row(self, row: UnitRow) -> None:
        cluster = self._cluster
        path = f"{row.instance}/{row.branch}:{row.index}"
        diary = cluster.diary
        given = diary.given.get((str(row.attempt), row.branch, row.index), b"nothing")
        if row.status is Status.COMPLETE:
            if not _is_same(row.result, given):
                raise Broken(f"{path} has another result than batch {row.attempt} gave, which is {given!r}")
        elif row.failure is not None and row.failure.code == WireError.code:
            raise Broken(f"{path} failed, and nobody broke a rule: {row.failure.message}")
        elif row.failure is not None and row.failure.code == TaskLost.code:
            is_live = cluster.store._instances[row.instance].status is not Status.CANCELLING
            if is_live and not cluster.works.guarantee(row.instance, row.branch):
                raise Broken(f"{path} is lost for good, and nothing was promised of it")
        elif row.failure is not None and row.failure.code in BLAMES:
            fate = cluster.works.fate(row.instance, row.branch, row.index)
            is_nested = cluster.works.is_nested(row.instance, row.branch)
            may_die = fate.kills or fate.hangs or is_nested or not self._is_blame_exact
            if not may_die:
                raise Broken(f"{path} failed, and did not kill its worker: {row.failure.message}")
        elif row.status is Status.FAILED and given is not None:
            raise Broken(f"{path} failed, and batch {row.attempt} gave {given!r}")

    # The end.

    def when_all_is_over(self) -> None:
        """Faults stopped long ago."""
        cluster = self._cluster
        instances = cluster.store._instances
        for key, number in cluster.answers.items():
            if number not in instances or instances[number].request_key != key:
                raise Broken(f"instance {number} was answered, and is not there")
        left = [one for one in instances.values() if not one.status.is_final]
        if left:
            shown = ", ".join(f"{one.id} {one.status.name}" for one in left[:5])
            raise Broken(f"{len(left)} instances did not end: {shown}")
        if cluster.master.dispatcher.live:
            raise Broken(f"the dispatcher still holds {list(cluster.master.dispatcher.live)}")
        for number, node in cluster.nodes.items():
            self._check_rest(number, node)
        for fault in cluster.diary.lines.faults(cluster.directory / "master" / "logs"):
            raise Broken(fault)
        for client in cluster.clients:
            if client.ended is None:
                raise Broken(f"{client.name} waits for {sorted(client.waiting)[:5]}")
        if cluster.plan.is_gentle:
            self._check_repeats()

    def _check_rest(self, number: int, node: SimulatedNode) -> None:
        left = {
            "runs": node.units.running(),
            "has hired": node.hired.attempts(),
            "holds outcomes of": node.outbox.attempts(),
            "holds batches": node.outbox.batches(),
            "holds lost workers": node.outbox.lost_workers(),
            "has workers": [each.name for each in node.workers.living()],
            "holds lines of": node.logs.held(),
            "has askers": list(node.askers._askers),
        }
        for what, those in left.items():
            if those:
                raise Broken(f"node {number} still {what} {those[:5]}")

    def _check_repeats(self) -> None:
        """Nothing was lost that a node had: what did not fail by itself ran once."""
        diary, works = self._cluster.diary, self._cluster.works
        for number, instance in self._cluster.store._instances.items():
            begun, may_begin = diary.roots[number], 1 + instance.retried
            if begun > may_begin and not works.has_kills(number):
                raise Broken(f"instance {number} began {begun} times, and its worker was never lost")
        for key, begun in diary.begun.items():
            instance, branch, _ = key
            if branch == STEP and UNCOMMITTED.intersection(self._cluster.plan.faults):
                continue  # nothing is kept of what ran before the begin of the session was stored
            has_kills = self._cluster.plan.poison if branch == STEP else works.has_kills(instance)
            stored = self._cluster.store._instances[InstanceId(instance)]
            may_run = 1 + diary.failed[key]
            if begun > may_run and not has_kills and not stored.retried:
                raise Broken(
                    f"{key} ran {begun} times, and nothing was lost that would need more than {may_run}"
                )


def _is_same(stored: Payload | None, given: bytes | None) -> bool:
    if stored is None or given is None:
        return False
    return stored.inline == given if not stored.sha256 else stored.sha256 == sha256(given).hexdigest()
