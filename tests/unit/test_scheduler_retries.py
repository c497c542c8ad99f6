# SPDX-License-Identifier: MIT
"""Instances that are run again after they failed, and such as may run for some time only."""

from __future__ import annotations

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TerminateRequested,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    BeginCancelling,
    Dispatch,
    Finish,
    KillUnit,
    Requeue,
    Retry,
    StopUnit,
)
from pydra.cluster.scheduler.unit_values import Pause, PauseRequested, ResumeRequested
from pydra.model.instance import Ended
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status
from tests.support.scheduler_bench import N1, OLD, A, B, Bench, dispatch, finished, nth, submitted
from tests.support.unit_bench import asks, of

TWICE = RunOptions(retries=2, retry_delay=4.0)
SHORT = RunOptions(time_limit=30.0, retries=5)
LIMIT = "It ran for longer than its time limit of 30 s."


def begun(options: RunOptions) -> Bench:
    """Instance A runs with these options on the one slot."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1), Submitted(A, 5, 0.0, options=options))
    return bench


def failed(number: int, code: str = "failed") -> UnitFinished:
    """The task raised."""
    return UnitFinished(nth(number), N1, Outcome.FAILED, "ValueError: no", code)


def test_a_failure_is_followed_by_a_retry() -> None:
    """After its delay, which doubles, with a new attempt each time; the last failure is final."""
    bench = begun(TWICE)
    assert [Retry(A, nth(1), 1, 4.0)] == bench.feed(failed(1))
    assert Status.QUEUED is bench.scheduler.status(A)
    assert 4.0 == bench.scheduler.wake_at()
    assert [] == bench.at(3.9, TimePassed())
    assert [dispatch(A, 2)] == bench.at(4.0, TimePassed())
    assert [Retry(A, nth(2), 2, 8.0)] == bench.feed(failed(2))
    assert [dispatch(A, 3)] == bench.at(12.0, TimePassed())
    assert [Finish(A, nth(3), Status.FAILED, "ValueError: no")] == bench.feed(failed(3))


def test_others_run_meanwhile() -> None:
    """The slot is free while it rests, and it keeps its place in the order."""
    bench = begun(TWICE)
    assert [dispatch(B, 2)] == bench.feed(failed(1), submitted(B, queued=1.0))[1:]
    bench.at(5.0, submitted(B + 1, queued=2.0))  # type: ignore[arg-type]  # a number
    assert [dispatch(A, 3)] == bench.feed(finished(Outcome.COMPLETE, 2))[1:]


def test_no_delay_is_no_rest() -> None:
    """It is dispatched in the same feed."""
    bench = begun(RunOptions(retries=1, retry_delay=0.0))
    assert [Retry(A, nth(1), 1, 0.0), dispatch(A, 2)] == bench.feed(failed(1))


def test_delays_are_bounded() -> None:
    """However many retries there are, none waits longer than a day."""
    options = RunOptions(retries=1000, retry_delay=1.0)
    assert [1.0, 2.0, 4.0, 86400.0, 86400.0] == [options.delay_s(n) for n in (0, 1, 2, 17, 999)]


def test_a_resting_one_can_be_cancelled() -> None:
    """It is final at once, and nothing is due any more."""
    bench = begun(TWICE)
    bench.feed(failed(1))
    assert [Finish(A, None, Status.CANCELLED)] == bench.feed(CancelRequested(A))
    bench.at(5.0, NodeSilent(N1))
    assert [] == bench.at(10.0, TimePassed())


def test_a_pause_does_not_end_the_rest() -> None:
    """What is paused and resumed while it rests has the rest of its rest before it, and the same retry."""
    bench = begun(TWICE)
    bench.feed(failed(1))
    bench.at(1.0, PauseRequested(A))
    assert [Pause(A, paused=False)] == bench.at(2.0, ResumeRequested(A))
    assert "It failed, and rests before retry 1 of 2." == bench.scheduler.explain(A).text
    bench.at(3.0, PauseRequested(A), ResumeRequested(A))
    assert [dispatch(A, 2)] == bench.at(4.0, TimePassed())


def test_a_pause_may_be_longer_than_the_rest() -> None:
    """Then it waits for a slot as soon as it is resumed."""
    bench = begun(TWICE)
    bench.feed(failed(1), PauseRequested(A))
    assert [] == bench.at(4.0, TimePassed())
    assert [Pause(A, paused=False), dispatch(A, 2)] == bench.at(5.0, ResumeRequested(A))


def test_a_failure_while_it_is_paused_is_followed_by_a_rest() -> None:
    """It rests as it would otherwise, counted from its failure."""
    bench = begun(TWICE)
    bench.feed(asks([0]), PauseRequested(A))
    assert [Retry(A, nth(1), 1, 4.0)] == of(Retry, bench.feed(failed(1)))
    assert [Pause(A, paused=False)] == bench.at(1.0, ResumeRequested(A))
    assert [A] == [each.instance for each in of(Dispatch, bench.at(4.0, TimePassed()))]


def test_a_restart_keeps_the_rest_of_a_paused_one() -> None:
    """What was left of it when the master started is left when it is resumed."""
    bench = Bench()
    row = Restored(A, 5, 0.0, Status.PAUSED, options=TWICE, retried=1, rest_s=3.0)
    bench.feed(row, NodeReady(N1, 1))
    assert [Pause(A, paused=False)] == bench.at(1.0, ResumeRequested(A))
    assert [dispatch(A, 1)] == bench.at(3.0, TimePassed())


def test_what_is_no_failure_is_not_retried() -> None:
    """Neither a stop, nor a limit, nor an end by request, nor the last loss."""
    bench = begun(TWICE)
    [end] = bench.feed(UnitFinished(nth(1), N1, Outcome.STOPPED))
    assert isinstance(end, Finish)
    assert [Finish(A, nth(1), Status.FAILED, "ValueError: no")] == begun(TWICE).feed(failed(1, "limit"))
    bench = begun(TWICE)
    bench.feed(CancelRequested(A))
    assert [Finish(A, nth(1), Status.CANCELLED)] == bench.feed(failed(1))
    bench = begun(TWICE)
    bench.feed(TerminateRequested(A, kill=True, fail=True))
    assert [Finish(A, nth(1), Status.FAILED, "Terminated by user", "terminated")] == bench.feed(failed(1))
    bench = begun(TWICE)
    for number in (1, 2):
        assert [Requeue(A, nth(number), number), dispatch(A, number + 1)] == bench.feed(
            finished(Outcome.LOST, number)
        )
    [end] = bench.feed(finished(Outcome.LOST, 3))
    assert isinstance(end, Finish)


def test_a_dependent_waits_for_the_last_retry() -> None:
    """A failure that is followed by a retry is no end."""
    bench = begun(TWICE)
    bench.feed(Submitted(B, 5, 0.0, options=RunOptions(after=Dependency((A,)))))
    assert [Retry(A, nth(1), 1, 4.0)] == bench.feed(failed(1))
    bench.at(4.0, TimePassed())
    assert [Finish(A, nth(2), Status.COMPLETE), dispatch(B, 3)] == bench.feed(finished(Outcome.COMPLETE, 2))


def test_a_rest_goes_on_after_a_restart() -> None:
    """For what is left of it, and with the retries that are left."""
    bench = Bench()
    bench.feed(Restored(A, 5, 0.0, Status.QUEUED, options=TWICE, retried=2, rest_s=3.0), NodeReady(N1, 2))
    assert [] == bench.at(2.9, TimePassed())
    assert [dispatch(A, 1)] == bench.at(3.0, TimePassed())
    assert [Finish(A, nth(1), Status.FAILED, "ValueError: no")] == bench.feed(failed(1))


def test_a_time_limit_ends_by_force() -> None:
    """It is killed without a grace and has failed with the code of limits; nothing is retried."""
    bench = begun(SHORT)
    bench.beats(25.0, held=(nth(1),))
    bench.at(29.9, TimePassed())
    assert [BeginCancelling(A, nth(1), True, LIMIT, "limit"), KillUnit(N1, nth(1))] == bench.at(
        30.0, TimePassed()
    )
    assert Status.CANCELLING is bench.scheduler.status(A)
    assert [Finish(A, nth(1), Status.FAILED, LIMIT, "limit")] == bench.feed(finished(Outcome.LOST))


def test_each_attempt_has_the_whole_limit() -> None:
    """A retry begins anew, and what ended is not ended again."""
    bench = begun(SHORT)
    bench.beats(20.0, held=(nth(1),))
    assert [Retry(A, nth(1), 1, 1.0)] == bench.feed(failed(1))
    bench.beats(25.0)
    bench.beats(45.0, held=(nth(2),))
    assert Status.RUNNING is bench.scheduler.status(A)
    bench.beats(55.0, held=(nth(2),))
    assert Status.CANCELLING is bench.scheduler.status(A)


def test_a_limit_in_silence_kills_when_the_node_is_back() -> None:
    """While nothing can be sent it is only noted."""
    bench = begun(SHORT)
    bench.at(1.0, NodeSilent(N1))
    assert [BeginCancelling(A, nth(1), True, LIMIT, "limit")] == bench.at(30.0, TimePassed())
    assert [KillUnit(N1, nth(1))] == bench.at(31.0, NodeReady(N1, 1, (nth(1),)))


def test_a_cancel_before_the_limit() -> None:
    """What was asked to stop is not ended a second time, and was cancelled."""
    bench = begun(SHORT)
    bench.beats(25.0, held=(nth(1),))
    assert [BeginCancelling(A, nth(1)), StopUnit(N1, nth(1))] == bench.feed(CancelRequested(A))
    assert [] == bench.at(30.0, TimePassed())
    assert [Finish(A, nth(1), Status.CANCELLED)] == bench.feed(finished(Outcome.STOPPED))


def test_a_limit_holds_after_a_restart() -> None:
    """What its node says that it ran counts; and what was ended by it stays so."""
    bench = Bench()
    bench.feed(Restored(A, 5, 0.0, Status.RUNNING, OLD, N1, 0, options=SHORT))
    bench.at(1.0, NodeReady(N1, 1, (OLD,), ran_s={OLD: 29.0}))
    assert KillUnit(N1, OLD) in bench.at(2.0, TimePassed())
    again = Bench()
    told = {"fails": True, "reason": LIMIT, "code": "limit"}
    again.feed(Restored(A, 5, 0.0, Status.CANCELLING, OLD, N1, 0, options=SHORT, **told))  # type: ignore[arg-type]  # fields
    again.feed(NodeReady(N1, 1, (), (OLD,)))
    assert [Finish(A, OLD, Status.FAILED, LIMIT, "limit")] == again.feed(
        UnitFinished(OLD, N1, Outcome.COMPLETE)
    )


def test_the_rest_of_a_limit_after_a_restart() -> None:
    """A later attempt has what is left of its limit, and a paused one has it when it is resumed."""
    bench = Bench()
    row = Restored(A, 5, 0.0, Status.PAUSED, OLD, N1, 0, losses=1, retried=1, options=SHORT)
    bench.feed(row, NodeReady(N1, 1, (OLD,), ran_s={OLD: 26.0}))
    bench.at(10.0, NodeReady(N1, 1, (OLD,), ran_s={OLD: 26.0}), ResumeRequested(A))
    assert [] == of(KillUnit, bench.at(13.9, TimePassed()))
    assert [KillUnit(N1, OLD)] == of(KillUnit, bench.at(14.0, TimePassed()))


def test_a_limit_that_was_reached_meanwhile() -> None:
    """What ran for longer than it may while there was no master is ended when its node is back."""
    bench = Bench()
    bench.feed(Restored(A, 5, 0.0, Status.RUNNING, OLD, N1, 0, options=SHORT))
    out = bench.at(1.0, NodeReady(N1, 1, (OLD,), ran_s={OLD: 31.0}))
    assert [KillUnit(N1, OLD)] == of(KillUnit, out)


def test_ends_are_told_with_their_nodes() -> None:
    """One that ran before and is cancelled while it waits is followed to where it ran."""
    bench = begun(TWICE)
    follow = RunOptions(follow=Dependency((A,), failure=True))
    bench.feed(failed(1), Submitted(B, 5, 0.0, options=follow))
    bench.feed(CancelRequested(A))
    assert Status.RUNNING is bench.scheduler.status(B)
    assert {A: Ended(Status.CANCELLED, N1)} == bench.scheduler.state.ended
