# SPDX-License-Identifier: MIT
"""One master, its nodes and its users, all of them real but for sockets, processes, disks and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.scheduler import inputs
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested
from pydra.model.ids import InstanceId
from pydra.model.instance import Instance
from pydra.model.options import Dependency
from pydra.model.status import Status
from tests.simulation.clients import SimulatedClient
from tests.simulation.daemons import SimulatedMaster, SimulatedNode
from tests.simulation.disks import SlowStore
from tests.simulation.plan import CALM, Plan
from tests.simulation.programs import Diary
from tests.simulation.steps import MASTER, Steps
from tests.simulation.stopwatch import Stopwatch
from tests.simulation.wires import SlowCable
from tests.simulation.works import Works
from tests.support.instances import queued_instance
from tests.support.masters import WALL_TIME
from tests.support.pumps import result_of


class Trail:
    """All that happened, as a hash, and as text if somebody wants to read it."""

    def __init__(self, clock: Clock, is_kept: bool) -> None:
        self._clock = clock
        self._hash = blake2b(digest_size=16)
        self._is_kept = is_kept
        self.lines: list[str] = []
        self.count = 0

    def note(self, what: str, value: object = "") -> None:
        """Something happened now."""
        line = f"{self._clock.seconds():.6f} {what} {value}"
        self._hash.update(line.encode())
        self.count += 1
        if self._is_kept:
            self.lines.append(line if len(line) < 400 else f"{line[:400]}...")

    def digest(self) -> str:
        """The hash of all of it, in order."""
        return self._hash.hexdigest()


class SimulatedCluster:
    """Whatever it does and whatever is done to it is on one clock, by one source of chance."""

    def __init__(self, plan: Plan, directory: Path, is_traced: bool = False) -> None:
        self.plan = plan
        self.random = Random(f"cluster {plan.seed}")
        self.clock = Clock()
        self.trail = Trail(self.clock, is_traced)
        self.works = Works(plan)
        self.diary = Diary()
        self.store = SlowStore(self.clock, self.random, plan.commit)
        self.faults: list[str] = self.diary.faults
        self.answers: dict[str, InstanceId] = {}
        """What was answered to each request key."""
        self.cancelled: set[InstanceId] = set()
        is_exact = not plan.faults.keys() - CALM
        self.stopwatch = Stopwatch(self.works, is_exact=is_exact, tell=self.faults.append)
        self.paused: set[InstanceId] = set()
        """What was ever paused."""
        self.highest = 0
        self.set_by_s = 0.0
        """By how much the wall clock was set."""
        self.directory = directory
        self.numbers = range(1, plan.nodes + 1)
        self.check: Callable[[], None] = lambda: None
        self.nodes: dict[int, SimulatedNode] = {}
        self.cables: dict[int, SlowCable] = {}
        self.steps = Steps()
        self._fallen: list[int] = []
        """The daemons that were killed in this turn."""
        self._rivals: list[tuple[SimulatedMaster, dict[int, SlowCable]]] = []
        """Masters that were deposed, and do not know yet."""
        self.master = SimulatedMaster(directory / "master", self)
        for number in self.numbers:
            self.nodes[number] = SimulatedNode(directory / f"node{number}", self, number)
            self._join(number)
        self.clients = [
            SimulatedClient(self, number, self.random.randint(0, 2 * plan.units))
            for number in range(plan.sessions)
        ]
        for client in self.clients:
            self.clock.callLater(self.random.uniform(0, plan.duration / 2), client.connect)

    # Its parts, and their ends.

    def close(self) -> None:
        """Leave no descriptor behind."""
        self.master.kill()
        for node in self.nodes.values():
            node.kill()

    def _join(self, number: int) -> None:
        if self.master.is_dead:
            return
        node = self.nodes[number]
        ends = (self.master.ends[number], node)
        cable = SlowCable(self.clock, self.random, self.plan.latency, ends, node.port, self.steps)
        before = self.cables.get(number)
        cable.cut_until = before.cut_until if before is not None else 0.0
        self.cables[number] = cable
        self.clock.callLater(self.random.uniform(0.1, 2.0), cable.plug_later)

    def fall(self, who: int) -> None:
        """A daemon is killed just now; what it leaves is cleared away when this turn is over."""
        self.steps.crashed[self.steps.latest] += 1
        self.trail.note("killed at a step", who)
        self._fallen.append(who)
        if who == MASTER:
            self.master.is_dead = True
        else:
            self.nodes[who].fall()

    def _bury_all(self) -> None:
        """The turn is over, and so are those who were killed in it."""
        while self._fallen:
            who = self._fallen.pop(0)
            if who == MASTER:
                self.restart_master(self.random.random() < 0.5, self.random.choice([0.1, 3.0]))
            else:
                self.restart_node(who, has_power=True)

    def restart_master(self, are_commits_made: bool, away_s: float) -> None:
        """The master is killed, and starts anew on its store; what it was committing is there, or is not."""
        self.trail.note("master killed", are_commits_made)
        self.stopwatch.restarted(self.clock.seconds())
        self.master.kill()
        for cable in self.cables.values():
            cable.scrap("the master was killed")
        self.store.crash(are_commits_made)
        self.clock.advance(0)
        for client in self.clients:
            client.leave(away_s + self.random.uniform(0.1, 2.0))
        self.run(away_s)
        self._begin_master()

    def _begin_master(self) -> None:
        self.store.epoch += 1
        self.master = SimulatedMaster(self.directory / "master", self)
        result_of(Deferred.fromCoroutine(self.master.restore()))
        for number in self.numbers:
            self._join(number)

    def usurp(self, are_commits_made: bool, rivals_s: float) -> None:
        """Another master takes the store; the first goes on for a while, and commits nothing more."""
        self.trail.note("master deposed", are_commits_made)
        rival, cables = self.master, dict(self.cables)
        rival.own_store.is_deposed = True
        self.store.crash(are_commits_made)
        for client in self.clients:
            client.leave(self.random.uniform(0.1, 2.0))
        self._rivals.append((rival, cables))
        self._begin_master()
        self.clock.callLater(rivals_s, self._give_way)

    def _give_way(self) -> None:
        rival, cables = self._rivals.pop(0)
        rival.kill()
        for cable in cables.values():
            cable.scrap("the master was killed")

    def restart_node(self, number: int, *, has_power: bool) -> None:
        """A node is killed with all its workers, and starts anew."""
        self.trail.note("node killed", number)
        before = self.nodes[number]
        kept = before.kept(has_power)
        before.fall()
        for cables in (self.cables, *(cables for _, cables in self._rivals)):
            cables[number].scrap("the node was killed")
        before.crash(has_power=has_power)
        self.diary.lines.node_killed(before.workers.names, before.was_at_work())
        node = self.nodes[number] = SimulatedNode(self.directory / f"node{number}", self, number)
        for attempt, count in kept:
            if not node.has_kept(attempt, count):
                self.faults.append(f"node {number} had results of {attempt} in its journal, and lost them")
        self._join(number)

    # What its users do.

    def wall_clock(self) -> float:
        """UTC seconds, as somebody set them."""
        return WALL_TIME + self.clock.seconds() + self.set_by_s

    def new_instance(self, **fields: Any) -> Instance:
        """An instance that was never submitted."""
        self.highest += 1
        return queued_instance(self.highest, queued=self.wall_clock(), **fields)

    def submit(self, key: str = "") -> None:
        """Somebody submits an instance, sometimes again because no answer came."""
        number = self.highest + 1
        key = key or f"key {number}"
        work = self.works.work(number)
        after = self._dependency((work.after,), is_any=False)
        follow = self._dependency(work.follow, is_any=work.follows_any)
        own = self.works.options(number)
        options = msgspec.structs.replace(own, after=after, follow=follow, time_limit=work.time_limit)
        instance = self.new_instance(request_key=key, options=options)

        master = self.master

        def answered(answer: tuple[InstanceId, bool]) -> None:
            master.passed("answers a submission")
            if master.is_dead:
                return
            known = self.answers.setdefault(key, answer[0])
            if known != answer[0]:
                self.faults.append(f"{key} was answered with {known}, and then with {answer[0]}")
            if work.is_cancelled:
                self.clock.callLater(work.duration / 2, self._cancel_later, answer[0])

        submitted = Deferred.fromCoroutine(master.dispatcher.submit(instance))
        submitted.addCallbacks(answered, lambda _: None)
        if self.random.random() < 0.2:
            self.clock.callLater(self.random.choice([0.0, 0.1, 20.0]), self._submit_again, key)

    def _dependency(self, numbers: Sequence[int], *, is_any: bool) -> Dependency | None:
        """On those of these that there are."""
        there = tuple(InstanceId(each) for each in dict.fromkeys(numbers) if each in self.store._instances)
        return Dependency(there, all=not is_any, failure=True) if there else None

    def _submit_again(self, key: str) -> None:
        if not self.master.is_dead:
            self.submit(key)

    def _cancel_later(self, instance: InstanceId) -> None:
        if not self.master.is_dead:
            self.cancel(instance)

    def cancel(self, instance: InstanceId) -> None:
        """Somebody cancels an instance; what ends already, such as a session, goes on to its own end."""
        master = self.master
        is_ending = master.scheduler.status(instance) is Status.CANCELLING

        def answered(_: object) -> None:
            live = master.dispatcher.live.get(instance)
            if master.is_dead or is_ending or live is None:
                return
            if live.status is Status.CANCELLING:
                self.cancelled.add(instance)

        master.dispatcher.feed(inputs.CancelRequested(instance)).addCallback(answered)

    def pause(self, instance: InstanceId) -> None:
        """Somebody pauses an instance, if that can be."""
        if self.master.scheduler.may_pause(instance):
            self.paused.add(instance)
            self.master.dispatcher.feed(PauseRequested(instance))

    def resume(self, instance: InstanceId) -> None:
        """Somebody lets an instance go on, if it is paused."""
        if self.master.scheduler.status(instance) is Status.PAUSED:
            self.master.dispatcher.feed(ResumeRequested(instance))

    # Time.

    def run(self, seconds: float) -> None:
        """Let time pass, from one thing that happens to the next; ``check`` is called after each."""
        clock = self.clock
        end = clock.seconds() + seconds
        self._bury_all()  # what users do may have been the end of a daemon
        while (calls := clock.getDelayedCalls()) and (at := calls[0].getTime()) <= end:  # they are sorted
            clock.advance(max(0.0, at - clock.seconds()))
            self._bury_all()
            self.check()
        clock.advance(max(0.0, end - clock.seconds()))
