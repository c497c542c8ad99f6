# SPDX-License-Identifier: MIT
"""Whatever happens, at-most-once units are given out once, exclusive ones never while they may be alive."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.scheduler import invariants
from pydra.cluster.scheduler.inputs import (
    HeartbeatReceived,
    Input,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import Dispatch, Finish, Instruction, Requeue
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.unit_values import (
    BatchHeld,
    FailUnits,
    HireWorker,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
    UnitRestored,
    UnitsDone,
    UnitsForgotten,
    WorkerHeld,
    WorkerLost,
)
from pydra.model.ids import Attempt, NodeId
from pydra.model.options import Guarantee, RunOptions
from pydra.model.status import Status
from tests.support.scheduler_bench import A
from tests.support.unit_bench import asks

NODES = (NodeId(1), NodeId(2))
LIMITS = Limits()
STOP_S = 30.0
"""After so long without being heard a node ends what is exclusive."""

MOVES = {
    "ask": 8,
    "forget": 1,
    "done": 2,
    "die": 1,
    "lose root": 1,
    "cut": 2,
    "link": 2,
    "beat": 2,
    "pass": 2,
    "restart": 0.5,
}
"""How often each comes."""

LENGTH = 120


class World:
    """Two nodes with two slots, and instance A whose units 0 to 3 have a guarantee."""

    def __init__(self, guarantee: Guarantee, root: RunOptions) -> None:
        self.guarantee, self.root = guarantee, root
        self.epoch, self.now = 1, 0.0
        self.scheduler = Scheduler(1, LIMITS)
        self.linked: set[NodeId] = set()
        self.heard: dict[NodeId, float] = {}
        self.workers: dict[Attempt, tuple[NodeId, HireWorker]] = {}
        """Whatever is alive; a released one until it is gone."""
        self.given: dict[Attempt, RunUnits] = {}
        """What they have, by worker."""
        self.roots: dict[Attempt, NodeId] = {}
        self.live: Restored | None = None
        self.rows: dict[int, RunUnits] = {}
        self.runs: Counter[int] = Counter()
        self.root_runs = 0
        self.feed(*map(self.hello, NODES), Submitted(A, 5, 0.0, options=root))

    def hello(self, node: NodeId) -> NodeReady:
        """A node comes with all that it has."""
        self.linked.add(node)
        self.heard[node] = self.now
        held = [hired for where, hired in self.workers.values() if where == node]
        batches = [self.given[each.worker] for each in held if each.worker in self.given]
        return NodeReady(
            node,
            2,
            running=tuple(attempt for attempt, where in self.roots.items() if where == node),
            workers=tuple(WorkerHeld(each.worker, A, each.slot.index) for each in held),
            batches=tuple(
                BatchHeld(each.batch, each.worker, A, each.branch, each.indexes, each.digests, 0)
                for each in batches
            ),
        )

    def feed(self, *happened: Input) -> None:
        """Feed, check the tables, and carry out what follows."""
        for each in self.scheduler.feed(self.now, happened):
            self.carry_out(each)
        invariants.check(self.scheduler.state)

    def carry_out(self, wanted: Instruction) -> None:
        """As master and nodes do, at once."""
        match wanted:
            case Dispatch(_, attempt, slot):
                self.root_runs += 1
                assert not (self.root.retry == "never" and self.root_runs > 1), "it ran a second time"
                assert not (self.root.exclusive and self.roots), "two roots are alive"
                self.roots[attempt] = slot.node
                self.live = Restored(
                    A, 5, 0.0, Status.RUNNING, attempt, slot.node, slot.index, options=self.root
                )
            case Requeue(losses=losses):
                self.live = Restored(A, 5, 0.0, Status.QUEUED, losses=losses, options=self.root)
            case Finish():
                self.live = None
            case HireWorker(worker, _, slot):
                self.workers[worker] = (slot.node, wanted)
            case ReleaseWorker(_, worker):
                if worker not in self.given:
                    self.workers.pop(worker, None)  # one with a unit takes a while
            case RunUnits(indexes=[index]):
                self.begin(index, wanted)
            case RecordUnits(indexes=[index]) | FailUnits(indexes=[index]):
                self.rows.pop(index, None)

    def begin(self, index: int, batch: RunUnits) -> None:
        """A unit is given out."""
        self.runs[index] += 1
        if self.guarantee & Guarantee.ONCE:
            assert self.runs[index] == 1, f"unit {index} ran a second time"
        if self.guarantee & Guarantee.EXCLUSIVE:
            alive = [each for each in self.given.values() if each.indexes == [index]]
            assert not alive, f"unit {index} is alive twice: {alive[0].batch} and {batch.batch}"
        self.given[batch.worker] = self.rows[index] = batch

    def move(self, name: str, choice: int) -> None:
        """Something happens."""
        worker = list(self.given)[choice % len(self.given)] if self.given else None
        root = next(reversed(self.roots), None)
        node = NODES[choice % 2]
        match name:
            case "ask" if root is not None:
                started = {index: each.batch for index, each in self.rows.items()}
                ended = {index for index in self.runs if index not in self.rows}
                once = self.guarantee & Guarantee.ONCE
                # What has ended is answered from the store.
                wanted = [index for index in range(choice % 4 + 1) if not (once and index in ended)]
                if wanted:
                    asked = asks(wanted, root)
                    self.feed(msgspec.structs.replace(asked, guarantee=self.guarantee, started=started))
            case "forget" if root is not None:
                self.feed(UnitsForgotten(A, root, "S"))
            case "done" if worker is not None and self.workers[worker][0] in self.linked:
                batch = self.given.pop(worker)
                self.feed(UnitsDone(batch.node, worker, batch.batch, 0, 1, 0.1, "told"))
            case "die" if worker is not None:
                where, _ = self.workers.pop(worker)
                del self.given[worker]
                if where in self.linked:
                    self.feed(WorkerLost(where, worker, "it died", "worker_died"))
            case "lose root" if root is not None:
                where = self.roots.pop(root)
                if where in self.linked:
                    self.feed(UnitFinished(root, where, Outcome.LOST))
            case "cut" if node in self.linked:
                self.linked.discard(node)
                self.feed(NodeSilent(node))
            case "link" if node not in self.linked:
                self.feed(self.hello(node))
            case "beat":
                self.beat()
            case "pass":
                for _ in range(choice % 12):
                    self.now += 5.0
                    self.beat()
                    self.end_unheard()
                    self.feed(TimePassed())
            case "restart":
                self.restart()

    def beat(self) -> None:
        """All that are linked name what they have."""
        for node in sorted(self.linked):
            self.heard[node] = self.now
            held = [attempt for attempt, (where, _) in self.workers.items() if where == node]
            held += [attempt for attempt, where in self.roots.items() if where == node]
            self.feed(HeartbeatReceived(node, tuple(held)))

    def end_unheard(self) -> None:
        """Nodes that were not heard for so long end what is exclusive."""
        for node in NODES:
            if self.now < self.heard[node] + STOP_S:
                continue
            for worker in [each for each, (where, _) in self.workers.items() if where == node]:
                if self.guarantee & Guarantee.EXCLUSIVE and worker in self.given:
                    del self.workers[worker], self.given[worker]
            if self.root.exclusive:
                self.roots = {attempt: where for attempt, where in self.roots.items() if where != node}

    def restart(self) -> None:
        """Another master begins with what is stored."""
        self.epoch += 1
        self.scheduler = Scheduler(self.epoch, LIMITS)
        self.linked.clear()
        if self.live is None:
            return
        begun = [
            UnitRestored(A, "S", index, each.digests, each.guarantee, each.batch, each.worker, each.node)
            for index, each in sorted(self.rows.items())
        ]
        self.feed(self.live, *begun)


@given(
    st.sampled_from([Guarantee.ONCE, Guarantee.EXCLUSIVE, Guarantee.ONCE | Guarantee.EXCLUSIVE]),
    st.sampled_from([RunOptions(), RunOptions(exclusive=True), RunOptions(retry="never")]),
    st.integers(0, 2**32),
)
def test_promises_are_kept(guarantee: Guarantee, root: RunOptions, seed: int) -> None:
    """Units are asked for and forgotten, workers, roots, links and masters are lost, and time passes."""
    world, random = World(guarantee, root), Random(seed)
    for _ in range(LENGTH):
        [name] = random.choices(list(MOVES), list(MOVES.values()))
        world.move(name, random.randrange(12))
