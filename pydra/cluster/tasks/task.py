# SPDX-License-Identifier: MIT
"""A task: the class that authors derive from, and what it knows of its own run."""

from __future__ import annotations

from pydra.errors import TaskCancelled, TaskError, TaskNotFoundException

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence
    from typing import Any, ClassVar, Protocol, Self

    from pydra.cluster.interfaces import Units
    from pydra.model.status import Status

    class Worker(Protocol):
        """The worker that a task runs on."""

        worker_key: str
        instance: int

        @property
        def units(self) -> Units:
            """Where the task gets its units run."""

        def capture_logging(self) -> None:
            """Send the records of ``logging`` to the log of the instance, from now on."""


QUEUED, RUNNING, COMPLETE, FAILED, CANCELLED = 0, 1, 3, -1, -2
"""The integers of ``pydra.model.status.Status``; that itself loads enum, which few workers need."""

ONCE, EXCLUSIVE = 1, 2
"""Those of ``pydra.model.options.Guarantee``."""


class Task:
    """
    One piece of work; derive from it and write ``work``.

    A class is found in its package by its task key ``package.module.Class`` and made without arguments.
    ``work`` takes its arguments by name and returns the result: JSON types, bytes, date, time, datetime,
    Decimal, UUID, and lists and dicts of them. ``progress`` and ``progressMessage`` are asked a few times
    a second from another thread, so they only read what ``work`` has noted.
    """

    description: ClassVar[str] = ""
    """A sentence or two for lists of tasks; without it, the first paragraph of the docstring of the class."""

    form: ClassVar[type | str | None] = None
    """
    The arguments that the task declares: a class of Django forms, or ``"module.Class"`` within the package,
    which spares the worker that runs ``work`` the import of Django. Without a form it takes any arguments.
    """

    time_limit: ClassVar[float] = 0.0
    """
    Seconds that one run of an instance may take; then it is ended by force and has failed. 0 is no limit.

    Whoever submits it may ask for another limit; the same goes for retries.
    """

    retries: ClassVar[int] = 0
    """How often an instance that failed is run again before it has failed for good."""

    retry_delay: ClassVar[float] = 1.0
    """Seconds before the first retry; each further one waits twice as long, up to a day."""

    retry: ClassVar[str] = "lost"
    """
    Whether it is run again after its worker or its machine was lost: ``"lost"`` says so, ``"never"`` is for
    what must not happen twice; then it has failed instead, and may have no retries. So for an instance, and
    for a unit of this class. Whoever submits it may ask for ``"never"`` too.
    """

    exclusive: ClassVar[bool] = False
    """
    Whether no two attempts of it may be alive at the same time, so that one which is lost to the cluster ends
    before the next begins. For instances and units, as ``retry``.
    """

    _SETTINGS: ClassVar[tuple[str, ...]] = ("retry", "exclusive")
    """Attributes that are settings: what was given to a task itself, those made after it have too."""

    STOP_FLAG: bool
    """True once the task was asked to stop; ``work`` looks at it from time to time and returns early."""

    msg: str | None
    parent: Task | None
    """The task that this one is part of; None for a root."""

    def __new__(
        cls, *args: Any, **kwargs: Any
    ) -> Self:  # Any: an author's constructor may take what it likes
        """Begin with what every task has, so that an author's ``__init__`` need not call ours."""
        task = super().__new__(cls)
        task.msg = None
        task.parent = None
        task.STOP_FLAG = False
        task._key = cls.__name__
        task._status = QUEUED
        task._running_unit = None
        task._worker = None
        task._made_with = (args, kwargs)
        return task

    _key: str
    _status: int
    _running_unit: Task | None
    """The unit of this task that runs in this very process, if it is one without a cluster."""

    _worker: Worker | None
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __init__(self, msg: str | None = None) -> None:
        self.msg = msg

    def work(self, **kwargs: Any) -> Any:  # Any: the arguments and the result belong to the author
        """Do the work and return the result; a task without this is not a task."""
        raise NotImplementedError(f"{type(self).__name__} has no work().")

    def progress(self) -> int:
        """Percent done, 0 to 100; -1 if unknown."""
        return 100 if self._status == COMPLETE else 0

    def progressMessage(self) -> str | None:  # noqa: N802 - the original's name
        """What the task is doing, for people; None if there is nothing to say."""
        return None

    def status(self) -> Status:
        """Where this task stands: queued until it starts, running, then complete, failed or cancelled."""
        from pydra.model.status import Status  # noqa: PLC0415 - see QUEUED

        return Status(self._status)

    def start(self, args: Mapping[str, object] | None = None) -> Any:  # Any: the author's result
        """
        Run ``work(**args)`` now, in this thread, and return its result; what ``work`` raises is raised.

        A task that ended may be started again. One that was stopped before it began does not begin:
        `TaskCancelled`.
        """
        if self._status in (COMPLETE, FAILED, CANCELLED):
            self.STOP_FLAG = False
        if self.STOP_FLAG:
            self._status = CANCELLED
            raise TaskCancelled("The task was stopped before it began.")
        self._status = RUNNING
        try:
            result = self.work(**(args or {}))
        except TaskCancelled:
            self._status = CANCELLED
            raise
        except BaseException:
            self._status = FAILED
            raise
        self._status = CANCELLED if self.STOP_FLAG else COMPLETE
        return result

    def stop(self) -> None:
        """Set the stop flag, of everything inside the task too."""
        self.STOP_FLAG = True
        if (unit := self._running_unit) is not None:
            unit.stop()

    @property
    def logger(self) -> logging.Logger:
        """The task's logger; in a worker its records go to the log of the instance."""
        import logging  # noqa: PLC0415 - 14 ms that most tasks never need

        worker = self.get_worker()
        if worker is not None:
            worker.capture_logging()
        return logging.getLogger(f"pydra.task.{self.get_key()}")

    def get_worker(self) -> Worker | None:
        """The worker that this runs on, with its ``worker_key``; None when standalone."""
        if self._worker is None and self.parent is not None:
            return self.parent.get_worker()
        return self._worker

    def get_key(self) -> str:
        """The task path: the class of the root, then the place and class of each subtask."""
        return self._key if self.parent is None else f"{self.parent.get_key()}.{self._key}"

    def get_subtask(self, path: str | Sequence[str], clean: bool = False) -> Task:
        """
        The task at ``path``, which begins with this one's own class, as ``get_key`` tells it.

        With ``clean`` a task that was already used is answered by a fresh one of the same making.
        `TaskNotFoundException` if there is none.
        """
        parts = tuple(path.split(".")) if isinstance(path, str) else tuple(str(part) for part in path)
        if not parts or parts[0] != type(self).__name__:
            raise TaskNotFoundException(f"There is no subtask {'.'.join(parts)!r} in {self.get_key()}.")
        task = self._find(parts[1:]) if len(parts) > 1 else self
        return task._remade() if clean and task._status != QUEUED else task

    def _guarantee(self) -> int:
        """What is promised of its attempts, by what its class says; `TaskError` if that is nothing."""
        retry, exclusive = self.retry, self.exclusive
        if not isinstance(retry, str) or retry not in ("lost", "never"):
            raise TaskError(
                f'retry of {type(self).__name__} is {retry!r}; it can be "lost" or "never".'[:300]
            )
        if not isinstance(exclusive, bool):
            told = f"exclusive of {type(self).__name__} is {exclusive!r}; it can be True or False."
            raise TaskError(told[:300])
        return (ONCE if retry == "never" else 0) | (EXCLUSIVE if exclusive else 0)

    def _find(self, parts: tuple[str, ...]) -> Task:
        """The subtask at the rest of a path."""
        raise TaskNotFoundException(f"{self.get_key()} has no subtasks, so none is {'.'.join(parts)!r}.")

    def _remade(self) -> Self:
        """A fresh task, made as this one was and standing in the same place."""
        args, kwargs = self._made_with
        fresh = type(self)(*args, **kwargs)
        fresh.parent, fresh._key, fresh._worker = self.parent, self._key, self._worker
        given = self.__dict__
        for name in self._SETTINGS:
            if name in given and name not in fresh.__dict__:
                fresh.__dict__[name] = given[name]
        return fresh
