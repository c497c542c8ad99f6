# SPDX-License-Identifier: MIT
"""A container runs its children in order and is what they are."""

from __future__ import annotations

import pytest

from pydra.cluster.tasks import Task, TaskContainer
from pydra.cluster.tasks.container import SubtaskFailed
from pydra.errors import TaskCancelled, TaskError, TaskNotFoundException
from pydra.model.status import Status


class Step(Task):
    """Adds its name to what it is given."""

    percent = 0

    def work(self, names: tuple[str, ...] = ()) -> object:  # type: ignore[override]
        return {"names": (*names, self.msg)}

    def progress(self) -> int:
        return self.percent if self.status() is Status.RUNNING else super().progress()

    def progressMessage(self) -> str | None:
        return f"step {self.msg}"


class Answering(Task):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def work(self, **_: object) -> object:
        return self.answer


class Failing(Task):
    def work(self, **_: object) -> object:
        raise ValueError("no")


class Leaving(Task):
    def work(self, **_: object) -> object:
        raise SystemExit(3)


class Calling(Task):
    """Looks at its container while it works."""

    def __init__(self, look: object) -> None:
        super().__init__()
        self.look = look

    def work(self, **_: object) -> object:
        assert callable(self.look)
        return self.look()


def container(*tasks: Task, percentages: tuple[float | None, ...] = ()) -> TaskContainer:
    made = TaskContainer("made")
    for index, task in enumerate(tasks):
        made.add_task(task, percentages[index] if percentages else None)
    return made


def test_the_result_of_a_child_is_the_arguments_of_the_next() -> None:
    """The last result is that of the container."""
    made = container(Step("a"), Step("b"), Step("c"))
    assert made.start({"names": ("begin",)}) == {"names": ("begin", "a", "b", "c")}
    assert made.status() is Status.COMPLETE
    assert made.progress() == 100


def test_the_last_child_may_return_anything() -> None:
    """Only between children must a result be a dict."""
    assert container(Step("a"), Answering([1])).start() == [1]
    assert container(Answering(0)).start() == 0


def test_none_between_children_is_no_arguments() -> None:
    """A child without a result lets the next one run with its defaults."""
    assert container(Answering(None), Step("b")).start() == {"names": ("b",)}


@pytest.mark.parametrize("answer", [1, [], "text", (), {1: 2}])
def test_another_result_between_children_fails_the_container(answer: object) -> None:
    """The failure names the child and what it returned."""
    made = container(Answering(answer), Step("b"))
    with pytest.raises(SubtaskFailed, match=r"TaskContainer\.0\.Answering returned a"):
        made.start()
    assert made.status() is Status.FAILED


def test_an_empty_container_completes_with_nothing() -> None:
    """No children, no result."""
    made = TaskContainer()
    assert made.start({"a": 1}) is None
    assert (made.status(), made.progress()) == (Status.COMPLETE, 100)


def test_a_failing_child_fails_the_container() -> None:
    """The failure names the child; those after it never began."""
    made = container(Step("a"), Failing(), Step("c"))
    with pytest.raises(SubtaskFailed, match=r"TaskContainer\.1\.Failing failed: ValueError: no") as caught:
        made.start()
    assert isinstance(caught.value.__cause__, ValueError)
    assert made.status() is Status.FAILED
    assert [child.task.status() for child in made.subtasks] == [
        Status.COMPLETE,
        Status.FAILED,
        Status.QUEUED,
    ]


def test_a_nested_failure_is_named_once() -> None:
    """The innermost child is the one that is named, with its whole path."""
    made = container(container(Failing()))
    with pytest.raises(SubtaskFailed) as caught:
        made.start()
    assert caught.value.subtask == "TaskContainer.0.TaskContainer.0.Failing"
    assert str(caught.value).count("failed") == 1


def test_a_child_that_exits_fails_the_container() -> None:
    """A call of exit is a failure of the child."""
    with pytest.raises(SubtaskFailed, match=r"0\.Leaving failed: it called sys\.exit\(3\)"):
        container(Leaving()).start()


@pytest.mark.parametrize(
    ("percentages", "weights"),
    [
        ((80, None, None), [80, 10, 10]),
        ((None, None), [50, 50]),
        ((20, 80), [20, 80]),
        ((10, 10), [50, 50]),
        ((100, 100), [50, 50]),
        ((0, 0), [50, 50]),
        ((100, None), [100, 0]),
        ((0, None), [0, 100]),
        ((33.5, None), [33.5, 66.5]),
    ],
)
def test_weights_make_a_hundred(percentages: tuple[float | None, ...], weights: list[float]) -> None:
    """Explicit shares are kept, the rest is divided, and what does not make 100 is scaled."""
    assert weights == container(*(Step() for _ in percentages), percentages=percentages).weights()


@pytest.mark.parametrize("percentage", [-1, 101, "10", True, float("nan"), float("inf"), [1]])
def test_a_percentage_is_a_number_of_percent(percentage: object) -> None:
    """Anything else is refused when it is given."""
    with pytest.raises(TaskError, match="percentage"):
        TaskContainer().add_task(Step(), percentage)  # type: ignore[arg-type]


def test_progress_is_the_weighted_sum() -> None:
    """A complete child counts whole and a running one by its own progress."""
    made = TaskContainer()
    seen: list[int] = []

    def look() -> dict[str, object]:
        seen.append(made.progress())
        return {}

    made.add_task(Calling(look), 80)
    made.add_task(Calling(look))
    made.add_task(Calling(look))
    made.start()
    assert seen == [0, 80, 90]
    assert made.progress() == 100


@pytest.mark.parametrize(("told", "counted"), [(-1, 0), (50, 25), (500, 50)])
def test_an_odd_progress_of_a_child_is_bounded(told: int, counted: int) -> None:
    """Unknown counts as nothing, too much as all."""
    made = container(Step("a"), Step("b"))
    step = made.subtasks[0].task
    assert isinstance(step, Step)
    step._status, step.percent = Status.RUNNING, told
    assert counted == made.progress()


def test_the_message_is_that_of_the_running_child() -> None:
    """When none runs there is none."""
    made = container(Step("a"), Step("b"))
    assert made.progressMessage() is None
    made.subtasks[1].task._status = Status.RUNNING
    assert made.progressMessage() == "step b"


@pytest.mark.parametrize(
    ("children", "status"),
    [
        ((0, 0), Status.QUEUED),
        ((1, -1), Status.RUNNING),
        ((3, -1, -2), Status.FAILED),
        ((2, -2), Status.PAUSED),
        ((3, -2), Status.CANCELLED),
        ((3, 3), Status.COMPLETE),
        ((3, 0), Status.QUEUED),
    ],
)
def test_the_status_is_the_first_that_applies(children: tuple[int, ...], status: Status) -> None:
    """Running, failed, paused, cancelled, complete, queued, in this order."""
    made = container(*(Step() for _ in children))
    for child, one in zip(made.subtasks, children, strict=True):
        child.task._status = one
    assert status is made.status()


def test_between_children_a_container_is_running() -> None:
    """A container that began is never queued again."""
    made = TaskContainer()
    made.add_task(Calling(lambda: {"status": made.status()}))
    assert made.start() == {"status": Status.RUNNING}


def test_a_stop_reaches_every_child() -> None:
    """Nested ones as well."""
    inner = container(Step("b"))
    made = container(Step("a"), inner)
    made.stop()
    assert made.subtasks[0].task.STOP_FLAG
    assert inner.subtasks[0].task.STOP_FLAG
    with pytest.raises(TaskCancelled):
        made.start()


def test_children_do_not_begin_after_a_stop() -> None:
    """The one that runs ends as it likes; the others never run."""
    made = TaskContainer()
    made.add_task(Calling(lambda: made.stop()))
    made.add_task(Failing())
    assert made.start() is None
    assert made.status() is Status.CANCELLED
    assert [child.task.status() for child in made.subtasks] == [Status.CANCELLED, Status.QUEUED]


def test_subtasks_are_found_by_their_keys() -> None:
    """The key of a child finds that child."""
    deep = Step("deep")
    made = container(Step("a"), container(Step("b"), deep))
    assert deep.get_key() == "TaskContainer.1.TaskContainer.1.Step"
    assert made.get_subtask(deep.get_key()) is deep


@pytest.mark.parametrize(
    "path",
    ["TaskContainer.9.Step", "TaskContainer.x.Step", "TaskContainer.0.Other", "TaskContainer.0", "Step"],
)
def test_other_paths_find_nothing(path: str) -> None:
    """A wrong place, class or root is not found."""
    with pytest.raises(TaskNotFoundException):
        container(Step("a")).get_subtask(path)


def test_a_clean_subtask_stands_in_the_same_place() -> None:
    """A used child is answered by a fresh one with the same key."""
    made = container(Step("a"))
    made.start()
    fresh = made.get_subtask("TaskContainer.0.Step", clean=True)
    assert fresh.status() is Status.QUEUED
    assert fresh.get_key() == "TaskContainer.0.Step"
    assert fresh.msg == "a"


def test_a_container_starts_again() -> None:
    """Its children are made anew, those of nested containers too."""
    made = container(Step("a"), container(Step("b")))
    assert made.start() == made.start() == {"names": ("a", "b")}


def test_a_container_made_by_its_class_is_remade_whole() -> None:
    """Children that the constructor adds are not added twice."""

    class Pair(TaskContainer):
        def __init__(self) -> None:
            super().__init__()
            self.add_task(Step("a"))

    pair = Pair()
    pair.add_task(Step("b"), 30)
    pair.start()
    fresh = pair.get_subtask("Pair", clean=True)
    assert isinstance(fresh, Pair)
    assert [(child.task.msg, child.percentage) for child in fresh.subtasks] == [("a", None), ("b", 30)]
    assert fresh.start() == {"names": ("a", "b")}


def test_only_tasks_are_children_and_only_once() -> None:
    """A class, another object, the container itself and a child of another are refused."""
    made = container(Step("a"))
    for wrong in (Step, "Step", None, made, made.subtasks[0].task):
        with pytest.raises(TaskError):
            made.add_task(wrong)  # type: ignore[arg-type]
