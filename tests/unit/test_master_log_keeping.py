# SPDX-License-Identifier: MIT
"""The archive of task logs stays within limits: the oldest go, what runs stays, and each is remembered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from pydra.cluster.master.logs.archive import LogArchive
from pydra.cluster.master.logs.keeping import DAY_S, EVERY_S, FIRST_S, LogKeeping, too_old_or_too_much
from pydra.cluster.wire.log_records import LogRecord, pack_lines
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine
from tests.support.cables import unthreaded

NOW = 1_800_000_000.0
BLOCK = 4096


class Bench:
    """Logs that are kept for 90 days, five blocks of them."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.directory = directory
        self.live: dict[InstanceId, None] = {}
        self.archive = LogArchive(directory, 1_000_000)
        self.keeping = LogKeeping(
            self.clock,
            lambda: NOW,
            self.archive,
            unthreaded,
            unthreaded,
            self.live,
            90,
            5 * BLOCK,
        )
        self.keeping.start()

    def write(self, number: int, days: float) -> None:
        """A log that was last written to so many days ago."""
        record = LogRecord(
            Attempt(1, 1), 0, 1, pack_lines([LogLine(5.0, "INFO", "log", "x" * (BLOCK - 200))])
        )
        self.archive.append([(InstanceId(number), record)])
        path = self.archive._path(InstanceId(number))
        os.utime(path, (NOW - days * DAY_S, NOW - days * DAY_S))

    def left(self) -> list[int]:
        """The instances whose log is there."""
        return sorted(int(path.stem) for path in self.directory.rglob("*.log"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """It looks once an hour."""
    bench = Bench(tmp_path)
    yield bench
    bench.keeping.stop()
    assert [] == bench.clock.getDelayedCalls()


def test_too_old(bench: Bench) -> None:
    """What nobody wrote to for longer than the time goes; the rest stays."""
    for number, days in enumerate((100, 90.1, 89.9, 0)):
        bench.write(number, days)
    bench.clock.advance(FIRST_S)
    assert [2, 3] == bench.left()
    assert [True, True, False] == [bench.archive.was_removed(InstanceId(number)) for number in range(3)]


def test_too_much(bench: Bench) -> None:
    """The oldest go first, whatever their numbers, and no more than must."""
    for number, days in ((1, 5), (2, 8), (3, 1), (4, 9), (5, 2), (6, 3), (7, 4)):
        bench.write(number, days)
    bench.clock.advance(FIRST_S)
    assert [1, 3, 5, 6, 7] == bench.left()


def test_what_runs_stays(bench: Bench) -> None:
    """However old and large; the others have what it leaves."""
    for number in range(1, 8):
        bench.write(number, 100 - number)
    bench.live.update(dict.fromkeys(map(InstanceId, (1, 2, 3))))
    bench.clock.advance(FIRST_S)
    assert [1, 2, 3] == bench.left()


def test_every_hour(bench: Bench) -> None:
    """It looks again, also after a failure."""
    bench.directory.joinpath("0").write_text("in the way of nothing")
    bench.clock.advance(FIRST_S)
    bench.directory.joinpath("0").unlink()
    bench.write(1, 100)
    bench.clock.advance(EVERY_S)
    assert [] == bench.left()


def test_many(bench: Bench) -> None:
    """Thousands are removed in portions."""
    for number in range(250):
        bench.write(number, 91)
    bench.clock.advance(FIRST_S)
    assert [] == bench.left()


def test_the_rule_is_told_in_words(bench: Bench) -> None:
    """And which settings change it."""
    assert "90 days" in bench.keeping.rule
    assert "LOG_KEEP_DAYS" in bench.keeping.rule


@pytest.mark.parametrize(
    ("limit", "expected"), [(30, []), (29, [1]), (20, [1]), (19, [1, 2]), (0, [1, 2, 3]), (-5, [1, 2, 3])]
)
def test_the_choice(limit: int, expected: list[int]) -> None:
    """Exactly what must go."""
    found = [(float(number), 10, InstanceId(number)) for number in (3, 1, 2)]
    assert expected == [instance for _, instance in too_old_or_too_much(found, 0.0, limit)]
