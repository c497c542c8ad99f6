# SPDX-License-Identifier: MIT
"""What tasks wrote: brought to the archive in order, acknowledged, announced and waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.logs import archive
from pydra.cluster.master.logs.archive import LogArchive
from pydra.cluster.master.logs.task_logs import MISSING_S, TaskLogs
from pydra.cluster.wire.log_records import LogRecord, pack_lines
from pydra.errors import WireError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine
from tests.support.pumps import result_of

ONE, TWO, THREE = InstanceId(1), InstanceId(2), InstanceId(3)
FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)


class Bench:
    """Logs whose thread works when a test says so; ``answers`` and ``told`` list what came of it."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.calls: list[Deferred[None]] = []
        self.answers: list[int | Exception] = []
        self.told: list[InstanceId] = []
        self.directory = directory / "logs"
        self.logs = TaskLogs(self.clock, LogArchive(self.directory, 10_000), self.in_thread, self.told.append)

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The thread of the archive."""
        waiting: Deferred[None] = Deferred()
        self.calls.append(waiting)
        await waiting
        return function(*arguments)

    def work(self) -> int:
        """The thread does what waits; how many calls that were."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.callback(None)
        return len(calls)

    def append(self, first: int, *texts: str, instance: InstanceId = ONE, count: int | None = None) -> None:
        """Lines come."""
        lines = pack_lines([LogLine(5.0, "INFO", "log", text) for text in texts])
        record = LogRecord(FIRST, first, len(texts) if count is None else count, lines)
        self.logs.append(instance, record, self.answers.append)

    def text(self, instance: InstanceId = ONE) -> str:
        """All that is archived."""
        reading = Deferred.fromCoroutine(self.logs.text(instance))
        while self.work():
            pass
        return result_of(reading)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """No logs."""
    return Bench(tmp_path)


def test_what_waits_goes_together(bench: Bench) -> None:
    """While the thread is busy, records of all instances wait and go in its next call, in order."""
    bench.append(0, "one")
    bench.append(1, "two")
    bench.append(0, "other", instance=TWO)
    assert 1 == bench.work()
    assert ([1], [ONE]) == (bench.answers, bench.told)
    assert 1 == bench.work()
    assert ([1, 2, 1], [ONE, ONE, TWO]) == (bench.answers, bench.told)
    assert 0 == bench.work()
    assert ["one", "two"] == [line.split()[-1] for line in bench.text().splitlines()]


def test_a_long_text_lets_others_have_their_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read page by page, and what comes meanwhile is written between two of them."""
    monkeypatch.setattr(archive, "READ_LIMIT", 150)
    for number in range(10):
        bench.append(number, f"{number:050}")
    while bench.work():
        pass
    reading = Deferred.fromCoroutine(bench.logs.text(ONE))
    assert 1 == bench.work()
    bench.append(0, "other", instance=TWO)
    assert 2 == bench.work()
    assert 11 == len(bench.answers)
    assert not reading.called
    while bench.work():
        pass
    assert [f"{number:050}" for number in range(10)] == [
        line.split()[-1] for line in result_of(reading).splitlines()
    ]


def test_what_could_not_be_written(bench: Bench) -> None:
    """It is answered as a fault, nobody is woken, and the next is tried."""
    bench.directory.write_text("in the way")
    bench.append(0, "one")
    bench.work()
    assert isinstance(bench.answers[0], OSError)
    assert [] == bench.told
    bench.directory.unlink()
    bench.append(0, "one")
    bench.work()
    assert 1 == bench.answers[1]


def test_a_fault_of_the_archive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the records is answered with it, and those after them are written."""
    fault = LookupError("odd")
    with monkeypatch.context() as patch:

        def broken(*_: object) -> NoReturn:
            raise fault

        patch.setattr(bench.logs._archive, "append", broken)
        bench.append(0, "one")
        bench.append(1, "two")
        bench.append(0, "other", instance=TWO)
        bench.work()
        bench.work()
    assert [fault] * 3 == bench.answers
    assert [] == bench.told
    bench.append(0, "one")
    bench.work()
    assert 1 == bench.answers[3]


def test_what_is_no_record(bench: Bench) -> None:
    """It is answered as that."""
    bench.append(0, "one", count=7)
    bench.work()
    assert isinstance(bench.answers[0], WireError)
    assert [] == bench.told


def test_lines_that_are_on_their_way(bench: Bench) -> None:
    """An instance is not complete before what its node announced is archived; then its readers are woken."""
    bench.append(0, "one")
    bench.logs.expect(ONE, FIRST, 1)
    assert (False, True) == (bench.logs.is_complete(ONE), bench.logs.is_complete(TWO))
    bench.work()
    assert bench.logs.is_complete(ONE)
    assert [ONE] == bench.told


def test_lines_that_come_late(bench: Bench) -> None:
    """It waits for them, but for a while only."""
    bench.logs.expect(ONE, FIRST, 2)
    bench.append(0, "one")
    bench.work()
    bench.work()
    assert not bench.logs.is_complete(ONE)
    bench.clock.advance(MISSING_S)
    assert not bench.logs.is_complete(ONE)
    bench.clock.advance(1)
    assert bench.logs.is_complete(ONE)


def test_lines_that_never_come(bench: Bench) -> None:
    """Nothing is remembered of them after that while, though nobody asks."""
    bench.logs.expect(ONE, FIRST, 2)
    bench.logs.expect(TWO, FIRST, 2)
    bench.clock.advance(MISSING_S - 1)
    bench.logs.expect(ONE, SECOND, 5)
    bench.clock.advance(2)
    bench.logs.expect(THREE, FIRST, 1)
    assert [ONE, THREE] == list(bench.logs._expected)
    bench.clock.advance(MISSING_S + 1)
    bench.logs.expect(TWO, FIRST, 1)
    assert [TWO] == list(bench.logs._expected)
    bench.work()
    bench.work()


def test_lines_that_are_there_already(bench: Bench) -> None:
    """A master that started anew finds them in the archive."""
    bench.append(0, "one", "two")
    bench.work()
    bench.logs.expect(ONE, FIRST, 2)
    bench.work()
    assert bench.logs.is_complete(ONE)


@pytest.mark.parametrize("lines", [0, -1, -(2**63)])
def test_no_lines(bench: Bench, lines: int) -> None:
    """An instance that wrote nothing is complete, and costs no call of the thread."""
    bench.logs.expect(ONE, FIRST, lines)
    assert bench.logs.is_complete(ONE)
    assert 0 == bench.work()
