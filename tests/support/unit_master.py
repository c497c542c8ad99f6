# SPDX-License-Identifier: MIT
"""A master without wire and disk around the real scheduler: it stores, sends and checks what is wanted."""

from __future__ import annotations

from collections import Counter

from pydra.cluster.scheduler import invariants
from pydra.cluster.scheduler.inputs import (
    Input,
    Outcome,
    Restored,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    BeginCancelling,
    Discard,
    Dispatch,
    Finish,
    Instruction,
    KillUnit,
    Requeue,
    Retry,
    StopUnit,
)
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.unit_values import (
    DiscardUnits,
    FailUnits,
    HireWorker,
    Pause,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
)
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.status import Status
from tests.support.scheduler_bench import nodes_of
from tests.support.unit_nodes import Ask, Job, Process, Run, SimNode, digest

Unit = tuple[InstanceId, str, int]
GOES_ON = (Status.RUNNING, Status.PAUSED)


class UnitMaster:
    """The scheduler, the store, and nodes that are sent to; what must hold is checked at each instruction."""

    def __init__(self, slots: list[int], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.epoch = 1
        self.scheduler = Scheduler(self.epoch, self.limits)
        self.now = 0.0
        self.nodes = {NodeId(number): SimNode(NodeId(number), count) for number, count in enumerate(slots, 1)}
        self.jobs: dict[InstanceId, Job] = {}
        self.clients: dict[InstanceId, Ask] = {}
        self.final: dict[InstanceId, Status] = {}
        self.rows: dict[InstanceId, Restored] = {}
        """What the store has of unfinished instances."""
        self.stored: dict[Unit, bytes] = {}
        self.failed: set[Unit] = set()
        self.losses: Counter[Unit] = Counter()
        self.batches: dict[Attempt, RunUnits] = {}
        self.last = Attempt(0, 0)
        self.log: list[tuple[float, tuple[Input, ...], list[Instruction]]] = []

    def feed(self, *given: Input) -> None:
        """Feed, check, and carry out what follows, and what follows of that."""
        waiting = list(given)
        while waiting:
            done = self.scheduler.feed(self.now, waiting)
            self.log.append((self.now, tuple(waiting), done))
            invariants.check(self.scheduler.state)
            self.check_lenders(done)
            waiting = [more for item in done for more in self.carry_out(item)]
        self.check_capacity()

    # What the scheduler wants.

    def carry_out(self, item: Instruction) -> list[Input]:
        """Do it, as master and nodes would; what happens by it at once."""
        match item:
            case Dispatch(instance, attempt, slot):
                self.rises(attempt)
                self.row(instance, status=Status.RUNNING, attempt=attempt, node=slot.node, index=slot.index)
                node = self.nodes[slot.node]
                if node.is_linked:
                    node.roots[attempt] = Process(attempt, instance, slot.index)
            case HireWorker(worker, instance, slot):
                self.rises(worker)
                assert self.rows[instance].status in GOES_ON, "a worker is hired for nothing"
                assert self.nodes[slot.node].is_linked, "a worker is hired on a node that is away"
                self.nodes[slot.node].hired[worker] = Process(worker, instance, slot.index)
            case RunUnits():
                self.rises(item.batch)
                self.run(item)
            case ReleaseWorker(identity, worker):
                node = self.nodes[identity]
                assert node.is_linked, "a message goes to a node that is away"
                node.hired.pop(worker, None)
            case RecordUnits():
                self.record(item)
            case FailUnits():
                self.fail(item)
            case DiscardUnits(identity, batch, count):
                self.acknowledge(identity, batch, count)
            case StopUnit(identity, attempt) | KillUnit(identity, attempt):
                node = self.nodes[identity]
                assert node.is_linked, "a message goes to a node that is away"
                if attempt in node.roots:
                    del node.roots[attempt]
                    node.ended[attempt] = "stopped"
                    return [UnitFinished(attempt, identity, Outcome.STOPPED)]
            case Discard(identity, attempt):
                self.nodes[identity].ended.pop(attempt, None)
            case BeginCancelling(instance, _, fails):
                self.row(instance, status=Status.CANCELLING, fails=fails)
            case Requeue(instance, attempt, losses):
                is_paused = self.rows[instance].status is Status.PAUSED
                status = Status.PAUSED if is_paused else Status.QUEUED
                self.row(instance, status=status, attempt=None, node=None, losses=losses)
                self.forget_end(attempt)
            case Pause(instance, paused):
                row = self.rows[instance]
                resumed = Status.QUEUED if row.attempt is None else Status.RUNNING
                assert (row.status is Status.PAUSED) != paused
                self.row(instance, status=Status.PAUSED if paused else resumed)
            case Finish(instance, attempt, status):
                assert instance not in self.final, "an instance ended twice"
                assert status.is_final
                self.final[instance] = status
                del self.rows[instance]
                if attempt is not None:
                    self.forget_end(attempt)
            case Retry():
                raise AssertionError(item)
        return []

    def run(self, item: RunUnits) -> None:
        """A batch goes to a worker."""
        status = self.rows[item.instance].status
        assert status is Status.RUNNING or (status is Status.PAUSED and "/" in item.branch), "it does not run"
        assert len(item.indexes) == len(set(item.indexes)) == len(item.args)
        for place, index in enumerate(item.indexes):
            found = item.digests[place * 16 : place * 16 + 16]
            assert found == digest(item.instance, item.branch, index)
            assert item.args[place] == f"{item.branch}:{index}".encode()
        self.batches[item.batch] = item
        node = self.nodes[item.node]
        assert node.is_linked, "a batch goes to a node that is away"
        assert item.worker in node.hired, "a batch goes to a worker that is not there"
        node.take(item)

    def record(self, item: RecordUnits) -> None:
        """Results are stored, acknowledged and given to their asker."""
        run, start = item.told
        assert isinstance(run, Run)
        count = len(item.indexes)
        assert item.indexes == run.indexes[start : start + count], "the results are of other units"
        assert item.digests == run.digests[start * 16 : (start + count) * 16]
        assert item.recorded == start + count
        for index in item.indexes:
            unit = (item.instance, item.branch, index)
            self.stored[unit] = digest(*unit)
            self.losses.pop(unit, None)
        self.acknowledge(item.node, item.batch, item.recorded)
        is_session = self.jobs[item.instance].is_session
        if item.asker is not None or (is_session and "/" not in item.branch):
            self.answer(item.instance, item.asker, item.branch, item.indexes)

    def fail(self, item: FailUnits) -> None:
        """Units failed; here nobody tries them again."""
        for index in item.indexes:
            unit = (item.instance, item.branch, index)
            assert self.losses[unit] >= self.limits.loss_limit, f"{unit} failed for losses of others"
            self.losses.pop(unit)
            self.failed.add(unit)
        self.answer(item.instance, item.asker, item.branch, item.indexes)

    def answer(self, instance: InstanceId, asker: Attempt | None, branch: str, indexes: list[int]) -> None:
        """Results come to an asker, if it is still there."""
        if asker is None:
            ask: Ask | None = self.clients[instance]
        else:
            ask = None
            for node in self.nodes.values():
                process = node.roots.get(asker) or node.hired.get(asker)
                if process is not None and node.is_linked and not process.is_dead:
                    assert process.instance == instance, "results go to another instance"
                    ask = process.ask
        if ask is not None and ask.branch == branch:
            ask.open.difference_update(indexes)

    def acknowledge(self, identity: NodeId, batch: Attempt, count: int) -> None:
        """The node forgets results."""
        node = self.nodes[identity]
        if not node.is_linked:
            return
        for process in node.hired.values():
            for run in list(process.runs):
                if run.batch == batch:
                    run.recorded = max(run.recorded, min(count, len(run.indexes)))
                    if run.recorded == len(run.indexes):
                        process.runs.remove(run)

    def forget_end(self, attempt: Attempt) -> None:
        for node in self.nodes.values():
            node.ended.pop(attempt, None)

    def row(self, instance: InstanceId, **changes: object) -> None:
        """The store has something else of an unfinished instance."""
        row = self.rows[instance]
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        self.rows[instance] = Restored(**{**fields, **changes})

    # What must be true.

    def rises(self, attempt: Attempt) -> None:
        """Attempts are never used twice."""
        assert self.last < attempt, f"attempt {attempt} does not rise"
        self.last = attempt

    def check_lenders(self, done: list[Instruction]) -> None:
        """A batch went only to a worker whose lenders all wait, and which does not."""
        for item in done:
            if isinstance(item, RunUnits):
                worker = self.scheduler.state.hired.get(item.worker)
                while worker is not None and worker.lender is not None:
                    assert worker.lender.units, f"{item.worker} got units, though its slot is used"
                    worker = self.scheduler.state.hired.get(worker.lender.attempt or Attempt(0, 0))

    def check_capacity(self) -> None:
        """No node has more on slots of their own than it offers; every living instance is known."""
        for view in nodes_of(self.scheduler):
            assert view.busy >= 0
        for instance, row in self.rows.items():
            assert self.scheduler.status(instance) is row.status, f"{instance} is not {row.status.name}"
        assert self.rows.keys() | self.final.keys() == self.jobs.keys()
