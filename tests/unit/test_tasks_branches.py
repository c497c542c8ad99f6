# SPDX-License-Identifier: MIT
"""Branches name the subtasks whose units run, and are found again by their names."""

from __future__ import annotations

import pytest

from pydra.cluster.tasks import Task, TaskContainer
from pydra.cluster.tasks.branches import BRANCH_LIMIT, Branch, asker_of, branch_of, key_of
from pydra.errors import TaskError, TaskNotFoundException
from pydra.model import unit


class Step(Task):
    def work(self) -> str:  # type: ignore[override]
        return self._unit


class Inner(TaskContainer):
    def __init__(self) -> None:
        super().__init__()
        self.add_task(Step("first"))
        self.add_task(Step("second"))


class Outer(TaskContainer):
    def __init__(self) -> None:
        super().__init__()
        self.add_task(Step())
        self.add_task(Inner())


def test_a_branch_is_the_key_below_the_root() -> None:
    """The class of the root is not part of it."""
    outer = Outer()
    assert branch_of(outer.get_subtask("Outer.0.Step")) == "0.Step"
    assert branch_of(outer.get_subtask("Outer.1.Inner.1.Step")) == "1.Inner.1.Step"


def test_below_a_unit_a_branch_begins_with_its_path() -> None:
    """What a unit asks for is told apart from what its neighbours do."""
    inner = Branch(Outer(), "1.Inner").task(7)
    assert inner._unit == "1.Inner:7"
    step = inner.get_subtask("Inner.1.Step")
    assert asker_of(step) is inner
    assert branch_of(step) == "1.Inner:7/1.Step"


def test_who_asks_is_the_root_unless_a_unit_stands_between() -> None:
    """A container that runs inside a root's worker asks in the root's name."""
    outer = Outer()
    assert asker_of(outer.get_subtask("Outer.1.Inner.0.Step")) is outer
    assert asker_of(outer) is outer


@pytest.mark.parametrize(
    ("branch", "key"),
    [("Sub", "Sub"), ("1.Par.Sub", "1.Par.Sub"), ("Q:7/S", "Q.S"), ("0.A:0/Q:12/1.B:0/S", "0.A.Q.1.B.S")],
)
def test_the_key_of_a_branch_leaves_out_the_units(branch: str, key: str) -> None:
    """Levels are joined and their indexes dropped."""
    assert key == key_of(branch)


@pytest.mark.parametrize("branch", ["0.Step", "1.Inner", "1.Inner.1.Step", "1.Inner:7/1.Step"])
def test_a_branch_is_found_from_its_name(branch: str) -> None:
    """The task of a unit has the branch that it was found by."""
    task = Branch(Outer(), branch).task(3)
    assert task.get_key() == f"Outer.{key_of(branch)}"
    assert task._unit == f"{branch}:3"


def test_every_unit_has_a_fresh_task() -> None:
    """What one unit leaves behind is not seen by the next; the making is that of the first."""
    branch = Branch(Outer(), "1.Inner.1.Step")
    first, second = branch.task(0), branch.task(1)
    assert first is not second
    assert (first.start(), second.start()) == ("1.Inner.1.Step:0", "1.Inner.1.Step:1")
    assert first.msg == second.msg == "second"


@pytest.mark.parametrize("branch", ["", "2.Step", "0.Other", "Sub", "/0.Step", "0.Step:1/0.Step", "x:/y"])
def test_a_branch_without_a_task_is_not_found(branch: str) -> None:
    """Whatever the name is, the answer is the same error."""
    with pytest.raises(TaskNotFoundException):
        Branch(Outer(), branch)


def test_a_name_that_is_too_long_is_refused() -> None:
    """The limit is that of the cluster."""
    assert unit.BRANCH_LIMIT == BRANCH_LIMIT
    container = TaskContainer()
    step: Task = Step()
    container.add_task(step)
    for _ in range(80):
        outer = TaskContainer()
        outer.add_task(container)
        container = outer
    with pytest.raises(TaskError, match="stands too deep"):
        branch_of(step)
