# SPDX-License-Identifier: MIT
"""Without a cluster, units run in the same process, packed as if they travelled."""

from __future__ import annotations

import decimal

import pytest

from pydra.cluster.tasks import ParallelTask, Task
from pydra.cluster.tasks.standalone import StandaloneUnits
from pydra.cluster.tasks.unit_failure import UnitFailed
from pydra.errors import TaskCancelled
from tests.support.echoes import Echo, Echoes, echoes


def test_results_look_as_on_a_cluster() -> None:
    """A tuple arrives as a list, and a Decimal as itself."""
    assert echoes([(1, 2), decimal.Decimal("0.10")]).start() == [[1, 2], decimal.Decimal("0.10")]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (object(), "The result cannot be sent: result: a value of type object"),
        ("x" * (9 * 1024 * 1024), "The result is 9.0 MiB packed; the limit is 8 MiB; return less."),
    ],
)
def test_a_result_that_cannot_be_sent_is_a_failed_unit(result: object, words: str) -> None:
    """As it is on a cluster."""

    class Answering(Task):
        def work(self, data: object) -> object:  # type: ignore[override]
            return result

    with pytest.raises(UnitFailed, match=f"^Unit Answering:0 failed: {words}$"):
        ParallelTask.from_subtask(Answering).start()


@pytest.mark.parametrize(
    ("fault", "words"),
    [(SystemExit(3), r"The task called sys.exit\(3\)."), (MemoryError(), "MemoryError")],
)
def test_whatever_a_unit_raises_is_its_failure(fault: BaseException, words: str) -> None:
    """An exit does not end the program that runs the task."""

    class Raising(Task):
        def work(self, data: object) -> object:  # type: ignore[override]
            raise fault

    with pytest.raises(UnitFailed, match=words):
        ParallelTask.from_subtask(Raising).start()


def test_an_interrupt_from_the_keyboard_ends_it_all() -> None:
    """Whoever runs a task standalone can interrupt it."""

    class Interrupted(Task):
        def work(self, data: object) -> object:  # type: ignore[override]
            raise KeyboardInterrupt

    task = ParallelTask.from_subtask(Interrupted)
    task.failure_policy = "collect"
    with pytest.raises(KeyboardInterrupt):
        task.start()


def test_a_subtask_that_cannot_be_made_again_is_a_failed_unit() -> None:
    """Its constructor runs for each unit."""
    made: list[int] = []

    class Once(Echo):
        def __init__(self) -> None:
            made.append(1)
            if len(made) > 1:
                raise OSError("only once")

    with pytest.raises(UnitFailed, match="OSError: only once"):
        ParallelTask.from_subtask(Once).start()


def test_a_stop_reaches_the_unit_that_runs() -> None:
    """In a plain interpreter it is the one that would have to return early."""
    task: ParallelTask
    flags: list[bool] = []

    class Stopped(Task):
        def work(self, data: object) -> None:  # type: ignore[override]
            task.stop()
            flags.append(self.STOP_FLAG)

    task = ParallelTask.from_subtask(Stopped)
    task.datasource = range(3)
    assert task.start() is None
    assert flags == [True]


def test_a_task_that_was_stopped_asks_for_nothing() -> None:
    """Standalone units end like those of a cluster."""
    task = Echoes()
    units = StandaloneUnits(task)
    task.STOP_FLAG = True
    for call in (lambda: units.ask("Echo", [0], [b"\x80"]), lambda: units.answers(0)):
        with pytest.raises(TaskCancelled):
            call()


def test_standalone_units_run_when_they_are_asked_after() -> None:
    """Those of a forgotten branch never do; with nothing to run, time passes."""
    pauses: list[float] = []
    units = StandaloneUnits(Echoes(), pause=pauses.append)
    units.ask("Echo", [0, 1], [b"\x80", b"\x81\xa4data\x05"])
    units.ask("Other", [0], [b"\x80"])
    units.forget("Other")
    assert units.answers(1.0) == [("Echo", 0, b"\xc0", None), ("Echo", 1, b"\x05", None)]
    assert units.answers(0.25) == []
    assert pauses == [0.25]


def test_standalone_units_hand_out_answers_now_and_then() -> None:
    """A long row of units does not keep the hooks waiting."""
    times = iter(range(100))
    units = StandaloneUnits(Echoes(), clock=lambda: float(next(times)))
    units.ask("Echo", range(3), [b"\x80"] * 3)
    assert [len(units.answers(0)) for _ in range(3)] == [1, 1, 1]


def test_a_missing_subtask_is_a_failed_unit() -> None:
    """Its code says that there is none."""
    units = StandaloneUnits(Echoes())
    units.ask("Other", [0], [b"\x80"])
    (answer,) = units.answers(0)
    assert answer[3] is not None
    assert answer[3][0] == "task_not_found"
