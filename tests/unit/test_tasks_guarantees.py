# SPDX-License-Identifier: MIT
"""How tasks say that they run at most once, or are exclusive."""

from __future__ import annotations

from typing import Any

import pytest

from pydra.cluster.tasks import ParallelTask, Task, TaskContainer
from pydra.cluster.tasks.task import EXCLUSIVE, ONCE
from pydra.cluster.tasks.unit_loop import UnitLoop
from pydra.errors import TaskError
from pydra.model.options import Guarantee
from tests.support.scripted_units import ScriptedUnits, all_complete


class Plain(Task):
    """Promises nothing."""

    def work(self, **_: Any) -> None:
        """Nothing."""


class Once(Plain):
    """Runs at most once."""

    retry = "never"


class Alone(Plain):
    """Is exclusive."""

    exclusive = True


class Wrong(Plain):
    """Says what it cannot."""

    retry = "sometimes"


def test_numbers() -> None:
    """Those of tasks, which workers load, are those of the model."""
    assert (int(Guarantee.ONCE), int(Guarantee.EXCLUSIVE)) == (ONCE, EXCLUSIVE)


def test_what_a_class_says() -> None:
    """Each attribute by itself."""
    assert [0, ONCE, EXCLUSIVE] == [each()._guarantee() for each in (Plain, Once, Alone)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry", value) for value in ("NEVER", "", None, 1, b"never", ["never"], "x" * 1000)]
    + [("exclusive", value) for value in ("yes", None, 1, 0, [])],
)
def test_what_it_cannot_say(name: str, value: object) -> None:
    """It is told by name what is allowed, in not too many words."""
    task = type("Odd", (Plain,), {name: value})()
    with pytest.raises(TaskError, match=f"{name} of Odd is") as fault:
        task._guarantee()
    assert len(str(fault.value)) <= 300


def test_containers() -> None:
    """What runs in the container's own worker is a part of it; other children are units of their own."""
    for sequential, expected in ((True, ONCE | EXCLUSIVE), (False, 0)):
        inner = TaskContainer()
        inner.add_task(Alone())
        container = TaskContainer(sequential=sequential)
        container.add_task(Plain())
        container.add_task(Once())
        container.add_task(inner)
        assert expected == container._guarantee()


@pytest.mark.parametrize(("subtask", "expected"), [(Plain, 0), (Once, ONCE), (Alone, EXCLUSIVE)])
def test_units_are_asked_for_with_it(subtask: type[Task], expected: int) -> None:
    """A parallel task wants for its units what their class says; its own promise is not theirs."""
    units = ScriptedUnits(all_complete)
    loop = UnitLoop(ParallelTask.from_subtask(subtask), units, lambda: 0.0)
    assert loop.run(iter([1]), 1)
    assert [expected] == units.guarantees


def test_unit_retries_of_what_runs_once() -> None:
    """They contradict each other, and that is said before anything runs."""
    task = ParallelTask.from_subtask(Once)
    task.unit_retries = 1
    with pytest.raises(TaskError, match=r"never run again.*no unit_retries"):
        UnitLoop(task, ScriptedUnits(lambda _: []), lambda: 0.0)
    with pytest.raises(TaskError, match="retry of Wrong"):
        UnitLoop(ParallelTask.from_subtask(Wrong), ScriptedUnits(lambda _: []), lambda: 0.0)
