# SPDX-License-Identifier: MIT
"""One master, its nodes and its users, all of them real but for sockets, processes, disks and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.endings import past_of
from pydra.cluster.master.node_link import NodeLink
from pydra.cluster.master.sessions.register import Sessions
from pydra.cluster.node.delivery import Blob
from pydra.cluster.node.journal_writer import QUICK_SIZE
from pydra.cluster.scheduler import inputs, instructions
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested
from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import Recorded, ToMaster, ToNode, UnitFinished, UnitsDone, UnitsRecorded
from pydra.events import Event
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Instance, Payload
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK
from tests.simulation.clients import SimulatedClient
from tests.simulation.disks import CrashingJournal, DiskThread, SlowStore
from tests.simulation.plan import Plan
from tests.simulation.programs import Diary, ProgrammedWorkers
from tests.simulation.watch import Watch
from tests.simulation.wires import SlowCable
from tests.simulation.works import Works
from tests.support.cables import unthreaded
from tests.support.instances import node_record, queued_instance
from tests.support.masters import WALL_TIME
from tests.support.node_links import LinkBench
from tests.support.nodes import NodeBench
from tests.support.pumps import result_of

GRACE_S, KEEP_S = 30.0, 120.0
"""For the client of a session that is away."""


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


class SimulatedMaster(LinkBench):
    """A master with a link for each node, and sessions."""

    def __init__(self, directory: Path, cluster: SimulatedCluster) -> None:
        super().__init__(directory, cluster.store, cluster.clock)
        self._cluster = cluster
        self.is_dead = False
        self.links = {NodeId(number): self.make_link(node_record(number)) for number in cluster.numbers}
        self.dispatcher._send = self._send_to
        self.watch = Watch(cluster.store, self.scheduler, cluster.clock.seconds(), cluster.faults.append)
        self._feed = self.scheduler.feed
        self.scheduler.feed = self._watched_feed  # type: ignore[method-assign]
        self.feeds = 0
        self.sessions = Sessions(
            self.clock,
            self.dispatcher,
            self.store,
            self.blobs,
            self.uses,
            unthreaded,
            self._open_session,
            GRACE_S,
            KEEP_S,
        )
        self.events.follow(self.sessions.published)

    async def restore(self) -> None:
        """As a master does at its start."""
        for sha256 in sorted(await self.store.blobs()):
            self.uses.keep(sha256)
        unfinished = await self.store.unfinished()
        past = await past_of(self.store, unfinished)
        self.dispatcher.restore(unfinished, past, list(self.links))
        await self.dispatcher.units.restore()
        await self.sessions.restore()

    def wall_clock(self) -> float:
        """That of the cluster."""
        return self._cluster.wall_clock()

    def kill(self) -> None:
        """It does nothing any more."""
        self.is_dead = True
        self.dispatcher.stop()
        self.sessions.stop()

    async def _open_session(self, task: str, options: Mapping[str, object], request_key: str) -> InstanceId:
        packed = payload.pack({"task": task} | dict(options))
        fields = {"task_key": SESSION_TASK, "args": Payload(len(packed), packed), "request_key": request_key}
        instance, _ = await self.dispatcher.submit(self._cluster.new_instance(**fields))
        return instance

    def _watched_feed(self, now: float, given: Sequence[inputs.Input]) -> list[instructions.Instruction]:
        if self.is_dead:
            return []
        self.feeds += 1
        self.watch.leases.take(now, given)
        wanted = self._feed(now, given)
        self.watch.decided(now, wanted)
        return wanted

    def _send_to(self, node: NodeId, message: ToNode) -> None:
        if not self.is_dead:
            self._cluster.trail.note(f"to node {node}", msgspec.msgpack.encode(message))
            self.watch.sent(message)
            self.links[node].send(message)

    def publish(self, event: Event) -> int:
        """Events are part of the trail."""
        if not self.is_dead:
            self._cluster.trail.note("event", event)
        return self.events.publish(event)


class SimulatedNode(NodeBench):
    """A node whose disk takes time."""

    def __init__(self, directory: Path, cluster: SimulatedCluster, epochs: list[int]) -> None:
        plan = cluster.plan
        self._random = cluster.random
        self.disk = DiskThread(cluster.clock, cluster.random, plan.write)
        workers = ProgrammedWorkers(cluster.works, cluster.random, cluster.diary, cluster.clock)
        # Some nodes write at once what they may, the others leave all of it to the thread.
        quick_size = QUICK_SIZE if plan.seed % 2 else 0
        super().__init__(directory, cluster.clock, workers, plan.slots, CrashingJournal, quick_size)
        self.workers: ProgrammedWorkers = workers
        self.epochs = epochs
        self.disk.is_slow = True
        self._faults = cluster.faults
        self._send = self.delivery.send
        self.delivery.send = self._watched_send  # type: ignore[method-assign]
        self._receive = self.link.messages_received
        self.link.messages_received = self._watched_receive  # type: ignore[method-assign]
        self.told: dict[Attempt, int] = {}
        """The outcomes (0), and of batches how many results, that the master did not acknowledge."""

    def _watched_send(self, source: Attempt, message: ToMaster, blobs: Sequence[Blob] = ()) -> bool:
        """What the master must not miss is in the journal before it is sent."""
        unwritten = [kept.message for kept in self.outbox._kept if not kept.is_written]
        if any(each is message for each in unwritten):
            self._faults.append(f"{source} was told of, and not written before")
        match message:
            case UnitFinished(attempt):
                self.told[attempt] = 0
            case UnitsDone(batch=batch, start=start, results=results):
                self.told[batch] = max(self.told.get(batch, 0), start + len(results))
        return self._send(source, message, blobs)

    def _watched_receive(self, messages: Sequence[ToNode | ToMaster]) -> None:
        """What is acknowledged may be forgotten."""
        for message in messages:
            match message:
                case Recorded(attempts):
                    for attempt in attempts:
                        self.told.pop(attempt, None)
                case UnitsRecorded(batch, count):
                    if count >= self.told.get(batch, 0):
                        self.told.pop(batch, None)
        self._receive(messages)

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The disk takes its time."""
        return await self.disk(function, *arguments)

    def kept(self, has_power: bool) -> list[tuple[Attempt, int]]:
        """The outcomes (0), and of batches how many results, that a daemon after this one must have."""
        assert isinstance(self.journal, CrashingJournal)
        if not has_power and not self.journal.is_safe:
            return []
        kept = []
        for each in self.outbox._kept:
            match each.message:
                case UnitFinished(attempt) if each.is_written:
                    kept.append((attempt, 0))
                case UnitsDone(batch=batch, start=start, results=results) if each.is_written:
                    kept.append((batch, start + len(results)))
        return kept

    def has_kept(self, attempt: Attempt, count: int) -> bool:
        """It has this outcome, or so many results of this batch."""
        batch = self.outbox._batches.get(attempt)
        return attempt in self.outbox if count == 0 else batch is not None and batch.told >= count

    def crash(self, *, has_power: bool) -> None:
        """Be killed, with all workers; or lose the power, and what was not synced."""
        self.disk.is_dead = True
        self.workers.hold()  # whoever waits for one of these never gets it
        self.kill()
        assert isinstance(self.journal, CrashingJournal)
        if not has_power:
            self.journal.cut_off(self._random)
        for function, arguments in self.disk.under_way:
            if function.__name__ == "_write" and arguments[2] is None and has_power:
                self.journal.tear(arguments[0].records, self._random)
                break


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
        self.highest = 0
        self.set_by_s = 0.0
        """By how much the wall clock was set."""
        self.directory = directory
        self.numbers = range(1, plan.nodes + 1)
        self.check: Callable[[], None] = lambda: None
        self.nodes: dict[int, SimulatedNode] = {}
        self.cables: dict[int, SlowCable] = {}
        self.master = SimulatedMaster(directory / "master", self)
        for number in self.numbers:
            self.nodes[number] = SimulatedNode(directory / f"node{number}", self, [])
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
        link: NodeLink = self.master.links[NodeId(number)]
        cable = SlowCable(self.clock, self.random, self.plan.latency, link, self.nodes[number].link)
        before = self.cables.get(number)
        cable.cut_until = before.cut_until if before is not None else 0.0
        self.cables[number] = cable
        self.clock.callLater(self.random.uniform(0.1, 2.0), cable.plug_later)

    def restart_master(self, are_commits_made: bool, away_s: float) -> None:
        """The master is killed, and starts anew on its store; what it was committing is there, or is not."""
        self.trail.note("master killed", are_commits_made)
        self.master.kill()
        for cable in self.cables.values():
            cable.scrap("the master was killed")
        self.store.crash(are_commits_made)
        self.clock.advance(0)
        for client in self.clients:
            client.leave(away_s + self.random.uniform(0.1, 2.0))
        self.run(away_s)
        self.store.epoch += 1
        self.master = SimulatedMaster(self.directory / "master", self)
        result_of(Deferred.fromCoroutine(self.master.restore()))
        for number in self.numbers:
            self._join(number)

    def restart_node(self, number: int, *, has_power: bool) -> None:
        """A node is killed with all its workers, and starts anew."""
        self.trail.note("node killed", number)
        self.cables[number].scrap("the node was killed")
        before = self.nodes[number]
        kept = before.kept(has_power)
        before.crash(has_power=has_power)
        self.diary.lines.node_killed(before.workers.names, self.clock.seconds())
        node = self.nodes[number] = SimulatedNode(self.directory / f"node{number}", self, before.epochs)
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
        options = RunOptions(
            retries=work.retries, after=after, follow=follow, time_limit=work.time_limit
        )
        instance = self.new_instance(request_key=key, options=options)

        def answered(answer: tuple[InstanceId, bool]) -> None:
            known = self.answers.setdefault(key, answer[0])
            if known != answer[0]:
                self.faults.append(f"{key} was answered with {known}, and then with {answer[0]}")
            if work.is_cancelled:
                self.clock.callLater(work.duration / 2, self._cancel_later, answer[0])

        submitted = Deferred.fromCoroutine(self.master.dispatcher.submit(instance))
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
        while (calls := clock.getDelayedCalls()) and (at := calls[0].getTime()) <= end:  # they are sorted
            clock.advance(max(0.0, at - clock.seconds()))
            self.check()
        clock.advance(max(0.0, end - clock.seconds()))
