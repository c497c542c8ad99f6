# SPDX-License-Identifier: MIT
"""
Workers launched ahead: unused sandboxes, each given to one taker and never taken back.

A launch that fails is tried again after a pause that doubles; once it failed several times in a row, takers
are told why instead of waiting.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerListener
from pydra.cluster.sandbox.demand import Demand
from pydra.cluster.sandbox.descriptors import Reactor
from pydra.cluster.sandbox.endings import describe
from pydra.cluster.sandbox.environments import contents
from pydra.cluster.sandbox.launcher import messages
from pydra.cluster.sandbox.launcher.bounds import Bounds
from pydra.cluster.sandbox.launcher_socket import Answer, LauncherSocket
from pydra.cluster.sandbox.primer import Primer
from pydra.cluster.sandbox.priming import NOTHING, Budget, Subject
from pydra.cluster.sandbox.setbacks import Setbacks
from pydra.cluster.sandbox.site_limits import SiteLimits
from pydra.cluster.sandbox.worker_process import CommonTime, SandboxedWorker, Stage, make_ends
from pydra.errors import SandboxError, WorkersUnavailable
from pydra.model.ids import PackageName, PackageVersion
from pydra.model.package import NO_NEEDS, Needs

START_LIMIT, UNHURRIED_LIMIT = 4, 2
"""
Workers that may be starting at a time; more would only make each of them later. Fewer if nobody waits for
one: then those that work come first.
"""

IDLE_S = 10.0
"""How often is looked whether there are more unused workers than is worth keeping."""

READY_S = 30.0
"""Seconds that a worker has for saying READY."""

STOP_S = 5.0
"""Seconds for workers to end before the launcher's socket is closed, which ends them all the same."""
_TRIES = 3


class _Gone(SandboxError):
    """The worker ended while it was made ready for its taker."""

    def __init__(self) -> None:
        super().__init__("The worker ended while it was made ready.")


class WarmPool:
    """
    Sandboxed workers; the daemon's `Workers`.

    As many are kept ready as are taken, at most ``size``; and within the budget ``primed`` some that have
    imported ahead what is in use. Without ``limits`` all workers are alike, whatever a package asks for.
    ``lost`` is called when the launcher ended by itself, before its workers are told to have ended.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        launcher: socket.socket,
        size: int,
        limits: SiteLimits | None = None,
        lost: Callable[[], None] = lambda: None,
        primed: Budget = NOTHING,
    ) -> None:
        self._limits = limits
        self._lost = lost
        self._reactor = reactor
        self._demand = Demand(reactor.seconds, size)
        self._primer = Primer(reactor, self, primed)
        self._unneeded: set[int] = set()
        """Those that we end though nothing is wrong with them."""
        self._look: IDelayedCall | None = None
        self._launcher = LauncherSocket(reactor, launcher, self._answered, self._launcher_lost)
        self._last_number = 0
        self._workers: dict[int, SandboxedWorker] = {}
        """All whose end was not told, by number."""
        self._time = CommonTime(reactor.seconds)
        self._starting: dict[int, IDelayedCall] = {}
        self._ready: deque[SandboxedWorker] = deque()
        self._takers: deque[Deferred[SandboxedWorker]] = deque()
        self._cold: dict[int, Deferred[SandboxedWorker]] = {}
        """Who waits for workers that were launched for them alone, by number."""
        self._fills: dict[int, Deferred[None]] = {}
        self._setbacks = Setbacks(reactor, self._refill)
        self._refusal = ""
        """Why nothing is given any more."""
        self._closed = False
        self._emptied: Deferred[None] | None = None

    async def start(self) -> None:
        """Begin to keep workers warm."""
        self._launcher.open()
        self._refill()

    async def take(
        self,
        listener: WorkerListener,
        package: PackageName | None,
        version: PackageVersion | None,
        needs: Needs = NO_NEEDS,
        module: str = "",
    ) -> SandboxedWorker:
        """
        A worker that said READY, with the package (if any) and what it needs mounted.

        It may have imported ``module`` of the package ahead. `WorkersUnavailable`, `SandboxError`,
        `LimitExceeded`.
        """
        bounds = self._bounds(needs)
        network = self._limits is not None and needs.limits.network
        if network:
            module = ""  # those that have it are not kept
        else:
            self._demand.taken()
        if package is not None and version is not None and module and not self._closed:
            primed = self._primer.take(Subject(package, version, needs, module), listener)
            if primed is not None:
                self._refill()
                return primed
        for _ in range(_TRIES):
            worker = await (self._with_network() if network else self._next())
            try:
                if package is not None and version is not None:
                    await self._fill(worker, contents(package, version, needs), bounds)
                else:
                    self._refill()
            except _Gone:
                continue
            except BaseException:
                worker.kill()
                raise
            if worker.stage is Stage.READY:
                self._setbacks.end()
                worker.assign(listener)
                return worker
        raise WorkersUnavailable(
            f"Workers end before they are used ({self._setbacks.reason or 'for no known reason'})."
        )

    def refusal(self) -> str:
        """Why no worker can be started at the moment; empty if one can."""
        if self._closed or self._ready or not self._setbacks.are_lasting:
            return self._refusal
        return self._setbacks.reason

    async def stop(self) -> None:
        """Kill all workers, taken ones too, and end the launcher."""
        self._refuse("The daemon is stopping.")
        if self._workers:
            emptied = self._emptied = Deferred()
            timer = self._reactor.callLater(STOP_S, self._give_up)
            for worker in list(self._workers.values()):
                worker.kill()
            await emptied
            if timer.active():
                timer.cancel()
        self._launcher.close()
        self._end_all("the daemon stopped")

    # What the primer needs.

    def spare(self) -> SandboxedWorker | None:
        """An unused worker that nobody waits for."""
        return self._ready.popleft() if self._ready and not self._takers else None

    async def fill(self, worker: SandboxedWorker, subject: Subject) -> None:
        """Have in it what a task of the subject needs. `SandboxError`, `LimitExceeded`."""
        packages = contents(subject.package, subject.version, subject.needs)
        await self._fill(worker, packages, self._bounds(subject.needs))

    # Giving.

    def _bounds(self, needs: Needs) -> Bounds | None:
        return self._limits.bounds(needs.limits) if self._limits is not None else None

    async def _next(self) -> SandboxedWorker:
        if (self._closed or self._setbacks.is_pausing) and (refusal := self.refusal()):
            raise WorkersUnavailable(refusal)
        if self._ready:
            return self._ready.popleft()
        waiting: Deferred[SandboxedWorker] = Deferred(self._takers.remove)
        self._takers.append(waiting)
        self._refill()
        return await waiting

    async def _with_network(self) -> SandboxedWorker:
        """A worker with the host's network, which is not kept ready."""
        if self._closed:
            raise WorkersUnavailable(self._refusal)
        if (number := self._launch(network=True)) is None:
            raise WorkersUnavailable(self._setbacks.reason)

        def left(cancelled: Deferred[SandboxedWorker]) -> None:
            self._cold.pop(number)
            self._workers[number].kill()

        waiting = self._cold[number] = Deferred(left)
        return await waiting

    async def _fill(
        self,
        worker: SandboxedWorker,
        packages: Sequence[tuple[PackageName, PackageVersion]],
        bounds: Bounds | None,
    ) -> None:
        """Have packages mounted in a worker. `SandboxError`."""
        if worker.number not in self._workers:
            raise _Gone

        def left(cancelled: Deferred[None]) -> None:
            self._fills.pop(worker.number, None)

        filled: Deferred[None] = Deferred(left)
        self._fills[worker.number] = filled
        self._launcher.fill(worker.number, packages, bounds)
        self._refill()  # only now, so that the package does not wait behind the launch of the next worker
        await filled

    def _became_ready(self, worker: SandboxedWorker) -> None:
        self._started(worker.number)
        if self._closed:
            return
        if worker.number in self._cold:
            self._cold.pop(worker.number).callback(worker)
        elif self._takers:
            self._takers.popleft().callback(worker)
        else:
            self._ready.append(worker)
        self._refill()

    def _refill(self) -> None:
        if self._closed or self._setbacks.is_pausing:
            return
        warm = len(self._ready) + len(self._starting) - len(self._cold)
        missing = self._demand.wanted() + len(self._takers) - warm
        limit = START_LIMIT if self._takers else UNHURRIED_LIMIT
        for _ in range(min(missing, limit - len(self._starting))):
            self._launch()
        self._primer.advance()
        if self._look is None and (len(self._ready) > self._demand.fewest or not self._primer.is_idle):
            self._look = self._reactor.callLater(IDLE_S, self._look_around)

    def _look_around(self) -> None:
        """End what is not worth keeping any more, the oldest first."""
        self._look = None
        for _ in range(len(self._ready) - self._demand.wanted()):
            self._ready.popleft().kill()
        self._refill()

    def _launch(self, *, network: bool = False) -> int | None:
        """Begin a worker; its number, or None if that failed at once."""
        self._last_number += 1
        number = self._last_number
        try:
            ours, its, reading, writing = make_ends()
        except OSError as fault:
            self._launch_failed(f"no descriptors: {fault.strerror}")
            return None
        ask = (self._became_ready, self._kill, self._launcher.live_until)
        worker = SandboxedWorker(self._reactor, number, ours, reading, *ask, self._time)
        self._workers[number] = worker
        self._starting[number] = self._reactor.callLater(READY_S, self._too_slow, worker)
        self._launcher.launch(number, its, writing, network=network)
        return number

    def _started(self, number: int) -> None:
        """A worker is not starting any more: it is ready, or is gone, or nobody waits for it."""
        timer = self._starting.pop(number, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _too_slow(self, worker: SandboxedWorker) -> None:
        self.log.warn("Worker {n} was not ready within {s:g} s", n=worker.number, s=READY_S)
        self._launcher.kill(worker.number)

    def _kill(self, number: int) -> None:
        """A worker is to end; by no fault of its launch, unless it broke the rules."""
        worker = self._workers.get(number)
        if worker is not None and not worker.fault:
            self._unneeded.add(number)
        self._launcher.kill(number)

    # Failing.

    def _launch_failed(self, reason: str) -> None:
        if self._closed:
            return
        self._setbacks.add(reason)
        if self._setbacks.are_lasting:
            self._fail_takers(self._setbacks.reason)

    def _fail_takers(self, reason: str) -> None:
        while self._takers:
            self._takers.popleft().errback(WorkersUnavailable(reason))

    def _refuse(self, reason: str) -> None:
        """Give nothing from now on."""
        self._closed = True
        self._refusal = reason
        self._setbacks.stop()
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._look = None
        self._primer.close()
        for number in list(self._starting):
            self._started(number)
        self._ready.clear()
        self._fail_takers(reason)
        while self._cold:
            self._cold.popitem()[1].errback(WorkersUnavailable(reason))

    # The launcher.

    def _answered(self, answer: Answer) -> None:
        what, number = answer["what"], answer["id"]
        if what == messages.EXITED:
            self._exited(number, answer["status"], "", answer.get("limit", ""), answer.get("overdue", False))
        elif what == messages.FAILED:
            self._exited(number, 1, answer["reason"])
        elif what in (messages.FILLED, messages.UNFILLED):
            filled = self._fills.pop(number, None)
            if filled is None:
                return  # its taker has left
            if what == messages.FILLED:
                filled.callback(None)
            elif number not in self._workers:
                filled.errback(_Gone())
            else:
                kind = WorkersUnavailable if answer.get("passes") else SandboxError
                filled.errback(kind(answer["reason"]))
        elif what == messages.REFUSED:
            self.log.error("The launcher refused a request: {reason}", reason=answer["reason"])
            self._refused(number, answer["reason"])

    def _refused(self, number: int, reason: str) -> None:
        filled = self._fills.pop(number, None)
        if filled is not None:
            filled.errback(SandboxError(reason))
        elif number in self._starting:
            self._exited(number, 1, reason)

    def _exited(self, number: int, status: int, reason: str, limit: str = "", overdue: bool = False) -> None:
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        stage = worker.stage
        try:
            worker.ended(status, reason, limit, overdue=overdue)
        except Exception:  # noqa: BLE001 - a listener's fault must not cost the other workers their launcher
            self.log.failure("The end of worker {number} could not be told", number=number)
        self._started(number)
        if worker in self._ready:
            self._ready.remove(worker)
        if number in self._fills:
            self._fills.pop(number).errback(_Gone())
        elif stage is not Stage.TAKEN and number not in self._unneeded:
            said = worker.said.decode(errors="replace").strip()
            words = reason or worker.fault or limit or describe(status)
            words = f"{words}: {said}" if said else words
            if number in self._cold:
                self._cold.pop(number).errback(WorkersUnavailable(f"No worker can be started: {words}"))
            else:
                self._launch_failed(words)
        self._unneeded.discard(number)
        self._refill()
        if not self._workers and self._emptied is not None:
            self._give_up()

    def _give_up(self) -> None:
        """Stopping goes on."""
        if self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def _launcher_lost(self) -> None:
        if not self._closed:
            self.log.critical("The launcher process ended; this daemon can start no more workers")
            self._lost()
            self._refuse("The launcher process ended; start the daemon again.")
        self._end_all("the launcher process ended, and its workers with it")

    def _end_all(self, reason: str) -> None:
        """Without a launcher there are no workers."""
        for number in list(self._workers):
            self._exited(number, 128 + 9, reason)
