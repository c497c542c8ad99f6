# SPDX-License-Identifier: MIT
"""A parallel task runs a fresh subtask for each item, and calls its hooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pydra.cluster.tasks import ParallelTask, Task, TaskNotFoundException
from pydra.cluster.tasks.unit_failure import DatasourceFailed, UnitFailed
from pydra.errors import TaskError
from pydra.model.status import Status
from tests.support.echoes import Double, Doubles, Echo, Echoes, echoes


def test_a_parallel_task_runs_standalone() -> None:
    """Its result is what work_complete returns."""
    task = Doubles()
    assert task.progress() == 0
    assert task.progressMessage() is None
    assert task.start() == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}
    assert (task.status(), task.progress()) == (Status.COMPLETE, 100)
    assert task.progressMessage() == "5 done, 0 under way, 0 failed"


@pytest.mark.parametrize("items", [[], [7], [0, "", None, False, []]])
def test_empty_single_and_falsy_datasources_end(items: list[object]) -> None:
    """Each item has its hook called once; none at all completes at once."""
    task = echoes(items)
    assert task.start() == items
    assert (task.status(), task.progress()) == (Status.COMPLETE, 100)


def test_without_a_datasource_there_is_one_unit() -> None:
    """Its item is None."""
    assert Echoes().start() == [None]


def test_a_method_as_datasource_gets_the_arguments() -> None:
    """By name, as work would."""

    class Counted(Echoes):
        def datasource(self, first: int, count: int = 2) -> Iterator[int]:
            yield from range(first, first + count)

    assert Counted().start({"first": 5}) == [5, 6]
    assert Counted().start({"first": 5, "count": 3}) == [5, 6, 7]


def test_a_method_as_datasource_may_set_how_units_are_run() -> None:
    """By the arguments of the task."""

    class Chosen(Doubles):
        def datasource(self, policy: str) -> Any:
            self.failure_policy = policy
            return range(3)

    assert Chosen(bad=1).start({"policy": "collect"}) == {0: 0, 2: 4}
    with pytest.raises(UnitFailed):
        Chosen(bad=1).start({"policy": "fail_fast"})


def test_arguments_that_a_method_does_not_take_are_refused() -> None:
    """As those of work are."""

    class Fixed(Echoes):
        def datasource(self) -> list[int]:
            return [1]

    task = Fixed()
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        task.start({"x": 1})
    assert task.status() is Status.FAILED


@pytest.mark.parametrize("datasource", [lambda: [1, 2], (range, 1, 3), staticmethod(lambda: iter([1, 2]))])
def test_another_callable_is_called_without_arguments(datasource: Any) -> None:
    """What the task was given is not for it."""
    made = type("Made", (Echoes,), {}) if not isinstance(datasource, staticmethod) else None
    if made is None:
        task = type("Static", (Echoes,), {"datasource": datasource})()
    else:
        task = made()
        task.datasource = datasource
    assert task.start({"anything": 1}) == [1, 2]


def test_two_parallel_tasks_share_nothing() -> None:
    """One inside another's hook, of the same class, neither sees nor loses units of the other."""

    class Nesting(Doubles):
        datasource = range(3)

        def work_unit_complete(self, data: Any, results: Any) -> None:
            super().work_unit_complete(data, Doubles().start())

    inner = {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}
    assert Nesting().start() == {0: inner, 1: inner, 2: inner}


def test_a_hook_is_given_the_result_of_its_own_unit() -> None:
    """Not those of the units that ended together with it."""
    task = echoes(range(1000))
    pairs: list[tuple[object, object]] = []
    task.work_unit_complete = lambda data, results: pairs.append((data, results))  # type: ignore[method-assign]
    task.start()
    assert pairs == [(number, number) for number in range(1000)]


def test_a_failed_unit_fails_the_task() -> None:
    """It is FAILED, not running for ever, and tells which unit and shows the author's own lines."""
    task = Doubles(3)
    with pytest.raises(
        UnitFailed, match=r"^Unit Double:3 \(item 3\) failed: ValueError: 3 is bad$"
    ) as caught:
        task.start()
    assert task.status() is Status.FAILED
    assert 'raise ValueError(f"{data} is bad")' in str(caught.value.__cause__)
    assert "pydra/cluster" not in str(caught.value.__cause__)
    assert caught.value.failure is task.failures[3]


def test_failures_are_collected() -> None:
    """And forgotten when the task is started again."""
    task = Doubles(3)
    task.failure_policy = "collect"
    assert task.start() == {0: 0, 1: 2, 2: 4, 4: 8}
    assert {index: failure.code for index, failure in task.failures.items()} == {3: "failed"}
    assert task.progressMessage() == "4 done, 0 under way, 1 failed"
    task.datasource = range(2)
    task.found.clear()
    assert task.start() == {0: 0, 1: 2}
    assert task.failures == {}


def test_a_hook_may_stop_the_task() -> None:
    """It is cancelled then, without a result."""

    class Stops(Echoes):
        def work_unit_complete(self, data: object, results: object) -> None:
            self.stop()

    task = Stops()
    task.datasource = [1, 2]
    assert (None, Status.CANCELLED) == (task.start(), task.status())


def test_a_unit_is_retried() -> None:
    """As often as allowed; each time by a fresh task."""
    runs: list[int] = []

    class Flaky(Task):
        def work(self, data: int) -> int:  # type: ignore[override]
            runs.append(id(self))
            if len(runs) < 3:
                raise OSError("not yet")
            return data

    task = Echoes.from_subtask(Flaky)
    task.datasource, task.unit_retries, task.unit_retry_delay = [4], 2, 0
    assert task.start() == [4]
    assert len(runs) == 3


def test_a_subtask_that_does_not_take_its_item_says_so() -> None:
    """The failure is one of arguments."""

    class Wrong(Task):
        def work(self) -> None:  # type: ignore[override]
            return

    with pytest.raises(UnitFailed, match="unexpected keyword argument 'data'") as caught:
        ParallelTask.from_subtask(Wrong).start()
    assert caught.value.code == "invalid_parameters"


def test_a_subtask_is_not_set_while_the_task_runs() -> None:
    """On a cluster no other worker would find it; so it is refused without one, too."""

    class Late(ParallelTask):
        def datasource(self) -> list[int]:
            self.set_subtask(Echo)
            return [1]

    with pytest.raises(
        DatasourceFailed, match=r"opened: Late sets its subtask .*; its constructor calls set_subtask"
    ):
        Late().start()


def test_a_datasource_that_cannot_be_opened_fails_the_task() -> None:
    """The error has its words, and its exception as the cause."""
    with pytest.raises(DatasourceFailed, match="cannot be opened: FileNotFoundError") as caught:
        echoes((open, "/nowhere/at/all")).start()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(DatasourceFailed, match="cannot be opened: TypeError") as caught:
        echoes((range, "x")).start()
    assert caught.value.code == "failed"


@pytest.mark.parametrize("raised", [ValueError("no"), TypeError("no")])
def test_a_datasource_method_that_raises_fails_the_task(raised: Exception) -> None:
    """With the same words as any other; arguments that do not fit it are those of the task."""

    class Raises(Echoes):
        def datasource(self, path: str) -> list[int]:
            raise raised

    with pytest.raises(
        DatasourceFailed, match=f"The datasource cannot be opened: {type(raised).__name__}: no"
    ):
        Raises().start({"path": "x"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'typo'"):
        Raises().start({"typo": 1})


def test_a_task_without_a_subtask_says_so() -> None:
    """It cannot run, and nothing is found in it."""
    task = ParallelTask()
    with pytest.raises(TaskError, match=r"ParallelTask has no subtask"):
        task.start()
    assert task.status() is Status.FAILED
    with pytest.raises(TaskNotFoundException):
        task.get_subtask("ParallelTask.Sub")


@pytest.mark.parametrize("wrong", [None, "Echo", Echo(), int])
def test_a_subtask_is_a_class_of_tasks(wrong: Any) -> None:
    """Anything else is refused when it is set."""
    with pytest.raises(TaskError, match="A subtask is given as a class"):
        ParallelTask().set_subtask(wrong)


def test_a_subtask_is_made_when_it_is_needed() -> None:
    """With the arguments that were given for it, once; its key is below its parent's."""
    task = ParallelTask.from_subtask(Double, bad=9)
    subtask = task.subtask
    assert task.subtask is subtask
    assert isinstance(subtask, Double)
    assert subtask.bad == 9
    assert (subtask.parent, subtask.get_key()) == (task, "ParallelTask.Double")
    assert task.get_subtask("ParallelTask.Double") is subtask


def test_a_class_may_be_its_own_subtask() -> None:
    """It is not made before it is needed."""

    class Deep(ParallelTask):
        def __init__(self) -> None:
            self.set_subtask(Deep)

    assert Deep().subtask.get_key() == "Deep.Deep"


def test_a_stop_from_a_hook_cancels_the_task() -> None:
    """There is no result, and nothing more is run."""

    class Stopping(Doubles):
        def work_unit_complete(self, data: Any, results: Any) -> None:
            super().work_unit_complete(data, results)
            if data == 2:
                self.stop()

    task = Stopping()
    assert task.start() is None
    assert task.status() is Status.CANCELLED
    assert task.found == {0: 0, 1: 2, 2: 4}
