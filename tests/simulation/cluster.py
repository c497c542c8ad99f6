# SPDX-License-Identifier: MIT
"""One master and its nodes, all of them real but for sockets, processes, disks and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.node_link import NodeLink
from pydra.cluster.scheduler import inputs, instructions
from pydra.cluster.wire.messages import RunUnit, ToNode
from pydra.events import Event
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.status import Status
from tests.simulation.plan import Plan
from tests.simulation.programs import Diary, ProgrammedWorkers
from tests.simulation.wires import SlowCable
from tests.support.fakes import MemoryStore
from tests.support.instances import node_record, queued_instance
from tests.support.node_links import LinkBench
from tests.support.nodes import NodeBench
from tests.support.pumps import result_of

HELD = (Status.RUNNING, Status.CANCELLING, Status.PAUSED)


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
            self.lines.append(line)

    def digest(self) -> str:
        """The hash of all of it, in order."""
        return self._hash.hexdigest()


class Leases:
    """Who named which attempt last: what the scheduler may know of leases, kept beside it."""

    def __init__(self) -> None:
        self.named: dict[tuple[NodeId, Attempt], float] = {}

    def take(self, now: float, given: Sequence[inputs.Input]) -> None:
        """What the scheduler is fed with."""
        for each in given:
            if isinstance(each, inputs.HeartbeatReceived):
                attempts = each.held
            elif isinstance(each, inputs.NodeReady):
                attempts = (*each.running, *each.finished, *(held.worker for held in each.workers))
            else:
                continue
            for attempt in attempts:
                self.named[each.node, attempt] = now


class SimulatedMaster(LinkBench):
    """A master with a link for each node."""

    def __init__(self, directory: Path, store: MemoryStore, clock: Clock, cluster: SimulatedCluster) -> None:
        super().__init__(directory, store, clock)
        self._cluster = cluster
        self.links = {NodeId(number): self.make_link(node_record(number)) for number in cluster.numbers}
        self.dispatcher._send = self._send_to
        self.leases = Leases()
        self.begun = clock.seconds()
        self._feed = self.scheduler.feed
        self.scheduler.feed = self._watched_feed

    def _watched_feed(self, now: float, given: Sequence[inputs.Input]) -> list[instructions.Instruction]:
        self.leases.take(now, given)
        wanted = self._feed(now, given)
        for each in wanted:
            if isinstance(each, instructions.Dispatch):
                self._cluster.dispatched[each.attempt] = now
        return wanted

    def _send_to(self, node: NodeId, message: ToNode) -> None:
        self._cluster.sent(node, message)
        self.links[node].send(message)

    def publish(self, event: Event) -> int:
        """Events are part of the trail."""
        self._cluster.trail.note("event", event)
        return self.events.publish(event)


class SimulatedCluster:
    """Whatever it does and whatever is done to it is on one clock, by one source of chance."""

    def __init__(self, plan: Plan, directory: Path, is_traced: bool = False) -> None:
        self.plan = plan
        self.random = Random(f"cluster {plan.seed}")
        self.clock = Clock()
        self.trail = Trail(self.clock, is_traced)
        self.diary = Diary()
        self.store = MemoryStore()
        self.faults: list[str] = self.diary.faults
        self.accepted: set[InstanceId] = set()
        self.cancelled: set[InstanceId] = set()
        self.highest = 0
        self._directory = directory
        self.numbers = range(1, plan.nodes + 1)
        self._latest: dict[InstanceId, Any] = {}
        self.dispatched: dict[Attempt, float] = {}
        self.check: Callable[[], None] = lambda: None
        self.nodes: dict[int, NodeBench] = {}
        self.cables: dict[int, SlowCable] = {}
        self.master = self._new_master()
        for number in self.numbers:
            self.nodes[number] = self._new_node(number)
            self._join(number)

    # Its parts, and their ends.

    def _new_master(self) -> SimulatedMaster:
        return SimulatedMaster(self._directory / "master", self.store, self.clock, self)

    def _new_node(self, number: int) -> NodeBench:
        workers = ProgrammedWorkers(self.plan, self.random, self.diary, self.clock)
        return NodeBench(self._directory / f"node{number}", self.clock, workers, self.plan.slots)

    def _join(self, number: int) -> None:
        link: NodeLink = self.master.links[NodeId(number)]
        cable = SlowCable(self.clock, self.random, self.plan.latency, link, self.nodes[number].link)
        before = self.cables.get(number)
        cable.cut_until = before.cut_until if before is not None else 0.0
        self.cables[number] = cable
        self.clock.callLater(self.random.uniform(0.1, 2.0), cable.plug_later)

    def restart_master(self, lose_commits: bool, away_s: float) -> None:
        """The master is killed, and starts anew on its store; what it was committing is there, or is not."""
        self.trail.note("master killed", lose_commits)
        for cable in self.cables.values():
            cable.scrap("the master was killed")
        self.master.dispatcher.stop()
        if lose_commits and self.store._held is not None:
            self.store._held = []
        self.store.release()
        self.store.accept()
        self.clock.advance(0)
        self.run(away_s)
        self.store.epoch += 1
        self.master = self._new_master()
        self.master.dispatcher.restore(result_of(Deferred.fromCoroutine(self.store.unfinished())))
        for number in self.numbers:
            self._join(number)

    def restart_node(self, number: int) -> None:
        """A node is killed with all its workers, and starts anew."""
        self.trail.note("node killed", number)
        self.cables[number].scrap("the node was killed")
        self.nodes[number].kill()
        self.nodes[number] = self._new_node(number)
        self._join(number)

    # What its users do.

    def submit(self) -> None:
        """Somebody submits an instance."""
        self.highest += 1
        number = InstanceId(self.highest)
        instance = queued_instance(number, queued=self.clock.seconds(), request_key=f"key {number}")
        submitted = Deferred.fromCoroutine(self.master.dispatcher.submit(instance))
        submitted.addCallbacks(lambda answer: self.accepted.add(answer[0]), lambda _: None)

    def cancel(self, instance: InstanceId) -> None:
        """Somebody cancels an instance."""
        master = self.master

        def answered(_: object) -> None:
            live = master.dispatcher.live.get(instance)
            if master is self.master and live is not None and live.status is Status.CANCELLING:
                self.cancelled.add(instance)

        master.dispatcher.feed(inputs.CancelRequested(instance)).addCallback(answered)

    # Time.

    def run(self, seconds: float) -> None:
        """Let time pass, from one thing that happens to the next; ``check`` is called after each."""
        clock = self.clock
        end = clock.seconds() + seconds
        while (calls := clock.getDelayedCalls()) and (at := calls[0].getTime()) <= end:  # they are sorted
            clock.advance(max(0.0, at - clock.seconds()))
            self.check()
        clock.advance(max(0.0, end - clock.seconds()))

    # What is seen of it.

    def sent(self, node: NodeId, message: ToNode) -> None:
        """The master sends something."""
        self.trail.note(f"to node {node}", msgspec.msgpack.encode(message).hex())
        if isinstance(message, RunUnit):
            stored = self.store._instances.get(message.instance)
            if stored is None or stored.attempt != message.attempt or stored.status not in HELD:
                self.faults.append(f"{message.attempt} was sent before it was stored")
            before = self._latest.get(message.instance)
            if before is not None and message.attempt <= before:
                self.faults.append(f"instance {message.instance}: attempt {message.attempt} after {before}")
            self._latest[message.instance] = message.attempt
