# SPDX-License-Identifier: MIT
"""Ending a worker by hand: a state, an input, and exactly the expected instructions."""

from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    TerminateRequested,
    TimePassed,
)
from pydra.cluster.scheduler.instructions import BeginCancelling, Finish, KillUnit, StopUnit
from pydra.model.ids import InstanceId
from pydra.model.status import Status
from tests.support.scheduler_bench import N1, OLD, A, B, Bench, dispatch, finished, nth, submitted

TERMINATED = Finish(A, nth(1), Status.FAILED, "Terminated by user", "terminated")
CANCELLED = Finish(A, nth(1), Status.CANCELLED)
STOP, KILL = StopUnit(N1, nth(1)), KillUnit(N1, nth(1))


@pytest.fixture
def running() -> Bench:
    """Instance A runs as attempt 1 on the only slot of node 1, and B waits."""
    bench = Bench()
    assert [dispatch(A, 1)] == bench.feed(NodeReady(N1, 1), submitted(A), submitted(B))
    return bench


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize(("fail", "end"), [(True, TERMINATED), (False, CANCELLED)])
@pytest.mark.parametrize(("kill", "order"), [(True, KILL), (False, STOP)])
def test_terminated(
    running: Bench, kill: bool, order: StopUnit | KillUnit, fail: bool, end: Finish, outcome: Outcome
) -> None:
    """The worker is asked to stop, or killed at once; whatever it answers, the instance ends as was said."""
    assert [BeginCancelling(A, nth(1), fail), order] == running.feed(TerminateRequested(A, kill, fail))
    assert Status.CANCELLING is running.scheduler.status(A)
    assert [end, dispatch(B, 2)] == running.feed(finished(outcome, reason="because"))


@pytest.mark.parametrize("instance", [B, InstanceId(99)])
@pytest.mark.parametrize("kill", [True, False])
def test_what_has_no_worker_is_left_alone(running: Bench, instance: InstanceId, kill: bool) -> None:
    """What waits, or is not known, goes on as it was."""
    assert [] == running.feed(TerminateRequested(instance, kill, fail=True))
    assert Status.RUNNING is running.scheduler.status(A)


def test_what_has_ended_is_left_alone(running: Bench) -> None:
    """A request that comes too late does nothing."""
    running.feed(finished(Outcome.COMPLETE))
    assert [] == running.feed(TerminateRequested(A, kill=True, fail=True))


def test_a_worker_that_does_not_stop_is_killed_after_the_grace(running: Bench) -> None:
    """As with a cancel."""
    running.feed(TerminateRequested(A, kill=False, fail=True))
    assert [] == running.at(9.9, TimePassed())
    assert [KILL] == running.at(10.0, TimePassed())


def test_a_kill_is_repeated(running: Bench) -> None:
    """A kill that had no effect is sent again after each grace."""
    running.feed(TerminateRequested(A, kill=True, fail=True))
    assert [KILL] == running.at(10.0, TimePassed())


def test_a_kill_ends_the_grace(running: Bench) -> None:
    """Who was asked to stop may be killed before the grace is over; how it ends was said first."""
    running.feed(TerminateRequested(A, kill=False, fail=True))
    assert [] == running.at(1.0, TerminateRequested(A, kill=False, fail=False))
    assert [KILL] == running.at(2.0, TerminateRequested(A, kill=True, fail=False))
    assert [TERMINATED, dispatch(B, 2)] == running.feed(finished(Outcome.LOST))


def test_a_cancelled_one_stays_cancelled(running: Bench) -> None:
    """A kill after a cancel only hastens it."""
    running.feed(CancelRequested(A))
    assert [KILL] == running.feed(TerminateRequested(A, kill=True, fail=True))
    assert [CANCELLED, dispatch(B, 2)] == running.feed(finished(Outcome.LOST))


def test_a_cancel_after_it_changes_nothing(running: Bench) -> None:
    """It has failed all the same."""
    running.feed(TerminateRequested(A, kill=False, fail=True))
    assert [] == running.feed(CancelRequested(A))
    assert [TERMINATED, dispatch(B, 2)] == running.feed(finished(Outcome.STOPPED))


@pytest.mark.parametrize(("kill", "order"), [(True, KILL), (False, STOP)])
def test_a_node_that_cannot_be_reached_is_told_when_it_is_back(
    running: Bench, kill: bool, order: StopUnit | KillUnit
) -> None:
    """Nothing is sent meanwhile."""
    running.feed(NodeSilent(N1))
    assert [BeginCancelling(A, nth(1), True)] == running.feed(TerminateRequested(A, kill, fail=True))
    assert [order] == running.at(20.0, NodeReady(N1, 1, running=(nth(1),)))


def test_a_node_that_is_gone_with_it(running: Bench) -> None:
    """A terminated instance is not queued again when its node is lost."""
    running.feed(NodeSilent(N1), TerminateRequested(A, kill=True, fail=True))
    assert [TERMINATED] == running.at(60.0, TimePassed())


def test_after_a_restart_of_the_master() -> None:
    """What was terminated before still ends failed."""
    bench = Bench()
    bench.feed(Restored(A, 5, 0.0, Status.CANCELLING, OLD, N1, 0, fails=True))
    assert [StopUnit(N1, OLD)] == bench.feed(NodeReady(N1, 1, running=(OLD,)))
    assert [Finish(A, OLD, Status.FAILED, "Terminated by user", "terminated")] == bench.at(
        100.0, NodeSilent(N1), TimePassed()
    )
