# SPDX-License-Identifier: MIT
"""A master and nodes, all of them real but for sockets, processes, disks and time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import Bulk, Link, LinkUser
from pydra.cluster.master.endings import past_of
from pydra.cluster.master.node_link import NodeLink
from pydra.cluster.master.sessions.register import Sessions
from pydra.cluster.node.delivery import Blob, Spoilt
from pydra.cluster.node.epoch import EpochFile
from pydra.cluster.node.journal_writer import QUICK_SIZE
from pydra.cluster.scheduler import inputs, instructions
from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import (
    Recorded,
    RunUnit,
    RunUnits,
    ToMaster,
    ToNode,
    UnitFinished,
    UnitsDone,
    UnitsRecorded,
)
from pydra.events import Event
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Payload
from pydra.model.unit import SESSION_TASK
from tests.simulation.disks import CrashingJournal, DiskThread, MastersStore, Pace
from tests.simulation.lines import SAFE_S
from tests.simulation.programs import ProgrammedWorkers
from tests.simulation.steps import MASTER
from tests.simulation.watch import Watch
from tests.simulation.wires import Port
from tests.support.cables import unthreaded
from tests.support.instances import node_record
from tests.support.node_links import LinkBench
from tests.support.nodes import NodeBench
from tests.support.pumps import result_of

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.support.fakes import MemoryStore

GRACE_S, KEEP_S = 30.0, 120.0
"""For the client of a session that is away."""


class MastersEnd:
    """The master at its end of the cable to one node."""

    number = MASTER

    def __init__(self, master: SimulatedMaster, link: NodeLink) -> None:
        self._master = master
        self.link_user: LinkUser = link

    stands_until = 0.0

    @property
    def is_dead(self) -> bool:
        """It was killed."""
        return self._master.is_dead


class SimulatedMaster(LinkBench):
    """A master with a link for each node, and sessions."""

    def __init__(self, directory: Path, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self.is_dead = False
        self.own_store = MastersStore(cluster.store, self.passed, lambda: self.is_dead)
        clock = cast("Clock", Pace(cluster.clock, cluster.plan.masters_pace, lambda: self.is_dead))
        super().__init__(directory, cast("MemoryStore", self.own_store), clock)
        self.ends = {
            number: MastersEnd(self, self.make_link(node_record(number))) for number in cluster.numbers
        }
        self.dispatcher._send = self._send_to
        self.dispatcher._heard = lambda node: self.link_to(node).heard
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
        self.task_logs._in_thread = self._archive

    async def _archive(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The file of a log is written, or read, at once."""
        self.passed("writes the archive")
        if self.is_dead:
            await Deferred()
        done = function(*arguments)
        self.passed("wrote the archive")
        if self.is_dead:
            await Deferred()
        return done

    async def restore(self) -> None:
        """As a master does at its start."""
        for sha256 in sorted(await self.store.blobs()):
            self.uses.keep(sha256)
        unfinished = await self.store.unfinished()
        past = await past_of(self.store, unfinished)
        begun = await self.store.running_units()
        self.dispatcher.restore(unfinished, past, [NodeId(number) for number in self.ends], begun)
        await self.dispatcher.units.restore()
        await self.sessions.restore()

    def wall_clock(self) -> float:
        """That of the cluster."""
        return self._cluster.wall_clock()

    def passed(self, doing: str) -> None:
        """It does something; a master that was deposed is not looked at any more."""
        if not self.is_dead and self._cluster.master is self:
            self._cluster.steps.passed(MASTER, doing)

    def kill(self) -> None:
        """It does nothing any more."""
        self.is_dead = True
        self.dispatcher.stop()
        self.sessions.stop()

    async def _open_session(self, task: str, options: Mapping[str, object], request_key: str) -> InstanceId:
        packed = payload.pack({"task": task} | dict(options))
        fields: dict[str, Any] = {
            "task_key": SESSION_TASK,
            "args": Payload(len(packed), packed),
            "request_key": request_key,
        }
        own = self._cluster.works.options(self._cluster.highest + 1)
        fields |= {"options": msgspec.structs.replace(own, retries=0)}
        instance, _ = await self.dispatcher.submit(self._cluster.new_instance(**fields))
        return instance

    def _watched_feed(self, now: float, given: Sequence[inputs.Input]) -> list[instructions.Instruction]:
        if self.is_dead:
            return []
        self.feeds += 1
        self.watch.leases.take(now, given)
        wanted = self._feed(now, given)
        self.watch.decided(now, wanted)
        self._cluster.stopwatch.decided(now, wanted)
        for name in dict.fromkeys(type(each).__name__ for each in wanted):
            self.passed(f"decides {name}")
        return wanted

    def _send_to(self, node: NodeId, message: ToNode) -> None:
        if not self.is_dead:
            self._cluster.trail.note(f"to node {node}", msgspec.msgpack.encode(message))
            self.watch.sent(message)
            self.link_to(node).send(message)

    def link_to(self, node: NodeId) -> NodeLink:
        """The end of the link to a node."""
        link = self.ends[node].link_user
        assert isinstance(link, NodeLink)
        return link

    def publish(self, event: Event) -> int:
        """Events are part of the trail."""
        if not self.is_dead:
            self._cluster.trail.note("event", event)
        return self.events.publish(event)


class SimulatedNode(NodeBench):
    """A node whose disk takes time."""

    def __init__(self, directory: Path, cluster: SimulatedCluster, number: int) -> None:
        plan = cluster.plan
        self.number = number
        self.port = Port()
        self.is_dead = False
        self._cluster = cluster
        self._random = cluster.random
        self._epoch = EpochFile(directory / "epoch", self.in_thread)
        self._stood_at = self.stands_until = 0.0
        self._waiting: deque[Callable[[], object]] = deque()
        """What came while it stands still."""
        self.disk = DiskThread(cluster.clock, cluster.random, plan.write, self.passed)
        about = (cluster.works, cluster.random, cluster.diary, cluster.clock)
        workers = ProgrammedWorkers(*about, self.passed, self.when_it_goes)
        directory.mkdir(parents=True, exist_ok=True)
        self._pace = Pace(cluster.clock, plan.nodes_pace, lambda: self.is_dead)
        clock = cast("Clock", self._pace)
        # Some nodes write at once what they may, the others leave all of it to the thread.
        quick_size = QUICK_SIZE if plan.seed % 2 else 0
        super().__init__(directory, clock, workers, plan.slots, CrashingJournal, quick_size)
        result_of(Deferred.fromCoroutine(self._epoch.load()))
        self.workers: ProgrammedWorkers = workers
        self.link_user: LinkUser = self.link
        self.disk.is_slow = True
        self._faults = cluster.faults
        self._send = self.delivery.send
        self.delivery.send = self._watched_send  # type: ignore[method-assign]
        self._receive = self.link.messages_received
        self.link.messages_received = self._watched_receive  # type: ignore[method-assign]
        self._link_up, self._link_down = self.link.link_up, self.link.link_down
        self.link.link_up = self._watched_up  # type: ignore[method-assign]
        self.link.link_down = self._watched_down  # type: ignore[method-assign]
        self.told: dict[Attempt, int] = {}
        """The outcomes (0), and of batches how many results, that the master did not acknowledge."""
        self._guarded: set[Attempt] = set()
        """Attempts and batches with a guarantee of which nothing was told."""

    def passed(self, doing: str) -> None:
        """It does something."""
        if not self.is_dead:
            self._cluster.steps.passed(self.number, doing)

    def wall_clock(self) -> float:
        """That of the cluster."""
        return self._cluster.wall_clock()

    async def accept_epoch(self, epoch: int) -> bool:
        """As a real node does."""
        return await self._epoch.accept(epoch)

    def _watched_send(
        self, source: Attempt, message: ToMaster, blobs: Sequence[Blob] = (), spoilt: Spoilt | None = None
    ) -> bool:
        """What the master must not miss is in the journal before it is sent."""
        unwritten = [kept.message for kept in self.outbox._kept if not kept.is_written]
        if any(each is message for each in unwritten):
            self._faults.append(f"{source} was told of, and not written before")
        about = message.batch if isinstance(message, UnitsDone) else source
        if about in self._guarded and isinstance(message, UnitsDone | UnitFinished):
            self._guarded.discard(about)
            assert isinstance(self.journal, CrashingJournal)
            if not self.journal.is_safe:
                self._faults.append(f"{about} has a guarantee, and was told of before it was synced")
        match message:
            case UnitFinished(attempt):
                self.told[attempt] = 0
            case UnitsDone(batch=batch, start=start, results=results):
                self.told[batch] = max(self.told.get(batch, 0), start + len(results))
        return self._send(source, message, blobs, spoilt)

    # Standing still.

    def stand_still(self, seconds: float) -> None:
        """Its daemon is stopped for a while; its launcher and its workers go on."""
        clock = self._cluster.clock
        self._stood_at = clock.seconds()
        self._stand_until(self._stood_at + seconds)
        clock.callLater(seconds, self._go_on)

    def go_on(self) -> None:
        """Its daemon stands still no more."""
        self._stand_until(self._cluster.clock.seconds())
        self._go_on()

    def was_at_work(self) -> float:
        """When it was up to date last: now, unless it stands still, or did so just now."""
        now = self._cluster.clock.seconds()
        return self._stood_at if now < self.stands_until + SAFE_S else now

    def _stand_until(self, at: float) -> None:
        self.stands_until = self.disk.stands_until = at
        self._pace.stand_still(at)

    def _go_on(self) -> None:
        while self._waiting and not self.is_dead and not self._stands_still:
            self._waiting.popleft()()

    @property
    def _stands_still(self) -> bool:
        return self.stands_until > self._cluster.clock.seconds()

    def when_it_goes(self, call: Callable[[], object]) -> None:
        """Something comes to it: now, or after all that came before, as soon as it goes on."""
        if self._waiting or self._stands_still:
            self._waiting.append(call)
        else:
            call()

    def _watched_up(self, link: Link, bulk: Bulk) -> None:
        self.when_it_goes(lambda: self._link_up(link, bulk))

    def _watched_down(self, reason: str) -> None:
        self.when_it_goes(lambda: self._link_down(reason))

    def _watched_receive(self, messages: Sequence[ToNode | ToMaster]) -> None:
        self.when_it_goes(lambda: self._take(messages))

    def _take(self, messages: Sequence[ToNode | ToMaster]) -> None:
        """What is acknowledged may be forgotten."""
        for message in messages:
            match message:
                case RunUnit(attempt) | RunUnits(batch=attempt) if message.guarantee:
                    self._guarded.add(attempt)
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

    def fall(self) -> None:
        """Nothing that it does, or its workers do, leaves it from now on."""
        self.is_dead = self.disk.is_dead = True
        self.workers.hold()  # whoever waits for one of these never gets it
        for worker in self.workers.taken:
            worker.is_gone = True

    def crash(self, *, has_power: bool) -> None:
        """Be killed, with all workers; or lose the power, and what was not synced."""
        self.fall()
        self.kill()
        assert isinstance(self.journal, CrashingJournal)
        if not has_power:
            self.journal.cut_off(self._random)
        for function, arguments in self.disk.under_way:
            if function.__name__ == "_write" and len(arguments) == 3 and arguments[2] is None and has_power:
                self.journal.tear(arguments[0].records, self._random)
                break
