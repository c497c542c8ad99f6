# SPDX-License-Identifier: MIT
"""Whatever happens to nodes, workers and masters, units keep to the slots that there are, and all end."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pydra.cluster.scheduler.machine import Scheduler
from pydra.model.ids import InstanceId
from tests.support.unit_cluster import UnitCluster
from tests.support.unit_nodes import Process, SimNode

ANY = st.integers(0, 10_000)
"""Says which of the things at hand is meant."""
SOON_S = st.sampled_from([0.1, 1.0, 2.5, 5.0])
LATE_S = st.sampled_from([1.0, 3.0, 20.0, 70.0])


class UnitMachine(RuleBasedStateMachine):
    """Parallel tasks, nested ones and sessions run, while workers die, links break, and masters restart."""

    cluster: UnitCluster

    @initialize(slots=st.lists(st.integers(1, 3), min_size=1, max_size=3))
    def begin(self, slots: list[int]) -> None:
        """Some nodes are linked."""
        self.cluster = UnitCluster(slots)
        for node in self.cluster.nodes.values():
            self.cluster.link(node)

    @precondition(lambda self: len(self.cluster.jobs) < 8)
    @rule(
        priority=st.integers(1, 3),
        units=st.sampled_from([0, 1, 3, 9, 30]),
        nested=st.sampled_from([0, 1, 3]),
        depth=st.sampled_from([1, 1, 2, 3]),
        is_session=st.booleans(),
    )
    def submit(self, priority: int, units: int, nested: int, depth: int, is_session: bool) -> None:
        """An instance that will ask for units, whose units may ask for more."""
        self.cluster.submit(priority, units, nested, depth, is_session)

    @precondition(lambda self: self.processes())
    @rule(which=ANY, times=st.sampled_from([1, 1, 2, 12]), tells=st.booleans())
    def work(self, which: int, times: int, tells: bool) -> None:
        """Workers do a step each: ask, run a unit, tell results, end."""
        for step in range(times):
            processes = self.processes()
            if processes:
                self.cluster.work(*processes[(which + 7 * step) % len(processes)], tells)

    @precondition(lambda self: self.cluster.clients)
    @rule(which=ANY)
    def client_asks(self, which: int) -> None:
        """The client of a session submits units."""
        clients = sorted(self.cluster.clients)
        self.cluster.client_asks(clients[which % len(clients)])

    @precondition(lambda self: self.processes())
    @rule(which=ANY)
    def worker_dies(self, which: int) -> None:
        """A worker ends by itself."""
        processes = self.processes()
        self.cluster.die(*processes[which % len(processes)])

    @precondition(lambda self: self.processes())
    @rule(which=ANY)
    def forget(self, which: int) -> None:
        """A worker wants no more of what it asked for."""
        node, process = self.processes()[which % len(self.processes())]
        if node.is_linked and not process.is_dead:
            self.cluster.forget(process)

    @rule(which=ANY, crashes=st.sampled_from([False, False, True]))
    def node_goes(self, which: int, crashes: bool) -> None:
        """A link breaks, or a whole node."""
        (self.cluster.crash if crashes else self.cluster.unlink)(self.node(which))

    @rule(which=ANY, is_inner_first=st.booleans())
    def node_comes(self, which: int, is_inner_first: bool) -> None:
        """A node is linked again, and its workers ask again in either order."""
        if not self.node(which).is_linked:
            self.cluster.link(self.node(which), is_inner_first)

    @rule(seconds=SOON_S)
    def all_nodes_beat(self, seconds: float) -> None:
        """Time passes while all linked nodes live."""
        self.cluster.beat(seconds)

    @rule(seconds=LATE_S)
    def time_passes(self, seconds: float) -> None:
        """Time jumps."""
        self.cluster.pass_time(seconds)

    @rule()
    def master_restarts(self) -> None:
        """The master begins anew; no node is linked yet."""
        self.cluster.restart()

    @precondition(lambda self: self.cluster.jobs)
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        """Somebody cancels anything."""
        self.cluster.cancel(self.instance(which))

    @precondition(lambda self: self.cluster.jobs)
    @rule(which=ANY, kill=st.booleans(), fail=st.booleans())
    def terminate(self, which: int, kill: bool, fail: bool) -> None:
        """Somebody ends the worker of anything."""
        self.cluster.terminate(self.instance(which), kill, fail)

    @precondition(lambda self: self.cluster.jobs)
    @rule(which=ANY)
    def pause(self, which: int) -> None:
        """Somebody pauses what can be paused."""
        self.cluster.pause(self.instance(which))

    @precondition(lambda self: self.cluster.jobs)
    @rule(which=ANY)
    def resume(self, which: int) -> None:
        """Somebody resumes anything."""
        self.cluster.resume(self.instance(which))

    def processes(self) -> list[tuple[SimNode, Process]]:
        """All workers, with their nodes."""
        nodes = self.cluster.nodes.values()
        return [(node, each) for node in nodes for each in (*node.roots.values(), *node.hired.values())]

    def node(self, which: int) -> SimNode:
        """One of the nodes."""
        nodes = list(self.cluster.nodes.values())
        return nodes[which % len(nodes)]

    def instance(self, which: int) -> InstanceId:
        """One of the instances, final ones too."""
        return InstanceId(which % len(self.cluster.jobs) + 1)

    def teardown(self) -> None:
        """When all goes well again everything ends; and a second scheduler would have done the same."""
        if not hasattr(self, "cluster"):
            return
        self.cluster.settle()
        again = Scheduler(self.cluster.epoch, self.cluster.limits)
        for now, fed, done in self.cluster.log:
            assert done == again.feed(now, fed), "the same inputs gave other instructions"


TestUnits = UnitMachine.TestCase
TestUnits.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
