# SPDX-License-Identifier: MIT
"""The composition root of the node: it makes everything and hands it what it needs."""

from __future__ import annotations

import functools
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from pydra.cluster.auth.identity import Identity
from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.interfaces import InThread
from pydra.cluster.node.askers import Askers
from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.epoch import EpochFile
from pydra.cluster.node.exclusive import ExclusiveLeases
from pydra.cluster.node.hired_workers import HiredWorkers
from pydra.cluster.node.information import available_cores, information, stones
from pydra.cluster.node.journal import Journal
from pydra.cluster.node.journal_writer import JournalWriter
from pydra.cluster.node.log_delivery import LogDelivery
from pydra.cluster.node.master_link import MasterLink
from pydra.cluster.node.outbox import Outbox
from pydra.cluster.node.package_cache import ArgumentCache, PackageCache
from pydra.cluster.node.room import Room
from pydra.cluster.node.spool import Spool
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.node.units import Tell, Units
from pydra.cluster.packages.repository import Repository
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.sandbox.launcher.deadlines import boottime
from pydra.cluster.sandbox.priming import Budget
from pydra.cluster.sandbox.site_limits import site_limits
from pydra.cluster.sandbox.warm_pool import WarmPool
from pydra.cluster.wire.listen import MasterListener
from pydra.config import Settings

FILE_THREADS = 2


class NodeService:
    """A node from its start to its stop."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,  # IReactorTime, IReactorTCP, IReactorThreads, IReactorFDSet and IReactorCore at once
        settings: Settings,
        identity: Identity,
        launcher: socket.socket,
        isolation: str,
    ) -> None:
        self._reactor = reactor
        self._files, self._installing = ThreadPool(0, FILE_THREADS, "files"), ThreadPool(0, 1, "pip")
        self._in_thread: InThread = functools.partial(deferToThreadPool, reactor, self._files)
        slots, offer = settings.WORKERS or available_cores(), (settings.LABELS, settings.RESOURCES)
        limits = site_limits(settings, str(settings.runtime), isolation)
        primed = Budget(workers=slots, memory=settings.PRIMED_MEMORY_MB * 1024 * 1024)
        self._workers = WarmPool(reactor, launcher, slots, limits, self._launcher_lost, primed)
        self.broken = ""
        self._epoch = EpochFile(settings.runtime / "epoch", self._in_thread)
        delivery = Delivery(reactor)
        self._master_link = MasterLink(
            reactor,
            incarnation=secrets.token_hex(16),
            slots=slots,
            describe_node=functools.partial(information, isolation, stones(), *offer),
            delivery=delivery,
            accept_epoch=self._epoch.accept,
            heartbeat_s=settings.HEARTBEAT_S,
            orphan_grace_s=settings.ORPHAN_GRACE_S,
        )
        tell = self._master_link.tell
        self._make_packages(settings, tell)
        self._logs = LogDelivery(reactor, settings.runtime / "task_logs", self._in_thread, tell)
        writer, limit = self._make_journal(settings), settings.OUTBOX_LIMIT_MB * 2**20
        self._outbox = Outbox(writer, delivery, limit)
        make_spool = functools.partial(Spool, outbox_directory(settings), self._in_thread)
        arguments = ArgumentCache(tell, make_spool)
        self._leases = ExclusiveLeases(reactor, boottime, settings.EXCLUSIVE_STOP_S)
        around = Surroundings(
            reactor,
            time.time,  # noqa: TID251 - the one wall clock of this daemon
            self._workers,
            self._packages,
            arguments,
            self._outbox,
            Room(reactor, writer, limit),
            Askers(reactor, delivery, arguments.fetch),
            self._logs,
            settings.LOG_LIMIT,
            settings.RESULT_LIMIT_MB * 2**20,
            self._leases,
        )
        self._master_link.serve(around, Units(around, tell), HiredWorkers(around, delivery))
        self._listener = MasterListener(
            reactor,
            DaemonTLS(identity),
            settings.NODE_INTERFACE,
            settings.PORT,
            settings.MASTER_FINGERPRINT,
            self._master_link,
        )

    def _make_packages(self, settings: Settings, tell: Tell) -> None:
        cache = cache_directory(settings)
        self._repository = Repository(cache)
        pip_thread: InThread = functools.partial(deferToThreadPool, self._reactor, self._installing)
        self._environments = Environments(self._reactor, settings, cache, self._in_thread, pip_thread)
        limit = settings.PACKAGE_CACHE_MB * 2**20
        self._packages = PackageCache(self._repository, self._in_thread, tell, limit, self._environments)

    def _make_journal(self, settings: Settings) -> JournalWriter:
        self._journalling = ThreadPool(1, 1, "outbox")
        in_thread: InThread = functools.partial(deferToThreadPool, self._reactor, self._journalling)
        return JournalWriter(self._reactor, Journal(outbox_directory(settings)), in_thread)

    async def start(self) -> int:
        """Keep workers warm and listen for the master; answers the port."""
        self._files.start()
        self._installing.start()
        self._journalling.start()
        await self._environments.start()
        await self._epoch.load()
        await self._in_thread(self._repository.sweep)
        await self._packages.load()
        await self._logs.load()
        await self._outbox.load()
        await self._workers.start()
        port = self._listener.start()
        self.log.info("The node listens on port {port}", port=port)
        return port

    async def stop(self) -> None:
        """End all workers and every connection."""
        await self._listener.stop()
        self._master_link.stop()
        self._leases.stop()
        await self._workers.stop()
        await self._logs.stop()
        await self._outbox.close()
        self._journalling.stop()
        self._environments.stop()
        self._installing.stop()
        self._files.stop()

    def _launcher_lost(self) -> None:
        """Without workers there is no node: a new start brings both, and the master gives the work again."""
        self.broken = "the launcher process ended, and all workers with it"
        self._master_link.leave(self.broken)
        with suppress(ReactorNotRunning):  # it is stopping already
            self._reactor.stop()


def outbox_directory(settings: Settings) -> Path:
    """Where a node keeps results until they are recorded, and large arguments on their way to a worker."""
    return settings.runtime / "outbox"


def cache_directory(settings: Settings) -> Path:
    """Where a node keeps package versions; its launcher fills sandboxes from there."""
    return settings.runtime / "packages"
