# SPDX-License-Identifier: MIT
"""How long attempts ran, kept beside all masters: what a time limit must go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from pydra.cluster.scheduler import instructions, unit_values
from pydra.errors import LimitExceeded
from pydra.model.ids import InstanceId
from tests.simulation.works import Works

SLACK_S = 3.0
"""Commits and messages take their time."""


@attrs.define
class _Run:
    begun: float
    paused_s: float = 0.0
    paused_at: float | None = None
    changed: float = 0.0
    """When it was paused or resumed last."""


class Stopwatch:
    """Tells of a limit that comes too early, if links hold (``is_exact``) by which nodes hear of pauses."""

    def __init__(self, works: Works, *, is_exact: bool, tell: Callable[[str], None]) -> None:
        self._works = works
        self._is_exact = is_exact
        self._tell = tell
        self._runs: dict[InstanceId, _Run] = {}

    def decided(self, now: float, wanted: Sequence[instructions.Instruction]) -> None:
        """What a scheduler wants done."""
        for each in wanted:
            match each:
                case instructions.Dispatch(instance):
                    self._runs[instance] = _Run(now)
                case unit_values.Pause(instance, paused) if (run := self._runs.get(instance)) is not None:
                    if run.paused_at is not None:
                        run.paused_s += now - run.paused_at
                    run.paused_at = now if paused else None
                    run.changed = now
                case instructions.BeginCancelling(instance, code=LimitExceeded.code) if self._is_exact:
                    self._is_due(instance, now)

    def restarted(self, now: float) -> None:
        """A master was killed; what it changed just now may have been told to nobody."""
        self._runs = {key: run for key, run in self._runs.items() if run.changed < now - SLACK_S}

    def _is_due(self, instance: InstanceId, now: float) -> None:
        run = self._runs.get(instance)
        limit_s = self._works.work(instance).time_limit
        if run is not None and now - run.begun - run.paused_s < limit_s - SLACK_S:
            ran_s = now - run.begun - run.paused_s
            self._tell(f"instance {instance} reached its limit of {limit_s:.1f} s after {ran_s:.1f} s")
