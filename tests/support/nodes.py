# SPDX-License-Identifier: MIT
"""A node without processes and network, on a clock: units, workers, caches, and a master that tests play."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.node.askers import Askers
from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.exclusive import ExclusiveLeases
from pydra.cluster.node.hired_workers import HiredWorkers
from pydra.cluster.node.journal import Journal
from pydra.cluster.node.journal_writer import JournalWriter
from pydra.cluster.node.log_delivery import LogDelivery
from pydra.cluster.node.master_link import MasterLink
from pydra.cluster.node.outbox import Outbox
from pydra.cluster.node.package_cache import ArgumentCache, PackageCache
from pydra.cluster.node.room import Room
from pydra.cluster.node.spool import Spool
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.node.units import Units
from pydra.cluster.packages.repository import Repository
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.wire.log_records import unpack_lines
from pydra.cluster.wire.messages import (
    PROTOCOL,
    HireWorker,
    MasterHello,
    RunUnit,
    RunUnits,
    ToMaster,
    ToNode,
    UnitLog,
)
from pydra.config import Settings
from pydra.model.ids import Attempt, InstanceId, PackageName, TaskKey, WorkerKey
from pydra.model.instance import LogLine, Payload
from pydra.model.node import NodeInformation
from tests.support.cables import Cable, Peer, unthreaded
from tests.support.instances import VERSION
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker, ScriptedWorkers

INFORMATION = NodeInformation(2, 4096, 2048, 150, "none", "0.1.0", "3.11.7", "Linux")
WALL_TIME = 1_700_000_000.0
HEARTBEAT_S = 5.0
EXCLUSIVE_STOP_S = 30.0
ORPHAN_GRACE_S = 600.0
LOG_LIMIT = 1_000_000
CACHE_LIMIT = 1_000_000
OUTBOX_LIMIT = 30_000_000

RESULT_LIMIT = 12_000_000
ARGUMENTS = Payload(1, b"\x80")


def unit(number: int = 1, **fields: Any) -> RunUnit:
    """The message that runs instance ``number`` as attempt 1.``number``; any field can be given."""
    message = RunUnit(
        Attempt(1, number),
        InstanceId(number),
        TaskKey("demo.tasks.Count"),
        PackageName("demo"),
        VERSION,
        ARGUMENTS,
        WorkerKey("node1:11890:0"),
    )
    return msgspec.structs.replace(message, **fields)


def hire(number: int = 50, **fields: Any) -> HireWorker:
    """The message that hires a worker for instance 1 as attempt 1.``number``."""
    root = unit()
    message = HireWorker(
        Attempt(1, number), root.instance, root.task_key, root.package, root.version, root.worker
    )
    return msgspec.structs.replace(message, **fields)


def batch(count: int, number: int = 100, worker: int = 50, **fields: Any) -> RunUnits:
    """The message that gives units 0 and so on of branch ``Sub`` to worker 1.``worker``."""
    args = [bytes([index % 128]) for index in range(count)]
    message = RunUnits(
        Attempt(1, worker), Attempt(1, number), "Sub", list(range(count)), args, bytes(16 * count)
    )
    return msgspec.structs.replace(message, **fields)


class NodeBench:
    """
    ``master`` is played by the test: what the node says to it is in ``master.take()`` after ``settle``.

    The package of ``unit()`` is there.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock | None = None,
        workers: ScriptedWorkers | None = None,
        slots: int = 2,
        make_journal: Callable[[Path], Journal] = Journal,
        quick_size: int = 0,
    ) -> None:
        self.clock = clock or Clock()
        self.workers = workers or ScriptedWorkers(self.clock)
        self.epochs: list[int] = []
        self.is_dead = False
        self._slow: list[Deferred[None]] | None = None
        self.delivery = Delivery(self.clock)
        self.journal = make_journal(directory / "outbox")
        writer = JournalWriter(self.clock, self.journal, self.in_thread, quick_size)
        self.outbox = Outbox(writer, self.delivery, OUTBOX_LIMIT)
        self.link = MasterLink(
            self.clock,
            incarnation="incarnation",
            slots=slots,
            describe_node=lambda: INFORMATION,
            delivery=self.delivery,
            accept_epoch=self.accept_epoch,
            heartbeat_s=HEARTBEAT_S,
            orphan_grace_s=ORPHAN_GRACE_S,
        )
        (directory / "packages" / "demo" / VERSION).mkdir(parents=True, exist_ok=True)
        self.packages = PackageCache(
            Repository(directory / "packages"),
            unthreaded,
            self.link.tell,
            CACHE_LIMIT,
            Environments(self.clock, Settings(), directory / "packages", unthreaded, unthreaded),
        )
        self.arguments = ArgumentCache(self.link.tell, self.make_spool)
        self.logs = LogDelivery(self.clock, directory / "task_logs", self.in_thread, self.link.tell)
        result_of(Deferred.fromCoroutine(self.logs.load()))
        result_of(Deferred.fromCoroutine(self.outbox.load()))
        self.askers = Askers(self.clock, self.delivery, self.arguments.fetch)
        around = Surroundings(
            self.clock,
            self.wall_clock,
            self.workers,
            self.packages,
            self.arguments,
            self.outbox,
            Room(self.clock, writer, OUTBOX_LIMIT),
            self.askers,
            self.logs,
            *(LOG_LIMIT, RESULT_LIMIT, ExclusiveLeases(self.clock, self.clock.seconds, EXCLUSIVE_STOP_S)),
        )
        self.leases = around.leases
        self.units = Units(around, self.link.tell)
        self.hired = HiredWorkers(around, self.delivery)
        self.link.serve(around, self.units, self.hired)
        self.master = Peer()
        self.cable = Cable(self.master, self.link)

    def make_spool(self) -> Spool:
        """Where large arguments go."""
        return Spool(self.journal.directory, self.in_thread)

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the files of logs and of the outbox are used by; of a dead node they are not."""
        if self.is_dead:
            await Deferred()
        if self._slow is not None:
            waiting: Deferred[None] = Deferred()
            self._slow.append(waiting)
            await waiting
        return function(*arguments)

    def hold_disk(self) -> None:
        """Files are slow."""
        self._slow = []

    def release_disk(self) -> None:
        """All that was to be written is."""
        held, self._slow = self._slow or [], None
        for waiting in held:
            waiting.callback(None)

    def kill(self) -> None:
        """As by SIGKILL, with all workers: what was written is there, and nothing happens any more."""
        self.is_dead = True
        self.link.stop()
        self.leases.stop()
        self.logs.halt()
        self.delivery.close()
        self.journal.close()
        for worker in self.workers.taken:
            worker.is_gone = True

    def wall_clock(self) -> float:
        """UTC seconds."""
        return WALL_TIME + self.clock.seconds()

    async def accept_epoch(self, epoch: int) -> bool:
        """True if it is the highest so far."""
        self.epochs.append(epoch)
        return epoch == max(self.epochs)

    def plug(self) -> list[ToMaster]:
        """Connect; what the node says at once."""
        self.cable.plug()
        return self.settle()

    def greet(self, epoch: int = 1) -> list[ToMaster]:
        """Connect, and the master says hello; what the node says then."""
        assert [] == self.plug()
        return self.tell(MasterHello(PROTOCOL, epoch, "0.1.0"))

    def tell(self, *messages: ToNode) -> list[ToMaster]:
        """The master says something; what the node says then."""
        for message in messages:
            self.cable.master.send(message)
        return self.settle()

    def settle(self) -> list[ToMaster]:
        """All that is under way arrives; what the node said."""
        self.cable.settle()
        return self.master.take()

    def advance(self, seconds: float) -> list[ToMaster]:
        """Let time pass; what the node said then."""
        self.clock.advance(seconds)
        return self.settle()

    def run(self, number: int = 1, **fields: Any) -> ScriptedWorker:
        """The master sends a unit; the worker that was taken for it."""
        before = len(self.workers.taken)
        self.tell(unit(number, **fields))
        [worker] = self.workers.taken[before:]
        return worker

    def close(self) -> None:
        """Pull the cable and stop; no timer may be left when the workers are gone."""
        self.cable.pull()
        self.link.stop()
        self.clock.advance(1)
        self.units.kill_all("The test is over.")
        self.hired.kill_all("The test is over.")
        self.clock.advance(1)
        result_of(Deferred.fromCoroutine(self.logs.stop()))
        self.delivery.close()
        result_of(Deferred.fromCoroutine(self.outbox.close()))
        assert [] == self.clock.getDelayedCalls()


def lines(messages: list[ToMaster]) -> list[LogLine]:
    """All lines."""
    logs = [message for message in messages if isinstance(message, UnitLog)]
    return [line for message in logs for line in unpack_lines(message.record.lines)]


def texts(messages: list[ToMaster]) -> list[str]:
    """The texts of all lines."""
    return [line.text for line in lines(messages)]
