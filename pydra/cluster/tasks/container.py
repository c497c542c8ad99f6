# SPDX-License-Identifier: MIT
"""
A container is made of tasks: they run one after another on its own worker, or all at the same time.

One after another: the first child gets the container's arguments, each next one the dict that the one before
returned (None is no arguments), and the result of the last is the result of the container. At the same time,
as units: each child gets the container's arguments, and the result is the list of theirs, in order. A child
that fails, or that returns something else where a dict is needed, fails the container with `SubtaskFailed`. A
stop reaches all children; those that did not begin never do.
"""

from __future__ import annotations

from pydra.cluster.tasks.failure import FailedBelow
from pydra.cluster.tasks.task import CANCELLED, COMPLETE, FAILED, RUNNING, Task
from pydra.cluster.tasks.units import units_of
from pydra.errors import PydraError, TaskCancelled, TaskError, TaskNotFoundException

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from typing import Any, Self

    from pydra.model.status import Status

PAUSED = 2
PRECEDENCE = (RUNNING, FAILED, PAUSED, CANCELLED)
"""What a container is if it, or any child, is so; the first that applies."""


class SubtaskFailed(FailedBelow):
    """A task inside a container failed."""

    def __init__(self, message: str | None = None, subtask: str = "") -> None:
        self.subtask = subtask
        super().__init__(message)


class Subtask:
    """A child of a container, and its share of the progress in percent (None: an equal part of the rest)."""

    __slots__ = ("percentage", "task")

    def __init__(self, task: Task, percentage: float | None) -> None:
        self.task = task
        self.percentage = percentage


class TaskContainer(Task):
    """
    A task made of tasks that run in the order in which they were added, or (not ``sequential``) all at once.

    Explicit percentages are kept and the remainder of 100 is divided equally among the others. Where all are
    explicit, or they make more than 100, they are scaled, so a finished container is always at 100.
    """

    sequential: bool = True
    """Whether a child runs after the one before it; else each runs on whatever worker is free."""

    _SETTINGS = (*Task._SETTINGS, "sequential")

    subtasks: list[Subtask]

    def __new__(
        cls, *args: Any, **kwargs: Any
    ) -> Self:  # Any: an author's constructor may take what it likes
        """Begin without children, so that an author's ``__init__`` need not call ours."""
        container = super().__new__(cls, *args, **kwargs)
        container.subtasks = []
        return container

    def __init__(self, msg: str | None = None, sequential: bool = True) -> None:
        super().__init__(msg)
        if not sequential:
            self.sequential = False

    def add_task(self, task: Task, percentage: float | None = None) -> None:
        """Add a child; `TaskError` if it is none, or its percentage is not a number from 0 to 100."""
        if not isinstance(task, Task):
            raise TaskError(
                f"A child of a container is a Task, not a {type(task).__name__}; make one of the class."
            )
        if task.parent is not None or task is self:
            raise TaskError(f"{task.get_key()} is already part of another task.")
        if percentage is not None and not (
            isinstance(percentage, int | float)
            and not isinstance(percentage, bool)
            and 0 <= percentage <= 100
        ):
            raise TaskError(f"A percentage is a number from 0 to 100, not {percentage!r}.")
        task.parent = self
        task._key = f"{len(self.subtasks)}.{type(task).__name__}"
        self.subtasks.append(Subtask(task, percentage))

    def work(self, **kwargs: Any) -> Any:  # Any: the arguments and the result belong to the author
        """The result of the last child, or the list of all; None if the container was stopped."""
        if not self.sequential:
            return self._run_parallel(kwargs)
        result: object = None
        arguments: dict[str, object] = kwargs
        last = len(self.subtasks) - 1
        for index, child in enumerate(list(self.subtasks)):
            if self.STOP_FLAG:
                return None
            result = self._run(child.task, arguments)
            if self.STOP_FLAG:
                return None
            if index < last:
                arguments = _arguments(child.task, result)
        return result

    def _run(self, task: Task, arguments: dict[str, object]) -> object:
        try:
            result = task.start(arguments)
            if task.STOP_FLAG:
                self.STOP_FLAG = True  # one that stops itself leaves nothing for those behind it
            return result
        except (TaskCancelled, SubtaskFailed):
            raise
        except SystemExit as ending:
            text = f"it called sys.exit({'' if ending.code is None else ending.code})"
            raise SubtaskFailed(f"Subtask {task.get_key()} failed: {text}", task.get_key()) from ending
        except Exception as fault:
            text = str(fault) if isinstance(fault, PydraError) else f"{type(fault).__name__}: {fault}"
            text = text.removesuffix(": ")
            raise SubtaskFailed(f"Subtask {task.get_key()} failed: {text}", task.get_key()) from fault

    def _run_parallel(self, arguments: dict[str, object]) -> list[object] | None:
        from pydra.cluster.tasks.children import ChildFailed, ParallelChildren  # noqa: PLC0415 - few have any

        try:
            children = [child.task for child in self.subtasks]
            return ParallelChildren(self, children, units_of(self)).run(arguments)
        except ChildFailed as fault:
            key = fault.child.get_key()
            # A container inside told already which of its own children it was.
            told = fault.words if fault.words.startswith(f"Subtask {key}.") else ""
            raise SubtaskFailed(told or f"Subtask {key} failed: {fault.words}", key) from fault.__cause__

    def weights(self) -> list[float]:
        """The share of each child, in percent; they make 100 together."""
        explicit = sum(child.percentage for child in self.subtasks if child.percentage is not None)
        automatic = sum(1 for child in self.subtasks if child.percentage is None)
        rest = max(0.0, 100.0 - explicit) / automatic if automatic else 0.0
        shares = [rest if child.percentage is None else float(child.percentage) for child in self.subtasks]
        total = sum(shares)
        if not total:
            return [100.0 / len(shares) for _ in shares]
        return [share * 100.0 / total for share in shares]

    def progress(self) -> int:
        """The sum of weight and progress of the children; a complete child counts whole."""
        if not self.subtasks:
            return super().progress()
        if all(child.task.status() == COMPLETE for child in self.subtasks):
            return 100
        done = 0.0
        for share, child in zip(self.weights(), self.subtasks, strict=True):
            if child.task.status() == COMPLETE:
                done += share
            elif self.sequential:  # else it runs elsewhere, and nothing more is known of it
                done += share * min(100, max(0, child.task.progress())) / 100
        return int(done + 1e-6)  # 80 of 100 in floats may be 79.999...

    def progressMessage(self) -> str | None:  # noqa: N802 - the original's name
        """The message of the child that runs now; of many, how many they are."""
        if not self.sequential:
            states = [child.task._status for child in self.subtasks]
            return f"{states.count(COMPLETE)} of {len(states)} done, {states.count(RUNNING)} running"
        for child in self.subtasks:
            if child.task.status() == RUNNING:
                return child.task.progressMessage()
        return None

    def status(self) -> Status:
        """The first of `PRECEDENCE` that it or any child has; complete if all children are; else its own."""
        own = super().status()
        children = [child.task.status() for child in self.subtasks]
        for status in PRECEDENCE:
            if status in (own, *children):
                return type(own)(status)
        if children and all(one == COMPLETE for one in children):
            return type(own)(COMPLETE)
        return own

    def start(self, args: Any = None) -> Any:  # Any: as in Task
        """Run the children; children of an earlier run are made anew, as a used container may start again."""
        if self._status in (COMPLETE, FAILED, CANCELLED):
            for child in self.subtasks:
                child.task = child.task._remade()
        return super().start(args)

    def stop(self) -> None:
        """Set the stop flag of all children, and of this."""
        super().stop()
        for child in list(self.subtasks):
            child.task.stop()

    def _guarantee(self) -> int:
        """What it says itself, and what those say that run in its own worker, as a part of it."""
        guarantee = super()._guarantee()
        for child in self.subtasks if self.sequential else ():
            guarantee |= child.task._guarantee()
        return guarantee

    def _find(self, parts: tuple[str, ...]) -> Task:
        place = parts[0]
        if not (place.isascii() and place.isdigit()) or len(place) > 6 or int(place) >= len(self.subtasks):
            raise TaskNotFoundException(f"{self.get_key()} has no subtask number {place!r}.")
        return self.subtasks[int(place)].task.get_subtask(parts[1:])

    def _remade(self) -> Self:
        fresh = super()._remade()
        for child in self.subtasks[len(fresh.subtasks) :]:
            copy = child.task._remade()
            copy.parent = None
            fresh.add_task(copy, child.percentage)
        return fresh


def _arguments(task: Task, result: object) -> dict[str, object]:
    """The arguments of the child after ``task``."""
    if result is None:
        return {}
    if not isinstance(result, dict) or not all(isinstance(name, str) for name in result):
        what = (
            "a dict whose keys are not all text" if isinstance(result, dict) else f"a {type(result).__name__}"
        )
        raise SubtaskFailed(
            f"Subtask {task.get_key()} returned {what}; the next subtask needs a dict of its arguments.",
            task.get_key(),
        )
    return result
