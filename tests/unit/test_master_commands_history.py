# SPDX-License-Identifier: MIT
"""What ran before, and what it wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.master.logs import archive
from pydra.errors import NotFound
from pydra.model.ids import Attempt, InstanceId
from pydra.model.status import Status
from tests.support.instances import queued_instance
from tests.support.master_commands import DEMO, FORMED, LOG_RULE, PLAIN, CommandsBench
from tests.support.pumps import result_of

NOTHING = {"lines": [], "units": None, "next": 0, "more": False, "final": False, "removed": None}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A node with one slot."""
    bench = CommandsBench(tmp_path)
    bench.ready()
    yield bench
    bench.close()


@pytest.mark.parametrize(
    ("page", "shown", "previous", "following", "ids"),
    [
        (1, 1, None, 2, range(25, 15, -1)),
        (2, 2, 1, 3, range(15, 5, -1)),
        (3, 3, 2, None, range(5, 0, -1)),
        (4, 3, 2, None, range(5, 0, -1)),
        (10**18, 3, 2, None, range(5, 0, -1)),
        (0, 1, None, 2, range(25, 15, -1)),
        (-7, 1, None, 2, range(25, 15, -1)),
    ],
)
def test_history_pages(
    bench: CommandsBench, page: int, shown: int, previous: int | None, following: int | None, ids: range
) -> None:
    """Ten instances a page, newest first; a page out of range is the nearest one."""
    for number in range(1, 26):
        bench.store._instances[InstanceId(number)] = queued_instance(number, task_key=PLAIN)
    bench.store._instances[InstanceId(30)] = queued_instance(30, task_key=FORMED)
    answer = bench.call("task_history", key=PLAIN, page=page)
    assert (shown, 3, previous, following) == (
        answer["page"],
        answer["pages"],
        answer["prev"],
        answer["next"],
    )
    assert list(ids) == [each["id"] for each in answer["instances"]]


def test_history_of_nothing(bench: CommandsBench) -> None:
    """A task that never ran has one empty page."""
    assert {"prev": None, "next": None, "page": 1, "pages": 1, "instances": []} == bench.call(
        "task_history", key="nothing"
    )


def test_detail(bench: CommandsBench) -> None:
    """One instance, with the description of the version that it ran with, and no units of its own."""
    bench.store._packages[(DEMO.package, DEMO.version)] = DEMO
    bench.queue(n=1)
    detail = bench.call("task_history_detail", task_id=1)
    assert {"details", "name", "description", "workunits"} == set(detail)
    assert (1, PLAIN, "Takes anything.", []) == (
        detail["details"]["id"],
        detail["name"],
        detail["description"],
        detail["workunits"],
    )
    bench.store._packages.clear()
    assert "" == bench.call("task_history_detail", task_id=1)["description"]


@pytest.mark.parametrize("number", [0, 1, -1, 2**63])
def test_detail_of_nothing(bench: CommandsBench, number: int) -> None:
    """An id that was never given has no details."""
    assert bench.call("task_history_detail", task_id=number) is None


def test_log(bench: CommandsBench) -> None:
    """The log is text in the order of its times; of units that there are not it is empty."""
    bench.queue()
    assert "" == bench.call("task_log", task_id=1)
    bench.log(1, "later", at=9.0)
    bench.log(1, "one", "two")
    assert [
        "1970-01-01 00:00:05.000000 INFO     stdout: one",
        "1970-01-01 00:00:06.000000 INFO     stdout: two",
        "1970-01-01 00:00:09.000000 INFO     stdout: later",
    ] == bench.call("task_log", task_id=1).splitlines()
    assert "" == bench.call("task_log", task_id=1, subtask="Sub")
    assert "" == bench.call("task_log", task_id=1, workunit_id=0)


@pytest.mark.parametrize("workunit_id", [7, "7", "007"])
def test_log_of_a_work_unit(bench: CommandsBench, workunit_id: object) -> None:
    """A subtask or a unit of it has its own lines, as text and as lines; the whole names them."""
    bench.queue()
    bench.log(1, "root")
    bench.log(1, "seven", subtask="Sub", unit=7)
    bench.log(1, "eight", subtask="Sub", unit=8)
    seven = bench.call("task_log", task_id=1, subtask="Sub", workunit_id=workunit_id)
    assert "1970-01-01 00:00:05.000000 INFO     Sub:7 stdout: seven\n" == seven
    assert 2 == len(bench.call("task_log", task_id=1, subtask="Sub").splitlines())
    answer = bench.call("task_lines", task_id=1)
    assert ["", "Sub:7", "Sub:8"] == answer["units"]
    answer = bench.call("task_lines", task_id=1, subtask="Sub", workunit_id=workunit_id)
    assert ["seven"] == [line[3] for line in answer["lines"]]


@pytest.mark.parametrize("workunit_id", ["x", "", "-1", [], {}, True, 1.5, "9" * 5000, -1, 2**70])
def test_work_units_of_no_name(bench: CommandsBench, workunit_id: object) -> None:
    """What names no unit has no lines."""
    bench.queue()
    bench.log(1, "seven", subtask="Sub", unit=7)
    assert "" == bench.call("task_log", task_id=1, workunit_id=workunit_id)
    assert [] == bench.call("task_lines", task_id=1, workunit_id=workunit_id)["lines"]


def test_a_log_that_was_removed(bench: CommandsBench) -> None:
    """That is said in words, and why."""
    bench.queue()
    bench.log(1, "gone")
    assert bench.call("task_lines", task_id=1)["removed"] is None
    bench.archive.remove(InstanceId(1), math.inf)
    said = f"Lines of this instance were removed: {LOG_RULE}."
    assert f"{said}\n" == bench.call("task_log", task_id=1)
    answer = bench.call("task_lines", task_id=1)
    assert (said, []) == (answer["removed"], answer["lines"])


def test_a_long_log(bench: CommandsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of many readings is one text, and says of each but the last that there is more."""
    monkeypatch.setattr(archive, "READ_LIMIT", 200)
    bench.queue()
    for number in range(50):
        bench.log(1, f"{number:>50}")
    assert 50 == len(bench.call("task_log", task_id=1).splitlines())
    assert (True, 1) == (
        bench.call("task_lines", task_id=1)["more"],
        len(bench.call("task_lines", task_id=1)["lines"]),
    )


def test_lines(bench: CommandsBench) -> None:
    """Lines come with a position to go on from."""
    bench.queue()
    bench.log(1, "one", "two")
    answer = bench.call("task_lines", task_id=1)
    assert [[5.0, "INFO", "stdout", "one"], [6.0, "INFO", "stdout", "two"]] == answer["lines"]
    assert answer["final"] is False
    assert {**NOTHING, "next": answer["next"]} == bench.call("task_lines", task_id=1, after=answer["next"])


def test_waiting_for_lines(bench: CommandsBench) -> None:
    """Who waits for lines gets them as soon as they come."""
    bench.queue()
    waiting = bench.begin("task_lines", task_id=1, wait=20.0)
    bench.clock.pump([1.0] * 5)
    assert not waiting.called
    bench.log(1, "one")
    assert [[5.0, "INFO", "stdout", "one"]] == result_of(waiting)["lines"]


def test_waiting_for_lines_in_vain(bench: CommandsBench) -> None:
    """Without lines it is answered after its time, or when the instance ends."""
    bench.queue()
    waiting = bench.begin("task_lines", task_id=1, wait=2.5)
    bench.clock.pump([0.5] * 4)
    assert not waiting.called
    bench.clock.advance(0.5)
    assert NOTHING == result_of(waiting)
    waiting = bench.begin("task_lines", task_id=1, wait=25.0)
    bench.finish(Attempt(1, 1))
    assert {**NOTHING, "final": True} == result_of(waiting)
    assert Status.COMPLETE is bench.stored(1).status


def test_an_end_before_the_last_lines(bench: CommandsBench) -> None:
    """While lines that the node announced are missing, the answer is not the last one."""
    bench.queue()
    bench.task_logs.expect(InstanceId(1), Attempt(1, 1), 1)
    bench.finish(Attempt(1, 1))
    waiting = bench.begin("task_lines", task_id=1, wait=25.0)
    assert not waiting.called
    bench.log(1, "last")
    answer = result_of(waiting)
    assert (["last"], True) == ([line[3] for line in answer["lines"]], answer["final"])


def test_late_lines(bench: CommandsBench) -> None:
    """Lines that come after the end can be read."""
    bench.queue()
    bench.finish(Attempt(1, 1))
    bench.log(1, "late")
    answer = bench.call("task_lines", task_id=1, wait=25.0)
    assert ("late", True) == (answer["lines"][0][3], answer["final"])


def test_a_waiter_that_goes_away(bench: CommandsBench) -> None:
    """Who waits for lines and goes away leaves nothing."""
    bench.queue()
    waiting = bench.begin("task_lines", task_id=1, wait=25.0)
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert {} == bench.events._waiters


def test_lines_of_nothing(bench: CommandsBench) -> None:
    """An instance that is not there has no lines to wait for."""
    with pytest.raises(NotFound):
        bench.call("task_lines", task_id=7, wait=25.0)


@pytest.mark.parametrize("after", [-5, 10**9, 2**63 - 1])
def test_positions_of_nothing(bench: CommandsBench, after: int) -> None:
    """A position outside of the log answers its end."""
    bench.queue()
    bench.log(1, "one")
    answer = bench.call("task_lines", task_id=1, after=after)
    assert ([], bench.call("task_lines", task_id=1)["next"]) == (answer["lines"], answer["next"])
