# SPDX-License-Identifier: MIT
"""The composition root of the master: it makes everything and hands it what it needs."""

from __future__ import annotations

import functools
import random
import socket
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from pydra.cluster.auth.identity import Identity
from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.controller.functions import commands_of
from pydra.cluster.controller.session_messages import SUBPROTOCOL
from pydra.cluster.controller.web.authentication import Authentication
from pydra.cluster.controller.web.interface import ControllerService
from pydra.cluster.interfaces import Commands, InThread, LinkUser, Store
from pydra.cluster.master.commands.explanations import ExplanationCommands
from pydra.cluster.master.commands.history import HistoryCommands
from pydra.cluster.master.commands.instances import InstanceCommands
from pydra.cluster.master.commands.nodes import NodeCommands
from pydra.cluster.master.commands.pauses import PauseCommands
from pydra.cluster.master.commands.submissions import Submissions
from pydra.cluster.master.commands.tasks import TaskCommands
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.endings import past_of
from pydra.cluster.master.event_log import EventLog
from pydra.cluster.master.logs.archive import LogArchive
from pydra.cluster.master.logs.keeping import LogKeeping
from pydra.cluster.master.logs.seal import LogSeal, load_secret
from pydra.cluster.master.logs.task_logs import TaskLogs
from pydra.cluster.master.node_link import NodeLink, Surroundings
from pydra.cluster.master.packages.describer import Describer
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.master.packages.old_versions import OldVersions
from pydra.cluster.master.packages.unpacking import Unpacking
from pydra.cluster.master.packages.uploads import Uploads
from pydra.cluster.master.payloads.unclaimed import Payloads
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.roster import Dialer, Roster
from pydra.cluster.master.sessions.register import Sessions
from pydra.cluster.packages.repository import Repository
from pydra.cluster.packages.uploaded import UploadedPackages
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.sandbox.warm_pool import WarmPool
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.policies import make_policy
from pydra.cluster.store.blobs import Blobs
from pydra.cluster.store.store import DjangoStore
from pydra.cluster.wire.dial import NodeDialer
from pydra.config import Settings
from pydra.model.node import Node

FILE_THREADS = 2
"""Threads for packages and blobs; task logs have one of their own, which keeps their order."""


class MasterService:
    """A master from its start to its stop."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,  # IReactorTime, IReactorTCP, IReactorThreads, IReactorFDSet and IReactorCore at once
        settings: Settings,
        identity: Identity,
        administrator: bytes,
        launcher: socket.socket,
        isolation: str,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._identity = identity
        self._administrator = administrator
        self._isolation = isolation
        self._pools = [
            ThreadPool(0, FILE_THREADS, "files"),
            ThreadPool(0, 1, "task logs"),
            ThreadPool(0, 1, "pip"),
        ]
        self._stops = AsyncExitStack()
        self._workers = WarmPool(reactor, launcher, size=1, lost=self._launcher_lost)
        self.broken = ""
        self._wall_clock = time.time  # noqa: TID251 - the one wall clock of this daemon

    async def start(self) -> int:
        """
        Open the store, rebuild what was unfinished, connect to the nodes, serve; answers the API's port.
        """
        stops = self._stops
        for pool in self._pools:
            pool.start()
            stops.callback(pool.stop)
        self._store = await DjangoStore.open(self._settings.database, self._reactor, self._fatal)
        stops.push_async_callback(self._store.close)
        await self._make(self._store)
        stops.callback(self._dispatcher.stop)
        stops.callback(self._payloads.stop)
        stops.callback(self._sessions.stop)
        await self._workers.start()
        stops.push_async_callback(self._workers.stop)
        self._library.start()
        stops.callback(self._describer.stop)
        stops.callback(self._library.stop)
        stops.callback(self._environments.stop)
        self._old_versions.start()
        stops.callback(self._old_versions.stop)
        self._log_keeping.start()
        stops.callback(self._log_keeping.stop)
        self._roster.start(self._link)
        stops.push_async_callback(self._roster.stop)
        port = await self._controller.start()
        stops.push_async_callback(self._controller.stop)
        self.log.info(
            "The controller API listens on port {port} (epoch {epoch})", port=port, epoch=self._store.epoch
        )
        return port

    async def stop(self) -> None:
        """
        Stop what was started, the last first: take no more calls, drop the links (nodes go on with their
        work), end the sandboxes, close the store.
        """
        await self._stops.aclose()

    async def _make(self, store: DjangoStore) -> None:
        reactor, settings, wall_clock = self._reactor, self._settings, self._wall_clock
        files, log_file = (self._in_thread(pool) for pool in self._pools[:2])
        limits = Limits(
            suspect_s=settings.SUSPECT_S,
            lease_s=settings.LEASE_S,
            exclusive_s=settings.EXCLUSIVE_LEASE_S,
            stop_grace_s=settings.STOP_GRACE_S,
            loss_limit=settings.LOSS_LIMIT,
        )
        self._events = EventLog(reactor, store.epoch)
        self._scheduler = Scheduler(
            store.epoch, limits, make_policy(settings.PLACEMENT, random.SystemRandom())
        )
        self._blobs = Blobs(settings.runtime / "blobs")
        stored = await store.blobs()
        await files(self._blobs.sweep, stored)
        self._uses = BlobUses(functools.partial(files, self._blobs.remove), stored)
        self._roster = Roster(store, wall_clock, self._events.publish, self._dial)
        await self._roster.load(settings.NODES)
        self._dispatcher = Dispatcher(
            reactor,
            wall_clock,
            self._scheduler,
            store,
            self._roster.send,
            self._roster.worker_key,
            self._events.publish,
            self._stop_broken,
            self._uses,
            self._roster.heard,
        )
        await self._make_packages(store, files)
        await self._make_logs(files, log_file)
        self._files = files
        self._payloads = Payloads(reactor, self._blobs, self._uses, files)
        unfinished = await store.unfinished()
        nodes = [node.id for node in self._roster.nodes()]
        begun = await store.running_units()
        self._dispatcher.restore(unfinished, await past_of(store, unfinished), nodes, begun)
        await self._dispatcher.units.restore()
        commands = await self._commands(store, files)
        self._events.follow(self._sessions.published)
        await self._sessions.restore()
        authentication = Authentication(reactor, self._identity, self._administrator)
        self._controller = ControllerService(
            reactor,
            self._wall_clock,
            self._identity,
            settings.HOST,
            settings.CONTROLLER_PORT,
            commands,
            authentication,
            open_upload=self._uploads.open,
            speakers={SUBPROTOCOL: self._sessions.connect},
            open_payload=self._payloads.open,
            open_result=self._instances.open_result,
        )

    async def _make_packages(self, store: Store, files: InThread) -> None:
        reactor, settings = self._reactor, self._settings
        self._describer = Describer(reactor, self._wall_clock, self._workers)
        repository = Repository(cache_directory(settings))
        await files(repository.sweep)
        self._environments = Environments(
            reactor, settings, cache_directory(settings), files, self._in_thread(self._pools[2])
        )
        await self._environments.start()
        self._library = PackageLibrary(
            reactor,
            settings.tasks_dir,
            UploadedPackages(settings.runtime / "uploaded"),
            repository,
            store,
            self._describer,
            self._environments,
            files,
            self._events.publish,
            settings.SCAN_S,
        )
        self._uploads = Uploads(
            settings.runtime / "uploads",
            self._library,
            Unpacking(reactor, self._workers, repository, files),
            files,
        )
        self._old_versions = OldVersions(
            reactor, repository, files, self._library, self._dispatcher.live, settings.KEEP_VERSIONS
        )

    async def _make_logs(self, files: InThread, log_file: InThread) -> None:
        settings, directory = self._settings, self._settings.runtime / "task_logs"
        archive = LogArchive(directory, settings.LOG_LIMIT)
        self._task_logs = TaskLogs(self._reactor, archive, log_file, self._events.wake)
        self._log_seal = LogSeal(await files(load_secret, directory / "seal.key"))
        self._log_keeping = LogKeeping(
            self._reactor,
            self._wall_clock,
            archive,
            files,
            log_file,
            self._dispatcher.live,
            settings.LOG_KEEP_DAYS,
            settings.LOG_ARCHIVE_MB * 2**20,
        )

    def _make_sessions(self, store: Store, files: InThread, submissions: Submissions) -> Sessions:
        return Sessions(
            self._reactor,
            self._dispatcher,
            store,
            self._blobs,
            self._uses,
            files,
            submissions.open_session,
            self._settings.SESSION_GRACE_S,
            self._settings.SESSION_KEEP_S,
        )

    async def _commands(self, store: Store, files: InThread) -> Commands:
        seconds = self._reactor.seconds
        tasks = TaskCommands(self._library, store)
        submissions = Submissions(
            self._library,
            self._describer,
            self._dispatcher,
            self._blobs,
            self._uses,
            self._payloads,
            files,
            self._wall_clock,
            await store.highest_instance(),
        )
        self._sessions = self._make_sessions(store, files, submissions)
        self._instances = instances = InstanceCommands(
            self._dispatcher, self._scheduler, store, self._events, self._blobs, files, seconds
        )
        history = HistoryCommands(
            store, instances, self._library, self._task_logs, self._events, seconds, self._log_keeping.rule
        )
        nodes = NodeCommands(
            self._roster, self._scheduler, self._dispatcher, self._store.epoch, self._isolation
        )
        explanations = ExplanationCommands(instances, self._scheduler, self._roster, self._wall_clock)
        pauses = PauseCommands(instances, self._dispatcher, self._scheduler)
        return commands_of(tasks, submissions, instances, history, nodes, explanations, pauses)

    def _link(self, node: Node) -> NodeLink:
        return NodeLink(
            node,
            Surroundings(
                clock=self._reactor,
                epoch=self._store.epoch,
                heartbeat_s=self._settings.HEARTBEAT_S,
                dispatcher=self._dispatcher,
                task_logs=self._task_logs,
                seal=self._log_seal,
                packages=self._library,
                blobs=self._blobs,
                uses=self._uses,
                in_thread=self._files,
                connected=self._roster.connected,
                disconnected=self._roster.disconnected,
            ),
        )

    def _dial(self, node: Node, user: LinkUser) -> Dialer:
        return NodeDialer(
            self._reactor,
            DaemonTLS(self._identity),
            node.host,
            node.port,
            node.fingerprint,
            user,
            random.SystemRandom(),
        )

    def _in_thread(self, pool: ThreadPool) -> InThread:
        return functools.partial(deferToThreadPool, self._reactor, pool)

    def _fatal(self, reason: str) -> None:
        """The disk failed under the store: what it holds is only sure after a clean start."""
        self._stop_broken(f"the store cannot be relied on any more: {reason}")

    def _launcher_lost(self) -> None:
        """Without a sandbox no package can be described and no form asked; a new start brings it again."""
        self._stop_broken("the launcher process ended")

    def _stop_broken(self, reason: str) -> None:
        self.broken = reason
        self.log.critical("The master stops: {reason}", reason=reason)
        with suppress(ReactorNotRunning):  # it is stopping already
            self._reactor.stop()


def cache_directory(settings: Settings) -> Path:
    """Where the master keeps package versions; its launcher fills sandboxes from there."""
    return settings.runtime / "packages"
