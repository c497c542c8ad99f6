# SPDX-License-Identifier: MIT
"""What everything that runs on a node needs, and how it gets a worker."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerListener, WorkerProcess, Workers
from pydra.cluster.node.askers import Askers
from pydra.cluster.node.attempt_log import AttemptLog
from pydra.cluster.node.exclusive import ExclusiveLeases
from pydra.cluster.node.log_delivery import LogDelivery
from pydra.cluster.node.outbox import Outbox
from pydra.cluster.node.package_cache import ArgumentCache, PackageCache
from pydra.cluster.node.room import Room
from pydra.cluster.wire.messages import HireWorker, RunUnit
from pydra.errors import SandboxError, WorkersUnavailable
from pydra.model.ids import Attempt, InstanceId

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between two asks for a worker while none can be started; then the attempt is given back."""

_log = Logger()


@attrs.frozen
class Surroundings:
    """The parts of a node."""

    clock: IReactorTime
    wall_clock: Callable[[], float]
    workers: Workers
    packages: PackageCache
    arguments: ArgumentCache
    outbox: Outbox
    room: Room
    askers: Askers
    logs: LogDelivery
    log_limit: int
    result_limit: int
    """Bytes of the result of one attempt."""
    leases: ExclusiveLeases

    def open_log(self, attempt: Attempt, instance: InstanceId, seal: bytes) -> AttemptLog:
        """The log of an attempt."""
        return AttemptLog(self.clock, self.wall_clock, self.logs, self.log_limit, attempt, instance, seal)

    def refusal(self) -> str:
        """Why nothing new can be begun here at the moment; empty if it can."""
        return self.outbox.refusal() or self.workers.refusal()

    async def take_worker(
        self, listener: WorkerListener, message: RunUnit | HireWorker, is_ended: Callable[[], bool]
    ) -> WorkerProcess:
        """
        A worker with the package of the message.

        It is waited for a while: what the machine is short of it may soon have. `WorkersUnavailable` if
        nothing can be begun here, which heartbeats tell; `SandboxError`, `LimitExceeded`.
        """
        attempt = message.attempt if isinstance(message, RunUnit) else message.worker
        own = f"{message.package}."
        # A built-in task is in no package.
        name = message.task_key.removeprefix(own) if message.task_key.startswith(own) else ""
        module = name.rpartition(".")[0]
        pauses = iter(PAUSES_S)
        while True:
            try:
                if refusal := self.outbox.refusal():
                    raise WorkersUnavailable(refusal)
                return await self.workers.take(
                    listener, message.package, message.version, message.needs, module
                )
            except WorkersUnavailable as fault:
                pause_s = next(pauses, None)
                if pause_s is None or is_ended():
                    if self.refusal():
                        raise
                    # Others begin here, so it must count as lost, or it would come again for ever.
                    raise SandboxError(str(fault)) from None
                _log.warn("Attempt {attempt} waits for a worker: {why}", attempt=str(attempt), why=str(fault))
                await deferLater(self.clock, pause_s)
