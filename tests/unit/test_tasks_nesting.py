# SPDX-License-Identifier: MIT
"""Parallel tasks and containers stand in one another."""

from __future__ import annotations

from typing import Any

import pytest

from pydra.cluster.tasks import ParallelTask, Task, TaskContainer
from pydra.cluster.tasks.container import SubtaskFailed
from pydra.model.status import Status
from tests.support.echoes import Double, Doubles, Echoes


class Squares(ParallelTask):
    """A subtask that has units of its own: as many as its item says."""

    def __init__(self) -> None:
        self.set_subtask(Double)
        self.sum = 0

    def datasource(self, data: int) -> Any:
        return range(data)

    def work_unit_complete(self, data: Any, results: Any) -> None:
        self.sum += results

    def work_complete(self) -> Any:
        return self.sum


def test_a_parallel_task_may_be_the_subtask_of_another() -> None:
    """Each of its units asks for units itself."""
    task = Echoes.from_subtask(Squares)
    task.datasource = [3, 0, 5]
    assert task.start() == [6, 0, 20]
    assert task.get_subtask("Echoes.Squares.Double").get_key() == "Echoes.Squares.Double"


class Pair(TaskContainer):
    """Two steps after one another."""

    def __init__(self) -> None:
        super().__init__()
        self.add_task(Echoed())
        self.add_task(Squares())


class Echoed(Task):
    def work(self, data: int) -> dict[str, int]:  # type: ignore[override]
        return {"data": data + 1}


def test_a_container_may_be_the_subtask() -> None:
    """Its first child gets the item, and a parallel task in it runs its units in the same place."""
    task = Echoes.from_subtask(Pair)
    task.datasource = [1, 2]
    assert task.start() == [2, 6]
    found = task.get_subtask("Echoes.Pair.1.Squares.Double")
    assert found.get_key() == "Echoes.Pair.1.Squares.Double"


def test_a_parallel_task_in_a_container_runs_its_loop_there() -> None:
    """It gets what the child before it returned, and its progress is part of the container's."""
    container = TaskContainer()
    container.add_task(Echoed(), 40)
    container.add_task(Squares())
    assert container.start({"data": 2}) == 6
    assert (container.status(), container.progress()) == (Status.COMPLETE, 100)


def test_a_failed_unit_in_a_container_names_both() -> None:
    """The subtask of the container, and the unit in it."""
    container = TaskContainer()
    container.add_task(Doubles(1))
    with pytest.raises(
        SubtaskFailed,
        match=r"^Subtask TaskContainer\.0\.Doubles failed: Unit 0\.Doubles\.Double:1 \(item 1\) failed: Val",
    ):
        container.start()
    assert container.status() is Status.FAILED


def test_a_container_with_a_parallel_task_starts_again() -> None:
    """The task is made anew, with what it was given after its making."""
    container = TaskContainer()
    made = Echoes.from_subtask(Double)
    made.datasource = [1, 2]
    container.add_task(made)
    assert container.start() == container.start() == [2, 4]


class Odd(Task):
    """Fails for every second item."""

    def work(self, data: int = 0) -> int:
        """The item, unless it is even."""
        if data % 2 == 0:
            raise ValueError("it is even")
        return data


class Nested(TaskContainer):
    """Has children whose settings are given to them themselves."""

    def __init__(self, sequential: bool = True) -> None:
        super().__init__(sequential=sequential)
        counting = ParallelTask.from_subtask(Odd)
        counting.datasource, counting.failure_policy = [1, 2, 3], "collect"
        counting.retry, counting.unit_retry_delay = "never", 0.0
        inner = TaskContainer()
        inner.sequential = False
        inner.add_task(Odd())
        self.add_task(counting)
        self.add_task(inner)


def test_settings_of_a_task_itself_hold_wherever_it_runs() -> None:
    """A task that is made anew has what was given to the one before, the second time and as a unit too."""
    container = Nested(sequential=False)
    with pytest.raises(SubtaskFailed):
        container.start({"data": 2})
    made = container._remade()
    counting, inner = (child.task for child in made.subtasks)
    assert isinstance(counting, ParallelTask)
    assert ([1, 2, 3], "collect", "never", 0.0) == (
        counting.datasource,
        counting.failure_policy,
        counting.retry,
        counting.unit_retry_delay,
    )
    assert isinstance(inner, TaskContainer)
    assert not inner.sequential
    again = TaskContainer._remade(inner)
    assert not again.sequential


class Quits(Task):
    """Stops itself."""

    def work(self, data: int = 0) -> dict[str, int]:
        """Half a result."""
        self.stop()
        return {"data": data}


class Quitting(ParallelTask):
    """Its units stop themselves."""

    datasource = (1, 2)
    failure_policy = "collect"

    def __init__(self) -> None:
        self.set_subtask(Quits)

    def work_complete(self) -> list[tuple[str, str]]:
        """How they failed."""
        return [(failure.code, failure.message) for failure in self.failures.values()]


def test_a_unit_that_stops_itself_has_failed() -> None:
    """Half a result is none."""
    task = Quitting()
    assert [("cancelled", "The task stopped itself.")] * 2 == task.start()
    assert Status.COMPLETE is task.status()


def test_a_child_that_stops_itself_stops_its_container() -> None:
    """Those behind it do not begin; at the same time, it has failed."""
    container = TaskContainer()
    container.add_task(Quits())
    container.add_task(Odd())
    assert container.start({"data": 1}) is None
    assert Status.CANCELLED is container.status()
    parallel = TaskContainer(sequential=False)
    parallel.add_task(Quits())
    with pytest.raises(SubtaskFailed, match="The task stopped itself"):
        parallel.start({"data": 1})
