# SPDX-License-Identifier: MIT
"""How long workers of something exclusive go on without an answer of the master."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from pydra.cluster.node.exclusive import ExclusiveLeases
from pydra.model.ids import Attempt

ONE, TWO = Attempt(1, 1), Attempt(1, 2)


class Bench:
    """Leases of 30 s on a clock, after a hello at 0."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept_s = 0.0
        """How long the machine was suspended."""
        self.leases = ExclusiveLeases(self.clock, lambda: self.clock.seconds() + self.slept_s, 30.0)
        self.leases.greeted()
        self.expired: list[tuple[float, Attempt]] = []
        self.told: list[float] = []
        """Until when a worker may live, as who ends it was told."""

    def begin(self, attempt: Attempt = ONE, heard: int = 0) -> bool:
        """A worker is given something, when the master has heard this heartbeat."""
        return self.leases.begin(attempt, heard, lambda: self.expired.append((self.clock.seconds(), attempt)))

    def beat(self, is_answered: bool = True, after: float = 5.0) -> int:
        """A heartbeat, later."""
        self.clock.advance(after)
        number = self.leases.beat()
        if is_answered:
            self.leases.answered(number)
        return number

    def pass_time(self, seconds: float) -> None:
        """Nothing but time, in small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


def test_no_answer() -> None:
    """It ends a limit after the heartbeat that the master had heard when it gave it out."""
    bench = Bench()
    bench.clock.advance(12.0)
    assert bench.begin()
    bench.pass_time(60.0)
    [(at, attempt)] = bench.expired
    assert (ONE, True) == (attempt, 29.9 < at < 30.2)
    assert [] == bench.clock.getDelayedCalls()


def test_answers() -> None:
    """Answered heartbeats keep it alive; the last of them counts from when it was sent."""
    bench = Bench()
    bench.begin()
    for _ in range(20):
        bench.beat()
    assert [] == bench.expired
    number = bench.beat(is_answered=False)
    bench.clock.advance(20.0)
    bench.leases.answered(number)
    bench.pass_time(9.5)
    assert [] == bench.expired
    bench.pass_time(1.0)
    assert [ONE] == [attempt for _, attempt in bench.expired]


def test_a_heartbeat_that_did_not_name_it() -> None:
    """An answer to one that was sent before its begin says nothing of it."""
    bench = Bench()
    number = bench.beat(is_answered=False, after=25.0)
    assert bench.begin()
    bench.leases.answered(number)
    bench.pass_time(6.0)
    assert [ONE] == [attempt for _, attempt in bench.expired]


@pytest.mark.parametrize("heard", [-1, 0, 1, 7, 2**63])
def test_given_out_too_long_ago(heard: int) -> None:
    """What the master gave out a limit ago, or by a heartbeat that never was, does not begin."""
    bench = Bench()
    bench.beat(after=1.0)
    bench.pass_time(31.0)
    bench.leases.beat()
    assert not bench.begin(heard=heard)
    assert bench.begin(heard=2)
    bench.leases.stop()


@pytest.mark.parametrize("number", [-1, 3, 2**63])
def test_an_answer_to_nothing(number: int) -> None:
    """The number of a heartbeat that was never sent says nothing."""
    bench = Bench()
    bench.begin()
    bench.beat(is_answered=False, after=29.0)
    bench.leases.answered(number)
    bench.pass_time(1.5)
    assert 1 == len(bench.expired)


def test_a_new_link() -> None:
    """Its hello names all, and counts once it is answered; numbers of the old link mean nothing."""
    bench = Bench()
    bench.begin()
    bench.beat()
    bench.clock.advance(20.0)
    bench.leases.greeted()
    bench.pass_time(2.0)
    bench.leases.answered(1)
    bench.leases.answered(0)
    bench.pass_time(27.0)
    assert [] == bench.expired
    bench.pass_time(2.0)
    assert [ONE] == [attempt for _, attempt in bench.expired]


def test_each_for_itself() -> None:
    """What has ended is not called; another one is given more time by what it is given."""
    bench = Bench()
    bench.begin(ONE)
    bench.begin(TWO)
    number = bench.beat(is_answered=False)
    assert bench.begin(TWO, number)
    bench.leases.end(ONE)
    bench.leases.end(ONE)
    bench.pass_time(27.0)
    assert [] == bench.expired
    bench.pass_time(5.0)
    assert [TWO] == [attempt for _, attempt in bench.expired]


def test_who_ends_its_worker_is_told() -> None:
    """As soon as there is a worker, and whenever it may live longer; never twice of the same time."""
    bench = Bench()
    bench.begin()
    bench.beat()
    assert [] == bench.told
    bench.leases.bind(ONE, bench.told.append)
    bench.leases.bind(ONE, bench.told.append)
    first = bench.beat()
    bench.leases.answered(first)
    second = bench.beat(is_answered=False)
    bench.begin(heard=second)
    bench.leases.answered(second)
    assert [35.0, 40.0, 45.0] == bench.told
    bench.leases.end(ONE)
    bench.beat()
    assert [35.0, 40.0, 45.0] == bench.told


def test_nobody_is_told_of_other_workers() -> None:
    """Of a worker that has nothing exclusive nothing is said."""
    bench = Bench()
    bench.begin(TWO)
    bench.leases.bind(ONE, bench.told.append)
    bench.beat()
    bench.leases.lapse(ONE)
    assert ([], []) == (bench.told, bench.expired)
    bench.leases.stop()


def test_a_worker_that_was_ended_by_others() -> None:
    """One that was ended because its time had passed has expired, once."""
    bench = Bench()
    bench.begin()
    bench.leases.lapse(ONE)
    bench.leases.lapse(ONE)
    bench.pass_time(60.0)
    assert [(0.0, ONE)] == bench.expired
    assert [] == bench.clock.getDelayedCalls()


def test_a_machine_that_was_suspended() -> None:
    """The time for which it slept counts: what was given out before does not begin, what ran has expired."""
    bench = Bench()
    bench.begin()
    bench.leases.bind(ONE, bench.told.append)
    bench.slept_s = 20.0
    assert bench.begin(TWO)
    bench.slept_s = 3600.0
    assert not bench.begin(TWO)
    bench.leases.answered(0)
    assert [30.0] == bench.told
    bench.pass_time(0.2)
    assert [ONE, TWO] == [attempt for _, attempt in bench.expired]
    assert [] == bench.clock.getDelayedCalls()
