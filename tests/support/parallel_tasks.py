# SPDX-License-Identifier: MIT
"""A parallel task that notes what its hooks are told, and its loop with scripted units."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydra.cluster.interfaces import Answered
from pydra.cluster.tasks import ParallelTask, Task
from pydra.cluster.tasks.unit_failure import UnitFailure
from pydra.cluster.tasks.unit_loop import (
    UnitLoop,
)
from tests.support.scripted_units import Script, ScriptedUnits, all_complete


class Sub(Task):
    def work(self, data: object) -> object:  # type: ignore[override]
        return data


class Par(ParallelTask):
    """Notes what its hooks are told."""

    def __init__(self, **settings: object) -> None:
        self.set_subtask(Sub)
        self.seen: list[object] = []
        self.failed: list[tuple[object, str]] = []
        for name, value in settings.items():
            setattr(self, name, value)

    def work_unit_complete(self, data: object, results: object) -> None:
        self.seen.append(data)
        assert data == results or data is None

    def work_unit_failed(self, data: object, failure: UnitFailure) -> None:
        self.failed.append((data, failure.message))


def run(
    items: Iterable[object],
    script: Script = all_complete,
    total: int | None = None,
    **settings: object,
) -> tuple[Par, ScriptedUnits, UnitLoop]:
    """Run a loop to its end; it came to a good one."""
    task, units = Par(**settings), ScriptedUnits(script)
    loop = UnitLoop(task, units, units.clock)
    assert loop.run(iter(items), total)
    return task, units, loop


def failing(wanted: Callable[[int], bool], **how: str) -> Script:
    """A script by which the units of some indexes fail, and the others return their index."""

    def script(units: ScriptedUnits) -> list[Answered]:
        return [
            units.fail(branch, index, **how) if wanted(index) else units.complete(branch, index, index)
            for branch, index in list(units.outstanding)
        ]

    return script
