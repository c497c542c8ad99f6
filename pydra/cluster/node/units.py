# SPDX-License-Identifier: MIT
"""What runs on this node, by attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pydra.cluster.node.outbox import Outcome
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.node.unit_run import UnitRun
from pydra.cluster.wire.messages import LOST, RunUnit, ToMaster, UnitFinished, UnitProgress
from pydra.errors import WorkerDied
from pydra.model.ids import Attempt
from pydra.model.instance import Failure
from pydra.model.options import Guarantee

PROGRESS_S = 0.1
"""Seconds between two progress messages of one attempt; the latest wins."""

Tell = Callable[[ToMaster], bool]
"""Sends to the master; False while there is no link."""


class Units:
    """Starts, stops and kills attempts, and puts each outcome into the outbox before it is told."""

    log = Logger()

    def __init__(
        self,
        around: Surroundings,
        tell: Tell,
    ) -> None:
        self._around = around
        self._clock = around.clock
        self._outbox = around.outbox
        self._tell = tell
        self._runs: dict[Attempt, UnitRun] = {}
        self._progress: dict[Attempt, UnitProgress] = {}
        """The latest of each attempt that runs and told some."""
        self._untold: dict[Attempt, None] = {}
        self._progress_timer: IDelayedCall | None = None

    def running(self) -> tuple[Attempt, ...]:
        """The attempts that have no outcome yet."""
        return tuple(self._runs)

    def ran_s(self) -> tuple[float, ...]:
        """How long each of them has run."""
        return tuple(run.ran_s() for run in self._runs.values())

    def hold(self, attempt: Attempt, *, paused: bool) -> None:
        """The instance of an attempt is paused, or goes on."""
        run = self._runs.get(attempt)
        if run is not None:
            run.hold(paused=paused)

    def run(self, message: RunUnit) -> None:
        """Begin an attempt; one that is known already is left as it is."""
        attempt = message.attempt
        if attempt in self._runs or attempt in self._outbox:
            return
        if not self._may_begin(message):
            self._not_here(attempt)
            return
        run = UnitRun(self._around, message, self._progressed, self._finished)
        if message.losses:
            run.log.note(f"Attempt {message.losses + 1} begins.", "INFO")
        self._runs[attempt] = run
        self._watch(run.start(), run)

    def _may_begin(self, message: RunUnit) -> bool:
        """False of what is exclusive and was given out too long ago."""
        attempt, leases = message.attempt, self._around.leases
        if not message.guarantee & Guarantee.EXCLUSIVE:
            return True
        reason = f"The master did not answer for {leases.limit_s:g} s, and it is exclusive."
        return leases.begin(attempt, message.heard, lambda: self.kill(attempt, reason))

    def stop(self, attempt: Attempt) -> None:
        """Set the stop flag of an attempt's task."""
        run = self._runs.get(attempt)
        if run is not None:
            run.stop()
        elif attempt in self._outbox:
            self._outbox.discard_result(attempt)
        else:
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
        self._around.leases.end(attempt)
        self._around.packages.release(run.message)
        last_progress = self._progress.pop(attempt, None)
        if last_progress is not None and attempt in self._untold:
            del self._untold[attempt]
            self._tell(last_progress)
        self._outbox.keep(outcome, is_synced=bool(run.message.guarantee))
        self.log.debug(
            "Attempt {attempt} of instance={instance} ended: {outcome}",
            attempt=str(attempt),
            instance=run.message.instance,
            outcome=outcome.message.outcome,
        )

    def _progressed(self, run: UnitRun, percent: int, text: str | None) -> None:
        unit = run.message
        self._progress[unit.attempt] = UnitProgress(unit.attempt, unit.instance, percent, text)
        self._untold[unit.attempt] = None
        if self._progress_timer is None:
            self._progress_timer = self._clock.callLater(PROGRESS_S, self._send_progress)

    def _send_progress(self) -> None:
        self._progress_timer = None
        self._tell_progress(self._untold)

    def tell_all_progress(self) -> None:
        """There is a master: it may be another one, or may have missed what was told."""
        self._tell_progress(self._progress)

    def _tell_progress(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            self._tell(self._progress[attempt])
        self._untold.clear()
