# SPDX-License-Identifier: MIT
"""A whole cluster around the real scheduler, in one object: every step is a choice of the test."""

from __future__ import annotations

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TerminateRequested,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.unit_values import (
    NodesExpected,
    PauseRequested,
    ResumeRequested,
    UnitsDone,
    UnitsForgotten,
    WorkerLost,
)
from pydra.model.ids import Attempt, InstanceId
from pydra.model.status import Status
from tests.support.unit_master import UnitMaster
from tests.support.unit_nodes import Ask, Job, Process, SimNode, asked

WINDOW = 4
"""Units that an asker waits for at once."""


class UnitCluster(UnitMaster):
    """The same with everything that may happen in it."""

    def submit(self, priority: int, units: int, nested: int, depth: int, is_session: bool) -> None:
        """Somebody submits an instance."""
        instance = InstanceId(len(self.jobs) + 1)
        self.jobs[instance] = Job(instance, units, nested, depth, is_session)
        if is_session:
            self.clients[instance] = Ask("key", units)
        self.rows[instance] = Restored(instance, priority, self.now, Status.QUEUED, is_session=is_session)
        self.feed(Submitted(instance, priority, self.now, is_session=is_session))

    def link(self, node: SimNode, is_inner_first: bool = False) -> None:
        """A node says hello, asks again, in either order of its workers, and tells again."""
        node.is_linked = True
        self.feed(node.hello())
        for again in node.asks_again()[:: -1 if is_inner_first else 1]:
            if node.is_linked:
                self.ask(again.instance, again.asker, again.branch, list(again.indexes))
        for attempt in list(node.ended):
            self.tell_end(node, attempt)
        for process in list(node.hired.values()):
            for run in process.runs:
                run.told = run.recorded
            if process.is_dead:
                while process.runs and process.runs[0].told < process.runs[0].ran:
                    self.tell(node, process, 1000)
                self.feed(WorkerLost(node.id, process.attempt, "it was gone", "worker_died"))
                node.hired.pop(process.attempt, None)

    def unlink(self, node: SimNode) -> None:
        """A link breaks."""
        if node.is_linked:
            node.is_linked = False
            self.feed(NodeSilent(node.id))

    def crash(self, node: SimNode) -> None:
        """A node is killed with all that it has; what it did not tell is gone."""
        for process in node.hired.values():
            self.blame(process)
        node.roots.clear()
        node.hired.clear()
        node.ended.clear()
        self.unlink(node)

    def beat(self, seconds: float) -> None:
        """Time passes, and all linked nodes are heard of."""
        self.now += seconds
        self.feed(
            *(HeartbeatReceived(node.id, node.held()) for node in self.nodes.values() if node.is_linked),
            TimePassed(),
        )

    def pass_time(self, seconds: float) -> None:
        """Time passes and nobody says anything; nodes that were away for a lease are cut off."""
        self.now += seconds
        self.feed(TimePassed())
        for node in self.nodes.values():
            if node.is_linked and not self.scheduler.is_connected(node.id):
                node.is_linked = False

    def restart(self) -> None:
        """The master is killed and begins anew with what it stored."""
        self.epoch += 1
        self.scheduler = Scheduler(self.epoch, self.limits)
        self.log.clear()
        for node in self.nodes.values():
            node.is_linked = False
        self.feed(*self.rows.values(), NodesExpected(tuple(self.nodes)))
        for instance, ask in self.clients.items():
            if instance in self.rows and ask.open:
                self.feed(asked(instance, None, ask.branch, sorted(ask.open)))

    def cancel(self, instance: InstanceId) -> None:
        """Somebody cancels it."""
        self.feed(CancelRequested(instance))

    def terminate(self, instance: InstanceId, kill: bool, fail: bool) -> None:
        """Somebody ends its worker."""
        self.feed(TerminateRequested(instance, kill, fail))

    def pause(self, instance: InstanceId) -> None:
        """Somebody pauses it, if that is possible."""
        if self.scheduler.may_pause(instance):
            self.feed(PauseRequested(instance))
            assert self.scheduler.status(instance) is Status.PAUSED

    def resume(self, instance: InstanceId) -> None:
        """Somebody lets it go on."""
        self.feed(ResumeRequested(instance))
        assert self.scheduler.status(instance) is not Status.PAUSED

    def client_asks(self, instance: InstanceId) -> None:
        """The client of a session submits what it still has."""
        ask = self.clients[instance]
        if instance in self.rows and ask.next < ask.total:
            self.ask_next(instance, None, ask)

    def work(self, node: SimNode, process: Process, tells: bool) -> None:
        """A worker does one step: asks, or ends its unit or root; and perhaps tells what it has."""
        job = self.jobs[process.instance]
        if process.attempt in node.roots:
            self.work_root(node, process, job)
            return
        run = process.current
        if run is not None and not process.is_dead:
            level = run.branch.count("/") + 1
            if process.ask is None and level < job.depth and job.nested:
                process.ask = Ask(f"{run.branch}:{run.indexes[run.ran]}/S", job.nested)
            if process.ask is not None and process.ask.next < process.ask.total:
                if node.is_linked:
                    self.ask_next(process.instance, process.attempt, process.ask)
            elif process.ask is None or process.ask.is_over:
                process.ask = None
                run.ran += 1
        if tells:
            self.tell(node, process, 1000)

    def work_root(self, node: SimNode, process: Process, job: Job) -> None:
        """A main worker asks for more, or ends."""
        if job.is_session:
            client = self.clients[job.instance]
            if client.is_over:
                self.end_root(node, process, "complete")
            return
        if process.ask is None:
            process.ask = Ask("S", job.units)
        if process.ask.next < process.ask.total and node.is_linked:
            self.ask_next(process.instance, process.attempt, process.ask)
        elif process.ask.is_over:
            self.end_root(node, process, "complete")

    def tell(self, node: SimNode, process: Process, most: int) -> None:
        """A node tells results of the first batch that has any."""
        for run in list(process.runs):
            count = min(run.ran - run.told, most)
            if count > 0 and node.is_linked:
                start, run.told = run.told, run.told + count
                self.feed(
                    UnitsDone(node.id, process.attempt, run.batch, start, count, 0.001 * count, (run, start))
                )
                return

    def die(self, node: SimNode, process: Process) -> None:
        """A worker ends by itself; what it has results of, its node tells before that."""
        if process.attempt in node.roots:
            self.end_root(node, process, "lost")
            return
        while node.is_linked and any(run.told < run.ran for run in process.runs):
            self.tell(node, process, 1000)
        if process.attempt not in node.hired:
            return
        self.blame(process)
        process.ask, process.is_dead = None, True
        if node.is_linked:
            node.hired.pop(process.attempt, None)
            self.feed(WorkerLost(node.id, process.attempt, "it died", "worker_died"))

    def forget(self, process: Process) -> None:
        """A worker wants no more of what it asked for."""
        ask = process.ask
        if ask is not None:
            ask.open.clear()
            ask.next = ask.total
            self.feed(UnitsForgotten(process.instance, process.attempt, ask.branch))

    def blame(self, process: Process) -> None:
        """The unit that runs in it may be charged with its loss."""
        run = process.current
        for each in process.runs:
            for index in each.indexes[each.recorded :]:
                if run is None or each is not run or index in run.indexes[run.recorded : run.ran + 1]:
                    self.losses[process.instance, each.branch, index] += 1

    def end_root(self, node: SimNode, process: Process, outcome: str) -> None:
        """The process of a root is gone; its node keeps the outcome until it is acknowledged."""
        del node.roots[process.attempt]
        node.ended[process.attempt] = outcome
        self.tell_end(node, process.attempt)

    def tell_end(self, node: SimNode, attempt: Attempt) -> None:
        """A node tells the outcome of a root."""
        if node.is_linked and attempt in node.ended:
            self.feed(UnitFinished(attempt, node.id, Outcome(node.ended[attempt])))

    def ask_next(self, instance: InstanceId, asker: Attempt | None, ask: Ask) -> None:
        """The next units of a branch, up to a window."""
        indexes = list(range(ask.next, min(ask.total, ask.next + WINDOW - len(ask.open))))
        ask.next += len(indexes)
        ask.open.update(indexes)
        self.ask(instance, asker, ask.branch, indexes)

    def ask(self, instance: InstanceId, asker: Attempt | None, branch: str, indexes: list[int]) -> None:
        """What is stored is answered at once; the rest is asked of the scheduler."""
        known = [index for index in indexes if (instance, branch, index) in self.stored]
        self.answer(instance, asker, branch, known)
        rest = [index for index in indexes if index not in known]
        if rest:
            self.feed(asked(instance, asker, branch, rest))

    def settle(self) -> None:
        """All nodes come back, everything goes on and works: then everything ends, and all slots are free."""
        for node in self.nodes.values():
            if not node.is_linked:
                self.link(node)
        for instance in list(self.rows):
            self.resume(instance)
        for _ in range(2000):
            if not self.rows:
                break
            for instance in list(self.clients):
                self.client_asks(instance)
            for node in self.nodes.values():
                if not node.is_linked:
                    self.link(node)
                for process in (*node.roots.values(), *node.hired.values()):
                    if process.attempt in node.roots or process.attempt in node.hired:
                        self.work(node, process, tells=True)
            self.beat(0.2)
        state = self.scheduler.state
        assert not self.rows, f"these never end: {sorted(self.rows)}"
        assert not state.crews
        assert not state.hired
        assert not state.batches
        assert all(not node.holders and not node.hired and not node.roots for node in state.nodes.values())
        assert not any(node.hired or node.roots for node in self.nodes.values()), "a worker was not released"
