# SPDX-License-Identifier: MIT
"""What passes between scheduler, dispatcher and nodes of one master, looked at as it passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pydra.cluster.scheduler import inputs, instructions, unit_values
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.wire.messages import Recorded, RunUnit, RunUnits, ToNode, UnitResults, UnitsRecorded
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Instance
from pydra.model.options import Guarantee
from pydra.model.status import Status
from tests.simulation.disks import SlowStore
from tests.simulation.works import STEP

HELD = (Status.RUNNING, Status.CANCELLING, Status.PAUSED)

Unit = tuple[InstanceId, str, int]


class Leases:
    """Who named which attempt last: what the scheduler may know of leases, kept beside it."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._named: dict[tuple[NodeId, Attempt], float] = {}

    def take(self, now: float, given: Sequence[inputs.Input]) -> None:
        """What the scheduler is fed with."""
        for each in given:
            if isinstance(each, inputs.HeartbeatReceived):
                attempts = each.held
            elif isinstance(each, inputs.NodeReady):
                attempts = (*each.running, *each.finished, *(held.worker for held in each.workers))
                attempts += tuple(held.worker for held in each.batches)
            elif isinstance(each, unit_values.UnitsDone):
                attempts = (each.worker,)
            else:
                continue
            for attempt in attempts:
                self._named[each.node, attempt] = now

    def begin(self, node: NodeId, attempt: Attempt, now: float) -> None:
        """It was sent there."""
        self._named[node, attempt] = now

    def latest(self, node: NodeId, attempt: Attempt) -> float:
        """When it was named, begun or found in the store last."""
        return max(self._begun, self._named.get((node, attempt), 0.0))


class Watch:
    """The rules that can be seen at the scheduler's door and on the way to the nodes."""

    def __init__(
        self, store: SlowStore, scheduler: Scheduler, begun: float, tell: Callable[[str], None]
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._tell = tell
        self.leases = Leases(begun)
        self._highest = Attempt(0, 0)
        self._latest: dict[Unit, Attempt] = {}
        """The batch that each unit was given out with last."""
        self._recorded: dict[Attempt, list[tuple[int, InstanceId, str, Sequence[int]]]] = {}
        self._discarded: Counter[Attempt] = Counter()
        self._paused: set[InstanceId] = {
            each.id for each in store._instances.values() if each.status is Status.PAUSED
        }
        self._over: set[InstanceId] = {each.id for each in store._instances.values() if each.status.is_final}
        self._cancelled: set[InstanceId] = set()
        self._attempts: dict[InstanceId, Attempt] = {}

    # Out of the scheduler.

    def decided(self, now: float, wanted: Sequence[instructions.Instruction]) -> None:
        """What the scheduler wants done."""
        for each in wanted:
            match each:
                case instructions.Dispatch(instance, attempt, slot):
                    self._rises(attempt)
                    self._may_work(instance, attempt)
                    self.leases.begin(slot.node, attempt, now)
                case unit_values.HireWorker(worker, instance, slot):
                    self._rises(worker)
                    self._may_work(instance, worker)
                    self.leases.begin(slot.node, worker, now)
                case unit_values.RunUnits():
                    self._runs(each, now)
                case unit_values.RecordUnits():
                    self._records(each)
                case unit_values.DiscardUnits(batch=batch, count=count):
                    self._discarded[batch] = max(self._discarded[batch], count)
                case unit_values.Pause(instance, paused):
                    (self._paused.add if paused else self._paused.discard)(instance)
                case instructions.BeginCancelling(instance=instance):
                    self._cancelled.add(instance)
                case instructions.Finish(instance=instance):
                    if instance in self._over:
                        self._tell(f"instance {instance} ended twice")
                    self._over.add(instance)

    def _rises(self, attempt: Attempt) -> None:
        if attempt <= self._highest:
            self._tell(f"attempt {attempt} came after {self._highest}")
        self._highest = attempt

    def _may_work(self, instance: InstanceId, attempt: Attempt) -> None:
        if instance in self._over or instance in self._cancelled:
            self._tell(f"{attempt} is to work for instance {instance}, which was over or cancelled")

    def _runs(self, batch: unit_values.RunUnits, now: float) -> None:
        self._rises(batch.batch)
        self._may_work(batch.instance, batch.batch)
        if batch.instance in self._paused and "/" not in batch.branch:
            self._tell(f"batch {batch.batch} was given out, and instance {batch.instance} is paused")
        if batch.guarantee & Guarantee.EXCLUSIVE:
            self.leases.begin(batch.node, batch.worker, now)
        for index in batch.indexes:
            self._latest[batch.instance, batch.branch, index] = batch.batch

    def _records(self, recorded: unit_values.RecordUnits) -> None:
        about = (recorded.instance, recorded.branch, recorded.indexes)
        self._recorded.setdefault(recorded.batch, []).append((recorded.recorded, *about))
        for index in recorded.indexes:
            latest = self._latest.get((recorded.instance, recorded.branch, index), recorded.batch)
            if latest != recorded.batch and recorded.asker is not None:
                self._tell(f"a result of batch {recorded.batch} was taken, and {latest} has the unit")

    # On the way to a node.

    def sent(self, message: ToNode) -> None:
        """Nothing is told before it is committed."""
        match message:
            case RunUnit(attempt, instance):
                self._sent_root(attempt, instance)
            case RunUnits(batch=batch, branch=branch, indexes=indexes) if message.guarantee:
                self._sent_guarded(batch, branch, indexes)
            case Recorded(attempts):
                held = {each.attempt for each in self._store._instances.values() if each.status in HELD}
                if held.intersection(attempts):
                    self._tell(f"{attempts} were acknowledged before they were stored")
            case UnitsRecorded(batch, count):
                if count > self._discarded[batch]:
                    for until, instance, branch, indexes in self._recorded.get(batch, ()):
                        if until <= count:
                            self._are_stored(instance, branch, indexes, f"{batch} was acknowledged")
            case UnitResults():
                self._sent_results(message)

    def _sent_root(self, attempt: Attempt, instance: InstanceId) -> None:
        stored = self._store._instances.get(instance)
        if stored is None or stored.attempt != attempt or stored.status not in HELD:
            self._tell(f"{attempt} was sent before it was stored")
        before = self._attempts.get(instance)
        if before is not None and attempt <= before:
            self._tell(f"instance {instance}: attempt {attempt} after {before}")
        self._attempts[instance] = attempt
        if stored is not None:
            self._is_met(stored)

    def _is_met(self, instance: Instance) -> None:
        """What it depends on has ended, and what it follows ran on its node."""
        stored = self._store._instances
        for dependency in (instance.options.after, instance.options.follow):
            if dependency is None:
                continue
            others = [stored[other] for other in dependency.instances]
            ended = [other for other in others if other.status.is_final]
            nodes = {other.node for other in ended}
            if not ended or (dependency.all and len(ended) < len(others)):
                self._tell(f"instance {instance.id} began before {dependency.instances} had ended")
            elif dependency is instance.options.follow and (
                instance.node not in nodes or (dependency.all and len(nodes) > 1)
            ):
                self._tell(f"instance {instance.id} follows {dependency.instances} to node {instance.node}")

    def _sent_guarded(self, batch: Attempt, branch: str, indexes: Sequence[int]) -> None:
        held = self._scheduler.state.batches.get(batch)
        if held is None or len(indexes) != 1:
            self._tell(f"batch {batch} with a guarantee is of nobody, or has {len(indexes)} units")
            return
        rows = self._store._units.some(held.branch.crew.instance, branch, indexes)
        if [row.attempt for row in rows if row.status is Status.RUNNING] != [batch]:
            self._tell(f"batch {batch} has a guarantee, and was sent before it was stored")
        if branch == STEP and not all(row.args for row in rows):
            self._tell(f"batch {batch} was sent, and the arguments of the client were not stored")

    def _are_stored(self, instance: InstanceId, branch: str, indexes: Sequence[int], what: str) -> None:
        if self._store._instances[instance].status.is_final:
            return
        rows = self._store._units.some(instance, branch, indexes)
        done = {row.index for row in rows if row.status.is_final}
        if missing := set(indexes) - done:
            self._tell(f"{what}, and {instance}/{branch}:{min(missing)} was not stored")

    def _sent_results(self, message: UnitResults) -> None:
        held = self._scheduler.worker(message.asker)
        if held is None:
            self._tell(f"{message.asker} was told results, and is nobody")
            return
        instance = held[0]
        rows = {row.index: row for row in self._store._units.some(instance, message.branch, message.indexes)}
        for position, index in enumerate(message.indexes):
            row = rows.get(index)
            is_failure = position in message.failures
            if row is None or row.status is not (Status.FAILED if is_failure else Status.COMPLETE):
                self._tell(f"{instance}/{message.branch}:{index} was told before it was stored")
            elif row.result is not None:
                told = message.blobs.get(position)
                is_same = row.result.inline == message.results[position]
                if not (row.result.sha256 == told.sha256 if told is not None else is_same):
                    self._tell(f"{instance}/{message.branch}:{index} was told other than it was stored")
