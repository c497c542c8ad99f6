# SPDX-License-Identifier: MIT
"""Until when sandboxes may live, as the launcher keeps it."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from pydra.cluster.sandbox.launcher.deadlines import Deadlines, boottime


class Bench:
    """Deadlines whose clock a test sets; their timer is the kernel's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.deadlines = Deadlines(lambda: self.now)

    def is_readable(self, wait_s: float = 0.0) -> bool:
        """Something is due by the clock of the kernel."""
        return bool(select.select([self.deadlines], [], [], wait_s)[0])


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Nothing is set."""
    bench = Bench()
    yield bench
    bench.deadlines.close()


def test_the_clock() -> None:
    """It goes on while the machine is suspended, so it is never behind the one that does not."""
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert before <= boottime()


def test_each_at_its_time(bench: Bench) -> None:
    """Those whose time has passed are due once; the others later."""
    for number, at in ((1, 1010.0), (2, 1005.0), (3, 1005.5)):
        bench.deadlines.put(number, at)
    assert [] == bench.deadlines.take_due()
    bench.now = 1005.5
    assert [2, 3] == bench.deadlines.take_due()
    assert [] == bench.deadlines.take_due()
    bench.now = 5000.0
    assert [1] == bench.deadlines.take_due()


def test_the_latest_word_counts(bench: Bench) -> None:
    """It may be a later time or an earlier one; what has ended has none."""
    bench.deadlines.put(1, 1010.0)
    bench.deadlines.put(1, 1020.0)
    bench.deadlines.put(2, 1030.0)
    bench.deadlines.put(2, 1002.0)
    bench.deadlines.put(3, 1001.0)
    bench.deadlines.forget(3)
    bench.deadlines.forget(3)
    bench.now = 1019.0
    assert [2] == bench.deadlines.take_due()
    bench.now = 1020.0
    assert [1] == bench.deadlines.take_due()


def test_the_timer(bench: Bench) -> None:
    """It is due at the earliest time, and stands still if there is none."""
    assert not bench.is_readable()
    bench.deadlines.put(1, boottime() + 3600.0)
    bench.deadlines.put(2, boottime() + 7200.0)
    assert not bench.is_readable()
    bench.deadlines.put(2, boottime() + 0.01)
    assert bench.is_readable(10.0)
    bench.now = boottime()
    assert [2] == bench.deadlines.take_due()
    assert not bench.is_readable()
    bench.deadlines.put(1, boottime() - 1.0)
    assert bench.is_readable(10.0)
    bench.deadlines.forget(1)
    assert not bench.is_readable()


@pytest.mark.parametrize("at", [0.0, 1e-12, 5.0, 999.999])
def test_a_time_in_the_past(bench: Bench, at: float) -> None:
    """It is due at once, even if it is no time at all."""
    bench.deadlines.put(7, at)
    assert bench.is_readable(10.0)
    assert [7] == bench.deadlines.take_due()
    assert not bench.is_readable()


@pytest.mark.parametrize("at", [2.0**53 - 1, 1e15])
def test_a_time_that_never_comes(bench: Bench, at: float) -> None:
    """The farthest time that can be asked for is one."""
    bench.deadlines.put(7, at)
    assert not bench.is_readable()
    assert [] == bench.deadlines.take_due()
