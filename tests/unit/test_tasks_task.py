# SPDX-License-Identifier: MIT
"""A task runs standalone and tells truthfully where it stands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pydra.cluster.tasks import Task, TaskNotFoundException, task
from pydra.errors import TaskCancelled
from pydra.model.status import Status


class Sum(Task):
    def work(self, a: int = 0, b: int = 0) -> int:  # type: ignore[override]
        return a + b


class Failing(Task):
    def work(self, **_: object) -> object:
        raise ValueError("no")


class Careless(Task):
    """Its constructor does not call ours, and takes arguments of its own."""

    def __init__(self, first: int, *, second: int = 2) -> None:
        self.numbers = first, second

    def work(self, **_: object) -> object:
        return self.numbers


def test_start_answers_what_work_returns() -> None:
    """A standalone task runs at once and answers the result."""
    assert Sum().start({"a": 1, "b": 2}) == 3
    assert Sum().start() == 0


def test_a_task_is_complete_after_its_work() -> None:
    """Status and progress follow the run."""
    sum_ = Sum()
    assert (sum_.status(), sum_.progress()) == (Status.QUEUED, 0)
    sum_.start()
    assert (sum_.status(), sum_.progress()) == (Status.COMPLETE, 100)


def test_a_task_is_running_while_it_works() -> None:
    """Work sees its own task running."""

    class Looking(Task):
        def work(self, **_: object) -> object:
            return self.status(), self.progress()

    assert Looking().start() == (Status.RUNNING, 0)


def test_what_work_raises_is_raised_and_fails_the_task() -> None:
    """A failure is not hidden, and is recorded."""
    failing = Failing()
    with pytest.raises(ValueError, match="no"):
        failing.start()
    assert failing.status() is Status.FAILED


def test_a_task_that_was_stopped_does_not_begin() -> None:
    """A stop before the start wins."""
    sum_ = Sum()
    sum_.stop()
    with pytest.raises(TaskCancelled):
        sum_.start()
    assert sum_.status() is Status.CANCELLED


def test_a_task_that_returns_after_a_stop_is_cancelled() -> None:
    """Returning early is how a task is cancelled."""

    class Stopped(Task):
        def work(self, **_: object) -> object:
            self.stop()
            return "partial"

    stopped = Stopped()
    assert stopped.start() == "partial"
    assert stopped.status() is Status.CANCELLED


def test_a_task_that_ended_starts_again() -> None:
    """A used task is as good as a new one."""
    sum_ = Sum()
    sum_.stop()
    with pytest.raises(TaskCancelled):
        sum_.start()
    assert sum_.start({"a": 4}) == 4
    assert sum_.status() is Status.COMPLETE


def test_a_task_without_work_says_so() -> None:
    """The class that everything derives from does nothing by itself."""
    with pytest.raises(NotImplementedError, match=r"Task has no work\(\)"):
        Task().start()


def test_a_constructor_need_not_call_ours() -> None:
    """What every task has is there before any constructor runs."""
    careless = Careless(1)
    assert careless.start() == (1, 2)
    assert (careless.msg, careless.STOP_FLAG, careless.get_worker()) == (None, False, None)


def test_the_key_of_a_root_is_its_class() -> None:
    """A root's path has one part."""
    assert Sum().get_key() == "Sum"


def test_a_task_finds_itself() -> None:
    """The path of a root finds the root, as text and as a list."""
    sum_ = Sum()
    assert sum_.get_subtask("Sum") is sum_
    assert sum_.get_subtask(["Sum"]) is sum_


@pytest.mark.parametrize("path", ["", "Other", "Sum.Child", ["Sum", "0"], []])
def test_an_unknown_subtask_is_not_found(path: str | list[str]) -> None:
    """Any other path says that there is no such subtask."""
    with pytest.raises(TaskNotFoundException):
        Sum().get_subtask(path)


def test_clean_makes_a_used_task_anew() -> None:
    """A fresh task is made with the arguments of the used one; an unused one is kept."""
    careless = Careless(5, second=6)
    assert careless.get_subtask("Careless", clean=True) is careless
    careless.start()
    fresh = careless.get_subtask("Careless", clean=True)
    assert fresh is not careless
    assert fresh.start() == (5, 6)


def test_a_standalone_logger_is_named_by_the_task() -> None:
    """The logger works without a worker."""
    assert Sum().logger.name == "pydra.task.Sum"


def test_the_integers_are_those_of_the_status() -> None:
    """Tasks keep integers so as not to load enum; they are the model's."""
    assert Status.QUEUED == task.QUEUED
    assert Status.RUNNING == task.RUNNING
    assert Status.COMPLETE == task.COMPLETE
    assert Status.FAILED == task.FAILED
    assert Status.CANCELLED == task.CANCELLED


def test_importing_tasks_loads_next_to_nothing() -> None:
    """An author's program does not pay for what it does not use."""
    program = "import sys; import pydra.cluster.tasks; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    heavy = {"typing", "inspect", "dataclasses", "logging", "enum", "re", "threading", "msgspec", "twisted"}
    assert set() == heavy & set(done.stdout.split())
