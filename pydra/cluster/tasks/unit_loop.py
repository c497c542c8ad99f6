# SPDX-License-Identifier: MIT
"""
The loop of a parallel task: draws items, asks for their units, and takes what comes of them.

Items are drawn in slices, and only while there is room: at most `WINDOW_UNITS` and `WINDOW_BYTES` are drawn
and not settled. A unit is settled when its hook was called; a failed one may be asked for again before that.
The cluster and a plain interpreter differ only in the ``Units`` that the loop is given.
"""

from __future__ import annotations

from heapq import heappop, heappush

from pydra.cluster.tasks.task import ONCE
from pydra.cluster.tasks.unit_failure import (
    DatasourceFailed,
    FailurePolicy,
    UnitFailed,
    UnitFailure,
    datasource_failure,
    item_in_words,
)
from pydra.cluster.tasks.units import branch_of
from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import ANSWER_LIMIT
from pydra.errors import (
    Conflict,
    InvalidParameters,
    LimitExceeded,
    TaskCancelled,
    TaskError,
    TaskLost,
    TaskNotFoundException,
    WireError,
    WorkerDied,
)

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    from pydra.cluster.interfaces import Answered, Units
    from pydra.cluster.tasks.task import Task

    class Asking(Protocol):
        """The task that asks for units, as `ParallelTask` describes it: its settings and its hooks."""

        STOP_FLAG: bool
        failure_policy: object
        unit_retries: int
        unit_retry_delay: float
        unit_time_limit: float
        failures: dict[int, UnitFailure]
        _is_source_stopped: bool

        @property
        def subtask(self) -> Task:
            """What each unit runs."""
            ...

        def get_key(self) -> str:
            """Its task path."""
            ...

        def work_unit_complete(self, data: object, results: object) -> None:
            """A unit is complete."""
            ...

        def work_unit_failed(self, data: object, failure: UnitFailure) -> None:
            """A unit failed for good."""
            ...


WINDOW_UNITS = 4096
"""Units whose items are held, since they were drawn and no hook was called yet."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes of their arguments; one that is larger than the rest of it waits."""

SLICE = 512
"""Units that are asked for at once; the first slices are smaller."""

ASK_AFTER_S = 0.005
"""What was drawn is asked for after this, even if the slice is not full."""

LOOK_S = 0.1
"""How long the loop waits for answers before it looks at the stop flag."""

RETRY_DELAY_LIMIT = 3600.0
"""Seconds; no retry waits longer."""

FULL_FAILURES = 1000
"""Failures that are kept whole, beside the latest; a million tracebacks would fill the memory."""

LASTING = frozenset(
    each.code
    for each in (
        Conflict,
        InvalidParameters,
        TaskNotFoundException,
        TaskLost,
        WorkerDied,
        WireError,
        LimitExceeded,
    )
)
"""Failures that no retry changes; whoever lost its worker was tried often enough by the scheduler."""

ITEM_LIMIT = ANSWER_LIMIT
"""Bytes of the packed arguments of one unit."""

_END = object()


class UnitLoop:
    """Runs the units of one call of a parallel task's ``work``."""

    def __init__(self, task: Asking, units: Units, clock: Callable[[], float]) -> None:
        """``clock`` tells rising seconds. `TaskError` if the task has no subtask, or wrong settings."""
        self.completed = self.failed = 0
        self.total: int | None = None
        self._task = task
        self._units = units
        self._branch = branch_of(task.subtask)
        self._clock = clock
        self._policy = FailurePolicy(task.failure_policy)
        self._guarantee = task.subtask._guarantee()
        check_settings(task, self._guarantee)
        self._items: Iterator[object] | None = None
        self._drawn = 0
        self._slice = 1
        self._size = 0
        self._flight: dict[int, tuple[object, bytes]] = {}  # asked for
        self._resting: dict[int, tuple[object, bytes]] = {}  # failed, to be asked for again
        self._due: list[tuple[float, int]] = []  # a heap: when which of them
        self._tries: dict[int, int] = {}
        self._held: tuple[int, object, bytes] | None = None  # drawn, and too large for the window
        self._latest: UnitFailure | None = None

    def run(self, items: Iterator[object], total: int | None) -> bool:
        """Run the units of all items; False if the task was stopped meanwhile. A failure raises."""
        self._items, self.total = items, total
        task = self._task
        try:
            while not task.STOP_FLAG:
                self._ask_again()
                if self._may_draw():
                    self._draw()
                if self._is_done():
                    self._judge(self._drawn)
                    return True
                self._settle(self._units.answers(self._patience()))
            return False
        finally:
            self._end()

    def progress(self) -> int:
        """Percent, of all items or, if nobody knows how many there are, of those that were drawn."""
        done = self.completed + self.failed
        if self.total is None:
            known = done + self.running
            return 100 * done // known if known else 0
        return min(100, 100 * done // self.total) if self.total else 0

    def message(self) -> str:
        """How many units are where, for people."""
        return f"{self.completed} done, {self.running} under way, {self.failed} failed"

    @property
    def running(self) -> int:
        """Units that were asked for, or will be once more."""
        return len(self._flight) + len(self._resting)

    def _may_draw(self) -> bool:
        if self._held is not None:
            return self._fits(self._held[2])
        if self._items is None or self._task._is_source_stopped:
            return False
        return self.running < WINDOW_UNITS and self._size < WINDOW_BYTES

    def _fits(self, packed: bytes) -> bool:
        return self._size + len(packed) <= WINDOW_BYTES or not self._size

    def _is_done(self) -> bool:
        if self._flight or self._resting or self._held is not None:
            return False
        return self._items is None or self._task._is_source_stopped

    def _draw(self) -> None:
        """Draw a slice and ask for its units; one item at least, if there is one."""
        until = self._clock() + ASK_AFTER_S
        indexes: list[int] = []
        args: list[bytes] = []
        room = min(self._slice, WINDOW_UNITS - self.running)
        while len(args) < room:
            if self._held is not None:
                index, item, packed = self._held
                self._held = None
            else:
                item = self._next()
                if item is _END:
                    self._items = None
                    break
                index, packed = self._drawn, self._packed(item)
                self._drawn += 1
                if not self._fits(packed):
                    self._held = (index, item, packed)
                    break
            self._flight[index] = (item, packed)
            self._size += len(packed)
            indexes.append(index)
            args.append(packed)
            if self._task._is_source_stopped or self._task.STOP_FLAG or self._clock() > until:
                break
        # A source that waits for each item has each asked for at once; one that does not, many together.
        self._slice = max(1, len(args) // 2) if self._clock() > until else min(SLICE, 2 * self._slice)
        if indexes:
            self._units.ask(self._branch, indexes, args, self._task.unit_time_limit, self._guarantee)

    def _next(self) -> object:
        if self._items is None:
            return _END
        try:
            return next(self._items, _END)
        except TaskCancelled:
            raise
        except Exception as fault:
            raise datasource_failure(f"The datasource failed at item {self._drawn}", fault) from fault

    def _packed(self, item: object) -> bytes:
        try:
            packed = payload.pack({"data": item}, "args")
        except (TypeError, ValueError) as fault:
            raise DatasourceFailed(f"Item {self._drawn} of the datasource cannot be sent: {fault}") from None
        if len(packed) > ITEM_LIMIT:
            size, limit = len(packed) / 2**20, ITEM_LIMIT // 2**20
            raise DatasourceFailed(
                f"Item {self._drawn} of the datasource is {size:.1f} MiB packed; the limit is {limit} MiB.",
                "limit",
            )
        return packed

    def _ask_again(self) -> None:
        """Ask for the failed units whose delay is over."""
        if not self._due:
            return
        now = self._clock()
        indexes: list[int] = []
        while self._due and self._due[0][0] <= now:
            index = heappop(self._due)[1]
            self._flight[index] = self._resting.pop(index)
            indexes.append(index)
        if indexes:
            args = [self._flight[index][1] for index in indexes]
            self._units.ask(self._branch, indexes, args, self._task.unit_time_limit, self._guarantee)

    def _patience(self) -> float:
        """Seconds to wait for answers now."""
        if self._may_draw():
            return 0.0
        if not self._due:
            return LOOK_S
        return min(LOOK_S, max(0.0, self._due[0][0] - self._clock()))

    def _settle(self, answers: Sequence[Answered]) -> None:
        """Call the hooks, each in turn; what is not awaited is passed over."""
        task, branch, flight, unpack = self._task, self._branch, self._flight, payload.unpack
        for from_branch, index, result, failure in answers:
            if task.STOP_FLAG:
                return
            unit = flight.pop(index, None) if from_branch == branch else None
            if unit is None:
                continue
            item, packed = unit
            self._size -= len(packed)
            if failure is None:
                try:
                    value = unpack(result)
                except WireError as fault:
                    failure = (fault.code, f"Its result cannot be read: {fault}", "")
                else:
                    if self._tries:
                        self._tries.pop(index, None)
                    self.completed += 1
                    task.work_unit_complete(item, value)
                    continue
            self._fail(index, unit, failure)

    def _fail(self, index: int, unit: tuple[object, bytes], failure: tuple[str, str, str]) -> None:
        """Have a failed unit run again later, or settle it; raises if the policy says so."""
        task = self._task
        code, message, traceback = failure
        tries = self._tries.pop(index, 0)
        if tries < task.unit_retries and code not in LASTING:
            self._tries[index] = tries + 1
            delay = min(RETRY_DELAY_LIMIT, task.unit_retry_delay * 2.0 ** min(tries, 40))
            heappush(self._due, (self._clock() + delay, index))
            self._resting[index] = unit
            self._size += len(unit[1])
            return
        path, item = f"{self._units.path(self._branch)}:{index}", item_in_words(unit[0])
        told = UnitFailure(path, index, code, message, traceback, item)
        if self._latest is not None and len(task.failures) > FULL_FAILURES:
            self._latest.shorten()
        task.failures[index] = self._latest = told
        self.failed += 1
        task.work_unit_failed(unit[0], told)
        self._judge(self.total)

    def _judge(self, total: int | None) -> None:
        if self._latest is not None:
            objection = self._policy.objection(self.failed, total)
            if objection is not None:
                raise UnitFailed(self._latest, objection)

    def _end(self) -> None:
        """Drop all that is held; nothing is awaited any more."""
        is_awaited = bool(self._flight)
        self._items = self._held = None
        self._flight.clear()
        self._resting.clear()
        if is_awaited:
            try:
                self._units.forget(self._branch)
            except TaskCancelled:
                return  # all of it was forgotten with the instance


def check_settings(task: Asking, guarantee: int) -> None:
    """`TaskError` if units of this ``guarantee`` cannot be run as the task says."""
    for name, kinds in (
        ("unit_retries", int),
        ("unit_retry_delay", int | float),
        ("unit_time_limit", int | float),
    ):
        value = getattr(task, name)
        if not isinstance(value, kinds) or isinstance(value, bool) or not 0 <= value < float("inf"):
            what = "a whole number" if kinds is int else "a number of seconds"
            raise TaskError(f"{name} of {task.get_key()} is {what} from 0, not {value!r}.")
    if guarantee & ONCE and task.unit_retries:
        words = f"{task.get_key()} has units that are never run again"
        raise TaskError(f'{words} (retry = "never"); so it can have no unit_retries.')
