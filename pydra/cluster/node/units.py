# SPDX-License-Identifier: MIT
"""What runs on this node, by attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import Workers
from pydra.cluster.node.held_log import HeldLog
from pydra.cluster.node.log_delivery import LogDelivery
from pydra.cluster.node.outbox import Outbox, Outcome
from pydra.cluster.node.package_cache import ArgumentCache, PackageCache
from pydra.cluster.node.task_log import TaskLog
from pydra.cluster.node.unit_run import UnitRun
from pydra.cluster.wire.messages import LOST, RunUnit, ToMaster, UnitFinished, UnitProgress
from pydra.errors import WorkerDied
from pydra.model.ids import Attempt
from pydra.model.instance import Failure, LogLine

PROGRESS_S = 0.1
"""Seconds between two progress messages of one attempt; the latest wins."""

Tell = Callable[[ToMaster], bool]
"""Sends to the master; False while there is no link."""


class Units:
    """Starts, stops and kills attempts, and puts each outcome into the outbox before it is told."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        workers: Workers,
        packages: PackageCache,
        arguments: ArgumentCache,
        outbox: Outbox,
        logs: LogDelivery,
        tell: Tell,
        tell_outcome: Callable[[Outcome], None],
        log_limit: int,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._workers = workers
        self._packages = packages
        self._arguments = arguments
        self._outbox = outbox
        self._logs = logs
        self._tell = tell
        self._tell_outcome = tell_outcome
        self._log_limit = log_limit
        self._runs: dict[Attempt, UnitRun] = {}
        self._progress: dict[Attempt, UnitProgress] = {}
        self._progress_timer: IDelayedCall | None = None

    def running(self) -> tuple[Attempt, ...]:
        """The attempts that have no outcome yet."""
        return tuple(self._runs)

    def run(self, message: RunUnit) -> None:
        """Begin an attempt; one that is known already is left as it is."""
        attempt = message.attempt
        if attempt in self._runs or attempt in self._outbox:
            return
        task_log = self._task_log(message)
        if message.losses:
            task_log.note(f"Attempt {message.losses + 1} begins.", "INFO")
        run = UnitRun(
            self._clock,
            message,
            self._workers,
            self._packages.fetch,
            self._arguments.fetch,
            task_log,
            self._progressed,
            self._finished,
        )
        self._runs[attempt] = run
        self._watch(run.start(), run)

    def stop(self, attempt: Attempt) -> None:
        """Set the stop flag of an attempt's task."""
        run = self._runs.get(attempt)
        if run is not None:
            run.stop()
        elif attempt not in self._outbox:
            self._not_here(attempt)

    def kill(self, attempt: Attempt, reason: str = "The worker was killed on request.") -> None:
        """End an attempt now."""
        run = self._runs.get(attempt)
        if run is not None:
            run.kill(reason)
        elif attempt not in self._outbox:
            self._not_here(attempt)

    def kill_all(self, reason: str) -> None:
        """End everything that runs."""
        for attempt in list(self._runs):
            self.kill(attempt, reason)

    def _task_log(self, message: RunUnit) -> TaskLog:
        """The log of an attempt; nothing is held for it before its first line."""
        held: HeldLog | None = None

        def keep(lines: Sequence[LogLine]) -> bool:
            nonlocal held
            if held is None:
                held = self._logs.open(message.attempt, message.instance, message.seal)
            return self._logs.keep(held, lines)

        def ended() -> None:
            if held is not None:
                self._logs.end(held)

        return TaskLog(self._clock, self._wall_clock, keep, ended, self._log_limit)

    def _not_here(self, attempt: Attempt) -> None:
        failure = Failure(WorkerDied.code, "The node does not run this (any more).")
        self._tell(UnitFinished(attempt, LOST, failure=failure))

    def _watch(self, started: Deferred[None], run: UnitRun) -> None:
        def failed(fault: object) -> None:
            self.log.error(
                "Attempt {attempt} could not be started: {fault}",
                attempt=str(run.message.attempt),
                fault=fault,
            )
            run.kill("The node failed to start it; its log has the details.")

        started.addErrback(failed)

    def _finished(self, run: UnitRun, outcome: Outcome) -> None:
        attempt = run.message.attempt
        del self._runs[attempt]
        self._packages.release(run.message)
        last_progress = self._progress.pop(attempt, None)
        if last_progress is not None:
            self._tell(last_progress)
        self._outbox.keep(outcome)
        self.log.debug(
            "Attempt {attempt} of instance={instance} ended: {outcome}",
            attempt=str(attempt),
            instance=run.message.instance,
            outcome=outcome.message.outcome,
        )
        self._tell_outcome(outcome)

    def _progressed(self, run: UnitRun, percent: int, text: str | None) -> None:
        unit = run.message
        self._progress[unit.attempt] = UnitProgress(unit.attempt, unit.instance, percent, text)
        if self._progress_timer is None:
            self._progress_timer = self._clock.callLater(PROGRESS_S, self._send_progress)

    def _send_progress(self) -> None:
        self._progress_timer = None
        waiting, self._progress = self._progress, {}
        for message in waiting.values():
            self._tell(message)
