# SPDX-License-Identifier: MIT
"""Has modules imported ahead in workers that the pool can spare: one at a time, so that tasks come first."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerListener
from pydra.cluster.sandbox.descriptors import Reactor
from pydra.cluster.sandbox.priming import Budget, PrimedWorker, Priming, Subject
from pydra.cluster.sandbox.worker_process import SandboxedWorker, Stage
from pydra.cluster.wire.frames import PRIME
from pydra.errors import PydraError

PRIME_S = 20.0
"""Seconds that a module has for being imported."""


class Source(Protocol):
    """Where workers come from."""

    def spare(self) -> SandboxedWorker | None:
        """An unused worker that nobody waits for."""
        ...

    async def fill(self, worker: SandboxedWorker, subject: Subject) -> None:
        """Have in it what a task of the subject needs. `SandboxError`, `LimitExceeded`."""
        ...


class Primer:
    """Keeps workers primed with what is in use, within a budget."""

    log = Logger()

    def __init__(self, reactor: Reactor, source: Source, budget: Budget) -> None:
        self._reactor = reactor
        self._source = source
        self._priming = Priming(reactor.seconds, budget)
        self._current: PrimedWorker | None = None
        """The one that imports now."""
        self._deadline: IDelayedCall | None = None
        self._closed = False

    @property
    def is_idle(self) -> bool:
        """True if it holds no worker."""
        return self._priming.is_empty

    def take(self, subject: Subject, listener: WorkerListener) -> SandboxedWorker | None:
        """A worker that has imported the subject, which is in use now; None if there is none."""
        self._priming.used(subject)
        primed = self._priming.take(subject)
        return primed.hand_over(listener) if primed is not None else None

    def advance(self) -> None:
        """Do what is to be done next, if a worker can be spared for it; end those of no more use."""
        if self._closed:
            return
        for primed in self._priming.surplus():
            self._priming.remove(primed)
            primed.worker.kill()
        subject = self._priming.next() if self._current is None else None
        worker = self._source.spare() if subject is not None else None
        if subject is None or worker is None:
            return
        primed = self._current = PrimedWorker(worker, subject, self._told, self._gone)
        self._priming.add(primed)
        self._deadline = self._reactor.callLater(PRIME_S, self._told, primed, "it took too long")
        self._start(primed, self._prime(primed))

    def close(self) -> None:
        """Prime nothing more; the workers are the pool's to end."""
        self._closed = True
        self._priming.clear()
        self._finish()

    def _start(self, primed: PrimedWorker, priming: Coroutine[Deferred[Any], Any, None]) -> None:
        def failed(fault: object) -> None:
            self.log.error("A worker could not be primed: {fault}", fault=fault)
            self._told(primed, "a fault in Pydra")

        Deferred.fromCoroutine(priming).addErrback(failed)

    async def _prime(self, primed: PrimedWorker) -> None:
        subject, worker = primed.subject, primed.worker
        try:
            await self._source.fill(worker, subject)
        except PydraError as fault:
            self._told(primed, str(fault))
            return
        if worker.stage is not Stage.READY or self._closed:
            self._told(primed, "it ended")
            return
        worker.assign(primed)
        dependencies = [package for package, _ in subject.needs.dependencies]
        worker.send([PRIME, subject.package, subject.module, dependencies])

    def _told(self, primed: PrimedWorker, fault: str) -> None:
        if primed is self._current:
            self._finish()
        if not fault:
            self._priming.learn(primed)
        elif self._priming.remove(primed):
            subject = primed.subject
            self.log.info(
                "{package}.{module} is not imported ahead for a while: {fault}",
                package=subject.package,
                module=subject.module,
                fault=fault,
            )
            self._priming.shun(subject)
            primed.worker.kill()
        self.advance()

    def _gone(self, primed: PrimedWorker) -> None:
        """Unless we ended it, its module did."""
        self._told(primed, "its process ended")

    def _finish(self) -> None:
        self._current = None
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
