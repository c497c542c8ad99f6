# SPDX-License-Identifier: MIT
"""The children of a container may run at the same time, each as a unit of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pydra.cluster.interfaces import Answered
from pydra.cluster.tasks import ParallelTask, Task, TaskContainer
from pydra.cluster.tasks.children import ParallelChildren
from pydra.cluster.tasks.container import SubtaskFailed
from pydra.cluster.tasks.unit_loop import LOOK_S, WINDOW_UNITS
from pydra.cluster.wire import payload
from pydra.errors import TaskCancelled, TaskError
from pydra.model.status import Status
from tests.support.scripted_units import Script, ScriptedUnits


class Step(Task):
    """Answers its name and what it is given."""

    def work(self, data: Any = None) -> Any:  # type: ignore[override]
        return [self.msg, data]


class Failing(Task):
    def work(self, **_: Any) -> None:
        raise ValueError("no")


class Steps(ParallelTask):
    def __init__(self, msg: str | None = None) -> None:
        super().__init__(msg)
        self.set_subtask(Step, "unit")
        self.found: list[Any] = []

    def datasource(self, data: int = 2) -> Any:
        return range(data)

    def work_unit_complete(self, data: Any, results: Any) -> None:
        self.found.append(results)

    def work_complete(self) -> Any:
        return self.found


def children_of(container: TaskContainer, units: Any) -> ParallelChildren:
    """One run of the children of a container."""
    return ParallelChildren(container, [child.task for child in container.subtasks], units)


def side_by_side(*tasks: Task, percentages: tuple[float | None, ...] = ()) -> TaskContainer:
    made = TaskContainer(sequential=False)
    for index, task in enumerate(tasks):
        made.add_task(task, percentages[index] if percentages else None)
    return made


def run(container: TaskContainer, script: Script) -> tuple[object, ScriptedUnits]:
    units = ScriptedUnits(script)
    return children_of(container, units).run({"data": 1}), units


def test_results_are_in_the_order_of_the_children() -> None:
    """Each child gets the container's arguments."""
    made = side_by_side(Step("a"), Step("b"), Step("c"))
    assert made.start({"data": 1}) == [["a", 1], ["b", 1], ["c", 1]]
    assert (made.status(), made.progress()) == (Status.COMPLETE, 100)


def test_a_container_without_children_has_no_results() -> None:
    """It completes at once."""
    assert side_by_side().start({"data": 1}) == []


@pytest.mark.parametrize("value", [0, "", None, False, [], {}])
def test_falsy_results_are_results(value: object) -> None:
    """What a child returns is never taken for nothing."""
    made = side_by_side(Step(), Step())
    assert made.start({"data": value}) == [[None, value], [None, value]]


def test_each_child_is_a_branch_with_one_unit() -> None:
    """All are asked for before any has answered."""

    def script(units: ScriptedUnits) -> list[Answered]:
        assert list(units.outstanding) == [("0.Step", 0), ("1.Step", 0)]
        assert set(units.outstanding.values()) == {payload.pack({"data": 1})}
        return [units.complete("1.Step", 0, "b"), units.complete("0.Step", 0, "a")]

    result, units = run(side_by_side(Step(), Step()), script)
    assert result == ["a", "b"]
    assert units.forgotten == []


def test_progress_counts_the_children_that_are_complete() -> None:
    """By their weights; of those that run elsewhere nothing more is known."""
    made = side_by_side(Step(), Step(), Step(), percentages=(80, None, None))
    told: list[tuple[int, str | None, Status]] = []

    def script(units: ScriptedUnits) -> list[Answered]:
        told.append((made.progress(), made.progressMessage(), made.status()))
        return [units.complete(*list(units.outstanding)[-1])]

    run(made, script)
    assert told == [
        (0, "0 of 3 done, 3 running", Status.RUNNING),
        (10, "1 of 3 done, 2 running", Status.RUNNING),
        (20, "2 of 3 done, 1 running", Status.RUNNING),
    ]
    assert made.progress() == 100


def test_a_failing_child_fails_the_container() -> None:
    """It is named, its own lines are shown, and the children that did not end are forgotten."""
    made = side_by_side(Step("a"), Failing(), Step("c"))
    with pytest.raises(
        SubtaskFailed, match=r"^Subtask TaskContainer\.1\.Failing failed: ValueError: no$"
    ) as caught:
        made.start()
    assert caught.value.subtask == "TaskContainer.1.Failing"
    assert 'raise ValueError("no")' in str(caught.value.__cause__)
    assert made.status() is Status.FAILED


def test_children_that_did_not_end_are_forgotten() -> None:
    """Whether another one failed or the container was stopped; they count as cancelled."""
    made = side_by_side(Step(), Step(), Step())
    units = ScriptedUnits(lambda told: [told.complete("0.Step", 0), told.fail("1.Step", 0)])
    with pytest.raises(Exception, match="no"):
        children_of(made, units).run({})
    assert units.forgotten == ["2.Step"]
    assert [child.task.status() for child in made.subtasks] == [
        Status.COMPLETE,
        Status.FAILED,
        Status.CANCELLED,
    ]


def test_a_stop_is_seen_while_children_run() -> None:
    """The container looks at its flag several times a second, and has no result then."""
    made = side_by_side(Step(), Step())

    def script(units: ScriptedUnits) -> list[Answered]:
        if units.now > 1:
            made.stop()
        return []

    result, units = run(made, script)
    assert result is None
    assert units.forgotten == ["0.Step", "1.Step"]
    assert units.waits == [LOOK_S] * len(units.waits)


def test_a_cancel_that_units_tell_goes_through() -> None:
    """Even if nothing can be forgotten any more."""

    class Cancelled(ScriptedUnits):
        def answers(self, timeout: float | None = None) -> Sequence[Answered]:
            raise TaskCancelled

        def forget(self, branch: str) -> None:
            raise TaskCancelled

    with pytest.raises(TaskCancelled):
        children_of(side_by_side(Step()), Cancelled(lambda _: [])).run({})


def test_answers_that_nobody_awaits_are_passed_over() -> None:
    """A second answer changes nothing."""

    def script(units: ScriptedUnits) -> list[Answered]:
        if len(units.outstanding) == 2:
            return [units.complete("0.Step", 0, "first")]
        return [("0.Step", 0, b"\xc0", None), ("9.Other", 0, b"\xc0", None), units.complete("1.Step", 0, "b")]

    assert run(side_by_side(Step(), Step()), script)[0] == ["first", "b"]


def test_a_result_that_cannot_be_read_fails_its_child() -> None:
    """The child is named."""
    made = side_by_side(Step())
    with pytest.raises(Exception, match="Its result cannot be read"):
        run(made, lambda units: [("0.Step", 0, b"\xc1", None)])
    assert made.subtasks[0].task.status() is Status.FAILED


def test_so_many_children_are_asked_for_at_a_time() -> None:
    """No more than a worker may have outstanding."""
    made = side_by_side(*(Step() for _ in range(WINDOW_UNITS + 5)))
    result, units = run(made, lambda told: [told.complete(*key) for key in list(told.outstanding)])
    assert isinstance(result, list)
    assert len(result) == WINDOW_UNITS + 5
    assert units.most == WINDOW_UNITS


@pytest.mark.parametrize(
    ("value", "words"), [(object(), "args.*a value of type object"), ("x" * 9_000_000, "8.6 MiB packed")]
)
def test_arguments_that_cannot_travel_are_told(value: object, words: str) -> None:
    """Before any child begins."""
    made = side_by_side(Step())
    with pytest.raises(TaskError, match=words):
        made.start({"data": value})
    assert made.subtasks[0].task.status() is Status.QUEUED


def pair(sequential: bool) -> type[TaskContainer]:
    class Pair(TaskContainer):
        def __init__(self) -> None:
            super().__init__(sequential=sequential)
            self.add_task(Steps())
            self.add_task(Step("b"))

    return Pair


@pytest.mark.parametrize(
    ("make", "result"),
    [
        (lambda: side_by_side(side_by_side(Step("a")), Step("b")), [[["a", 2]], ["b", 2]]),
        (lambda: side_by_side(Steps(), Step("b")), [[["unit", 0], ["unit", 1]], ["b", 2]]),
        (lambda: side_by_side(pair(False)()), [[[["unit", 0], ["unit", 1]], ["b", 2]]]),
    ],
)
def test_containers_nest(make: Callable[[], TaskContainer], result: object) -> None:
    """Containers and parallel tasks stand in one another as one likes."""
    assert result == make().start({"data": 2})


def test_a_container_with_parallel_children_may_be_the_subtask_of_a_parallel_task() -> None:
    """Each unit asks for the children by itself."""
    task = Steps.from_subtask(pair(False))
    assert task.start({"data": 2}) == [[[], ["b", 0]], [[["unit", 0]], ["b", 1]]]


def test_a_nested_failure_is_named_once() -> None:
    """The innermost child is the one that is named, with its whole path."""
    with pytest.raises(SubtaskFailed) as caught:
        side_by_side(Step(), side_by_side(Failing())).start()
    assert str(caught.value) == "Subtask TaskContainer.1.TaskContainer.0.Failing failed: ValueError: no"


def test_parallel_children_inside_a_sequence_answer_a_list() -> None:
    """So the container must be the last, or what follows has no arguments."""
    sequence = TaskContainer()
    sequence.add_task(side_by_side(Step("a")))
    assert sequence.start({"data": 5}) == [["a", 5]]
    sequence.add_task(Step())
    with pytest.raises(SubtaskFailed, match="returned a list"):
        sequence.start({"data": 5})


def test_a_class_may_say_that_its_children_are_parallel() -> None:
    """As the constructor may."""

    class Together(TaskContainer):
        sequential = False

        def __init__(self) -> None:
            super().__init__()
            self.add_task(Step("a"))

    assert Together().start({"data": 1}) == [["a", 1]]


def test_a_container_starts_again() -> None:
    """Its children are made anew."""
    made = side_by_side(Step("a"), Steps())
    assert made.start({"data": 1}) == made.start({"data": 1}) == [["a", 1], [["unit", 0]]]
