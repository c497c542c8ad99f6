# SPDX-License-Identifier: MIT
"""Breaks things, as often as the plan says."""

from __future__ import annotations

from collections.abc import Callable

from pydra.cluster.interfaces import WorkerExit
from pydra.errors import WorkersUnavailable
from pydra.model.ids import InstanceId
from tests.simulation.cluster import SimulatedCluster, SimulatedNode
from tests.simulation.plan import GENTLE_PAUSE_S
from tests.simulation.steps import MASTER
from tests.simulation.wires import SlowCable

OUTAGES_S = (1.0, 8.0, 20.0, 70.0, 120.0)
"""How long something may be broken: shorter and longer than the times after which somebody is given up."""

STOPS_S = (5.0, 50.0, 120.0)
"""How long a daemon is stopped: its workers outlive it, or should not."""

STEPS_S = (1.0, 3_600.0, -3_600.0, 315_576_000.0)
"""By how much a wall clock is set: a leap second, hours, and ten years."""


class Nemesis:
    """One method for each kind of fault; ``heal`` ends all that lasts."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._random = cluster.random
        self._is_over = False
        self._acts: dict[str, Callable[[], None]] = {
            "cut": self.cut,
            "one_way": self.one_way,
            "clog": self.clog,
            "kill_master": self.kill_master,
            "kill_node": self.kill_node,
            "kill_worker": self.kill_worker,
            "freeze_node": self.freeze_node,
            "stop_node": self.stop_node,
            "refuse_commits": self.refuse_commits,
            "slow_commits": self.slow_commits,
            "lose_commit": self.lose_commit,
            "refuse_workers": self.refuse_workers,
            "cancel": self.cancel,
            "cut_power": self.cut_power,
            "leave": self.leave,
            "pause": self.pause,
            "set_clock": self.set_clock,
            "half_open": self.half_open,
            "kill_master_at": self.kill_master_at,
            "kill_node_at": self.kill_node_at,
            "usurp": self.usurp,
            "repeat": self.repeat,
            "cut_at": self.cut_at,
        }
        self._quiet_until = 0.0

    def act(self, kind: str) -> None:
        """Let a fault of this kind happen, unless that would be too soon for a gentle run."""
        now = self._cluster.clock.seconds()
        if self._cluster.plan.is_gentle:
            if now < self._quiet_until:
                return
            self._quiet_until = now + GENTLE_PAUSE_S
        self._cluster.trail.note("fault", kind)
        self._acts[kind]()

    def cut(self) -> None:
        """A node is away."""
        self._cable().break_for(self._outage())

    def one_way(self) -> None:
        """Nothing arrives in one direction."""
        cable = self._cable()
        if cable.is_up:
            end = self._random.choice([cable.master, cable.node])
            end.silent_until = self._cluster.clock.seconds() + self._outage()

    def clog(self) -> None:
        """A direction is slow for a moment, not long enough to be given up."""
        cable = self._cable()
        if cable.is_up:
            end = self._random.choice([cable.master, cable.node])
            end.silent_until = self._cluster.clock.seconds() + self._random.uniform(0.1, 9.0)

    def freeze_node(self) -> None:
        """A node neither hears nor speaks for a while."""
        cable = self._cable()
        if cable.is_up:
            until = self._cluster.clock.seconds() + self._random.uniform(0.1, 14.0)
            cable.master.silent_until = cable.node.silent_until = until

    def stop_node(self) -> None:
        """The daemon of a node is stopped for a while; its launcher and its workers go on."""
        number = self._random.choice(self._cluster.numbers)
        node, cable = self._cluster.nodes[number], self._cluster.cables[number]
        now = self._cluster.clock.seconds()
        if node.stands_until <= now:
            seconds = self._random.choice(STOPS_S)
            node.stand_still(seconds)
            if cable.is_up:
                cable.master.silent_until = cable.node.silent_until = now + seconds

    def kill_master(self) -> None:
        """The master is killed; whatever it was committing is made."""
        self._cluster.restart_master(are_commits_made=True, away_s=self._away())

    def lose_commit(self) -> None:
        """The master is killed while it commits, and nothing of that is there."""
        self._cluster.store.hold()
        self._cluster.run(self._random.uniform(0.0, 2.0))
        self._cluster.restart_master(are_commits_made=False, away_s=self._away())

    def kill_node(self) -> None:
        """A node is killed with its workers."""
        self._cluster.restart_node(self._number(), has_power=True)

    def cut_power(self) -> None:
        """A node loses its power, and what it did not sync."""
        self._cluster.restart_node(self._number(), has_power=False)

    def kill_worker(self) -> None:
        """A worker is killed by the kernel; a main worker more often than they are many."""
        workers = self._node().workers.living()
        roots = [worker for worker in workers if not worker.is_serving]
        if roots and self._random.random() < 0.3:
            workers = roots
        if workers:
            self._random.choice(workers).exits(WorkerExit(137, "killed by SIGKILL"))

    def refuse_commits(self) -> None:
        """The database is locked, or the disk full."""
        self._cluster.store.refuse("The disk is full.")
        self._later(min(self._outage(), 70.0), self._cluster.store.accept)

    def slow_commits(self) -> None:
        """Commits take long."""
        if self._cluster.store._held is None:
            self._cluster.store.hold()
            self._later(self._random.uniform(0.1, 5.0), self._cluster.store.release)

    def refuse_workers(self) -> None:
        """A node cannot start workers."""
        workers = self._node().workers
        workers.fault = WorkersUnavailable("There is no memory.")

        def healthy() -> None:
            workers.fault = None

        self._later(min(self._outage(), 70.0), healthy)

    def cancel(self) -> None:
        """Somebody cancels something, which may be final."""
        number = self._any_instance()
        if number is not None:
            self._cluster.cancel(number)

    def pause(self) -> None:
        """Somebody pauses something, if it can be, and lets it go on later."""
        number = self._any_instance()
        if number is not None:
            self._cluster.pause(number)
            self._later(self._random.uniform(0.0, 30.0), lambda: self._cluster.resume(number))

    def half_open(self) -> None:
        """One end of a link learns of its end long after the other."""
        is_known_to_master = self._random.random() < 0.5
        self._cable().half_open(self._random.uniform(0.1, 19.0), is_known_to_master=is_known_to_master)

    def repeat(self) -> None:
        """For a while what is said in one direction is said again, up to a minute later."""
        cable = self._cable()
        if cable.is_up:
            end = self._random.choice([cable.master, cable.node])
            end.repeats_until = self._cluster.clock.seconds() + self._outage()

    def kill_master_at(self) -> None:
        """The master is killed at a step that chance decides."""
        self._trap(self._cluster.fall, is_master=True)

    def kill_node_at(self) -> None:
        """A node is."""
        self._trap(self._cluster.fall, is_master=False)

    def cut_at(self) -> None:
        """A link breaks at a step of master or node: what is said there does not arrive."""
        outage_s = self._outage()

        def cut(who: int) -> None:
            cable = self._cable() if who == MASTER else self._cluster.cables[who]
            self._later(0.0, lambda: cable.break_for(outage_s))

        self._trap(cut, is_master=self._random.random() < 0.5)

    def usurp(self) -> None:
        """A second master is started on the store."""
        self._cluster.usurp(self._random.random() < 0.5, self._random.uniform(3.0, 5.0))

    def set_clock(self) -> None:
        """Somebody sets the wall clock."""
        self._cluster.set_by_s += self._random.choice(STEPS_S)

    def leave(self) -> None:
        """The client of a session goes away for a while."""
        if self._cluster.clients:
            self._random.choice(self._cluster.clients).leave(min(self._outage(), 70.0))

    def _trap(self, spring: Callable[[int], None], *, is_master: bool) -> None:
        self._cluster.trail.note("trap", self._cluster.steps.set(self._random, spring, is_master=is_master))

    def heal(self) -> None:
        """From now on all is well."""
        cluster = self._cluster
        cluster.trail.note("healed")
        cluster.steps.clear()
        cluster.store.accept()
        cluster.store.release()
        for number in cluster.numbers:
            cluster.nodes[number].workers.fault = None
            cluster.nodes[number].go_on()
            cable = cluster.cables[number]
            cable.cut_until = 0.0
            if cable.is_up:
                cable.master.silent_until = cable.node.silent_until = 0.0
            cable.plug_later()
        for instance in list(cluster.master.dispatcher.live):
            cluster.resume(instance)
        for client in cluster.clients:
            client.connect()

    def _any_instance(self) -> InstanceId | None:
        """One that lives in most cases."""
        live = list(self._cluster.master.dispatcher.live)
        if live and self._random.random() < 0.8:
            return self._random.choice(live)
        highest = self._cluster.highest
        return InstanceId(self._random.randint(1, highest)) if highest else None

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._cluster.clock.callLater(seconds, call)

    def _outage(self) -> float:
        """Seconds of something broken."""
        return self._random.choice(OUTAGES_S[:3] if self._cluster.plan.is_gentle else OUTAGES_S)

    def _away(self) -> float:
        return self._random.choice([0.1, 3.0] if self._cluster.plan.is_gentle else [0.1, 3.0, 30.0])

    def _cable(self) -> SlowCable:
        return self._cluster.cables[self._number()]

    def _node(self) -> SimulatedNode:
        return self._cluster.nodes[self._number()]

    def _number(self) -> int:
        """That of a node, of one that works in most cases: a fault where nothing is going on shows little."""
        nodes = self._cluster.nodes
        busy = [number for number in self._cluster.numbers if nodes[number].workers.living()]
        is_busy = bool(busy) and self._random.random() < 0.8
        return self._random.choice(busy if is_busy else self._cluster.numbers)
