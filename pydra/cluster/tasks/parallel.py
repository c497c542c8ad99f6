# SPDX-License-Identifier: MIT
"""A parallel task has a subtask run for each item of its datasource, all over the cluster."""

from __future__ import annotations

from pydra.cluster.tasks.task import COMPLETE, RUNNING, Task
from pydra.cluster.tasks.units import units_of
from pydra.errors import TaskCancelled, TaskError, TaskNotFoundException

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

    from pydra.cluster.tasks.unit_failure import UnitFailure
    from pydra.cluster.tasks.unit_loop import UnitLoop


IN_CONSTRUCTOR = "its constructor calls set_subtask(Class), since other workers make it anew"


class ParallelTask(Task):
    """
    A task that runs a subtask once for each item of a datasource, as units on any number of workers.

    Derive from it, call ``set_subtask`` in the constructor, and name the ``datasource``; the subtask's
    ``work`` gets each item as ``data``. The hooks ``work_unit_complete`` and ``work_complete`` run in this
    task's own worker, one at a time. Units end in any order, and one may run twice if a machine is lost; each
    has its hook called once.
    """

    datasource: Any = None
    """
    Where the items come from: any iterable, a callable, a tuple of a callable and its arguments, or nothing
    (a single item, None); see ``pydra.cluster.tasks.datasource``. A method of this name is called with the
    arguments of the task, before the settings below are looked at. It is read lazily: a few thousand items
    are held at a time, so it may be endless.
    """

    failure_policy: Any = "fail_fast"
    """
    What a failed unit means: ``"fail_fast"`` fails the task at once, ``"collect"`` goes on and keeps the
    failure in ``failures``, ``("threshold", n)`` goes on while at most ``n`` fail, or, with ``n`` from 0.0 to
    1.0, at most that share of all.
    """

    unit_retries: int = 0
    """How many more times a failed unit is run before it counts as failed."""

    unit_retry_delay: float = 1.0
    """Seconds before the first of them; each next one waits twice as long, up to an hour."""

    unit_time_limit: float = 0.0
    """Seconds that a unit may take before its worker is ended and it has failed; 0 is no limit."""

    _SETTINGS = (
        *Task._SETTINGS,
        "datasource",
        "failure_policy",
        "unit_retries",
        "unit_retry_delay",
        "unit_time_limit",
    )

    failures: dict[int, UnitFailure]
    """
    The units that failed for good, by index. Of those behind the first 1,000 and before the latest only the
    begin of the message is kept, and neither traceback nor item.
    """

    _making: tuple[type[Task], tuple[Any, ...], dict[str, Any]] | None
    _subtask: Task | None
    _loop: UnitLoop | None
    _is_source_stopped: bool

    def __new__(
        cls, *args: Any, **kwargs: Any
    ) -> Self:  # Any: an author's constructor may take what it likes
        """Begin without units, so that an author's ``__init__`` need not call ours."""
        task = super().__new__(cls, *args, **kwargs)
        task.failures = {}
        task._making = task._subtask = task._loop = None
        task._is_source_stopped = False
        return task

    @classmethod
    def from_subtask(cls, task_class: type[Task], *args: Any, **kwargs: Any) -> Self:
        """A parallel task with this subtask; to be given its ``datasource``."""
        made = cls()
        made.set_subtask(task_class, *args, **kwargs)
        return made

    def set_subtask(self, task_class: type[Task], *args: Any, **kwargs: Any) -> None:
        """
        Name the class of the subtask, which is made with these arguments when it is needed.

        Call it in the constructor: other workers make this task anew to find its subtask. `TaskError` if it
        runs already.
        """
        if self._status == RUNNING:
            raise TaskError(f"{self.get_key()} sets its subtask while it runs; {IN_CONSTRUCTOR}.")
        if not isinstance(task_class, type) or not issubclass(task_class, Task):
            raise TaskError(f"A subtask is given as a class of tasks, not as {task_class!r}.")
        self._making = (task_class, args, kwargs)
        self._subtask = None

    @property
    def subtask(self) -> Task:
        """The task that a unit runs a fresh one of; `TaskError` if none was set."""
        if self._subtask is None:
            if self._making is None:
                raise TaskError(f"{self.get_key()} has no subtask; {IN_CONSTRUCTOR}.")
            task_class, args, kwargs = self._making
            made = task_class(*args, **kwargs)
            made.parent = self
            made._key = type(made).__name__
            self._subtask = made
        return self._subtask

    def work_unit_complete(self, data: Any, results: Any) -> None:
        """Called for each unit that is complete, with its item and its result; does nothing here."""

    def work_unit_failed(self, data: Any, failure: UnitFailure) -> None:
        """Called for each unit that failed for good, before the failure policy is looked at."""

    def work_complete(self) -> Any:  # Any: the author's result
        """Called once, after the last unit; what it returns is the result of the task."""
        return None

    def stop_datasource(self) -> None:
        """Draw no further item; the task completes when the units of those before have ended."""
        self._is_source_stopped = True

    def work(self, **kwargs: Any) -> Any:  # Any: the arguments and the result belong to the author
        """Run all units; None if the task was stopped. `UnitFailed` or `DatasourceFailed` if it failed."""
        from time import monotonic  # noqa: PLC0415 - who imports the class may never run it

        from pydra.cluster.tasks.unit_loop import UnitLoop  # noqa: PLC0415 - as above

        self._is_source_stopped = False
        self.failures = {}
        self._loop = None
        items, total = self._items(kwargs)  # first, as it may say how the rest is done
        self._loop = UnitLoop(self, units_of(self), monotonic)
        if not self._loop.run(items, total):
            return None
        return self.work_complete()

    def progress(self) -> int:
        """Percent of the items whose units have ended."""
        loop = self._loop
        return super().progress() if loop is None or self._status == COMPLETE else loop.progress()

    def progressMessage(self) -> str | None:  # noqa: N802 - the original's name
        """How many units are done, under way and failed."""
        loop = self._loop
        return None if loop is None else loop.message()

    def _items(self, arguments: dict[str, Any]) -> tuple[Iterator[object], int | None]:
        """The datasource, opened, and its length if it has one."""
        from pydra.cluster.tasks.datasource import unpack  # noqa: PLC0415 - as in work()
        from pydra.cluster.tasks.unit_failure import datasource_failure  # noqa: PLC0415 - as above

        source = self.datasource
        owner = getattr(source, "__self__", None)
        takes_arguments = owner is self or owner is type(self)
        try:
            return unpack(source(**arguments) if takes_arguments else source)
        except TaskCancelled:
            raise
        except Exception as fault:
            trace = fault.__traceback__
            if takes_arguments and isinstance(fault, TypeError) and trace is not None and not trace.tb_next:
                raise  # the call itself failed: the arguments of the task do not fit
            raise datasource_failure("The datasource cannot be opened", fault) from fault

    def _find(self, parts: tuple[str, ...]) -> Task:
        if self._making is None:
            raise TaskNotFoundException(f"{self.get_key()} has no subtask, so none is {'.'.join(parts)!r}.")
        return self.subtask.get_subtask(parts)

    def _remade(self) -> Self:
        fresh = super()._remade()
        if self._making is not None and (fresh._making is None or fresh._making[0] is not self._making[0]):
            fresh._making = self._making  # it was set after the construction
        return fresh
