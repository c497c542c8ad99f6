# SPDX-License-Identifier: MIT
from __future__ import annotations

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TimePassed,
)
from pydra.cluster.scheduler.instructions import (
    BeginCancelling,
    Dispatch,
    Finish,
    Requeue,
    StopUnit,
)
from pydra.cluster.scheduler.unit_values import (
    HireWorker,
    Pause,
    PauseRequested,
    RecordUnits,
    ReleaseWorker,
    ResumeRequested,
    RunUnits,
)
from pydra.model.ids import WorkerSlot
from pydra.model.options import RunOptions
from pydra.model.status import Status
from tests.support.scheduler_bench import (
    N1,
    OLD,
    A,
    B,
    Bench,
    C,
    assignment,
    dispatch,
    finished,
    nodes_of,
    nth,
    submitted,
)
from tests.support.unit_bench import ROOT, UnitBench, asks, dies, done, of, one

PAUSE, RESUME = PauseRequested(A), ResumeRequested(A)


def test_paused_in_the_queue() -> None:
    """A paused instance that waits gets no slot until it is resumed; then it has its old place."""
    bench = Bench()
    bench.feed(submitted(A), submitted(B, queued=1.0))
    assert bench.scheduler.may_pause(A)
    assert [Pause(A, paused=True)] == bench.feed(PAUSE)
    assert [] == bench.feed(PAUSE)
    assert Status.PAUSED is bench.scheduler.status(A)
    assert "paused" in bench.scheduler.explain(A).text
    assert [B] == [each.instance for each in bench.scheduler.queued()]
    assert [A] == [each.instance for each in bench.scheduler.paused()]
    assert [Pause(A, paused=False)] == bench.feed(RESUME)
    assert [A, B] == [each.instance for each in bench.scheduler.queued()]
    assert [] == bench.feed(RESUME)


def test_cancelled_while_it_is_paused() -> None:
    """A paused instance can be cancelled, in the queue and on its node."""
    bench = Bench()
    bench.feed(submitted(A), PAUSE)
    assert [Finish(A, None, Status.CANCELLED)] == bench.feed(CancelRequested(A))
    bench = UnitBench()
    bench.feed(asks([0]), PAUSE)
    cancelled = bench.feed(CancelRequested(A))
    assert [BeginCancelling(A, ROOT), StopUnit(N1, ROOT)] == [
        each for each in cancelled if not isinstance(each, ReleaseWorker)
    ]
    assert [Finish(A, ROOT, Status.CANCELLED)] == bench.feed(finished(Outcome.STOPPED))


def test_what_cannot_pause() -> None:
    """What asked for no units cannot pause, nor what is unknown or ends."""
    bench = UnitBench()
    assert not bench.scheduler.may_pause(A)
    assert [] == bench.feed(PAUSE, PauseRequested(B))
    assert not bench.scheduler.may_pause(B)
    bench.feed(asks([0]))
    assert bench.scheduler.may_pause(A)
    bench.feed(CancelRequested(A))
    assert not bench.scheduler.may_pause(A)
    assert [] == bench.feed(PAUSE, RESUME)


def test_pause_and_resume() -> None:
    """No batch is given out while it is paused; what runs ends, and its slots are for others."""
    bench = UnitBench(slots=2)
    lent, own = bench.asked(asks(range(9)))
    assert [Pause(A, paused=True)] == bench.feed(PAUSE)
    assert [RecordUnits, ReleaseWorker] == [type(each) for each in bench.feed(done(own, unit_s=1.0))]
    assert [dispatch(B, 6, index=1)] == bench.feed(submitted(B))
    assert [RecordUnits, ReleaseWorker] == [type(each) for each in bench.feed(done(lent, unit_s=1.0))]
    assert 2 == next(iter(nodes_of(bench.scheduler))).slots
    assert [None, B] == list(bench.scheduler.slots(N1))
    resumed, hired, batch = bench.feed(RESUME)
    assert Pause(A, paused=False) == resumed
    assert isinstance(hired, HireWorker)
    assert WorkerSlot(N1, 0) == hired.slot
    assert isinstance(batch, RunUnits)
    assert [2] == batch.indexes
    assert (ROOT, WorkerSlot(N1, 0)) == assignment(bench.scheduler, A)


def test_units_are_asked_while_it_is_paused() -> None:
    """Units that are asked for meanwhile wait."""
    bench = UnitBench()
    [batch] = bench.asked(asks([0]))
    bench.feed(PAUSE, done(batch, unit_s=1.0))
    assert [] == bench.feed(asks(range(1, 4)))
    assert (3, 0) == bench.scheduler.units(A)
    assert [[1]] == [each.indexes for each in bench.asked(RESUME)]


def test_resumed_when_its_slot_is_taken() -> None:
    """A resumed instance goes on when its node has a slot, before others that wait."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    out = bench.feed(PAUSE, done(batch), submitted(B), submitted(C))
    assert [B] == [each.instance for each in of(Dispatch, out)]
    assert [Pause(A, paused=False)] == bench.feed(RESUME)
    assert Status.RUNNING is bench.scheduler.status(A)
    assert "waits" in bench.scheduler.explain(A).text
    out = bench.feed(finished(Outcome.COMPLETE, one(Dispatch, out).attempt.number))
    assert [] == of(Dispatch, out)
    assert [[1]] == [each.indexes for each in of(RunUnits, out)]


def test_paused_again_while_it_waits_for_a_slot() -> None:
    """It may be paused again before it has its slot, and then it wants none."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    out = bench.feed(PAUSE, done(batch), submitted(B))
    bench.feed(RESUME)
    assert [Pause(A, paused=True)] == bench.feed(PAUSE)
    number = one(Dispatch, out).attempt.number
    assert [Finish] == [type(each) for each in bench.feed(finished(Outcome.COMPLETE, number))]


def test_its_own_node_need_not_begin_anything_for_it() -> None:
    """Its main worker is there, so it goes on where nothing new begins."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    bench.feed(PAUSE, done(batch))
    held = (nth(1),)
    assert Pause(A, paused=False) in bench.feed(HeartbeatReceived(N1, held, "There is no memory."), RESUME)


def test_units_that_wait_for_units_end() -> None:
    """A unit that waits for units of its own gets them while the instance is paused, and ends by that."""
    bench = UnitBench()
    [outer] = bench.asked(asks(range(2)))
    bench.feed(asks(range(2), outer.worker, branch="S:0/T"), PAUSE)
    [inner] = bench.asked(done(RunUnits(N1, nth(4), nth(5), A, "", [0], [], b"", {}, 0.0)))
    assert "S:0/T" == inner.branch
    bench.feed(done(inner))
    out = bench.feed(done(outer))
    assert [RecordUnits, ReleaseWorker] == [type(each) for each in out]
    assert (1, 0) == bench.scheduler.units(A)
    assert [None] == list(bench.scheduler.slots(N1))


def test_lost_while_it_is_paused() -> None:
    """A paused instance that loses its main worker stays paused, and waits for a slot once it is resumed."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    bench.feed(PAUSE, done(batch))
    assert [Requeue(A, ROOT, 1)] == bench.feed(finished(Outcome.LOST))
    assert Status.PAUSED is bench.scheduler.status(A)
    assert [Pause(A, paused=False), dispatch(A, 4)] == bench.feed(RESUME)


def test_ends_while_it_is_paused() -> None:
    """A main worker that ends by itself ends its instance, paused or not."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    bench.feed(PAUSE, done(batch))
    assert [Finish(A, ROOT, Status.COMPLETE)] == bench.feed(finished(Outcome.COMPLETE))


def test_worker_dies_while_it_is_paused() -> None:
    """What a lost worker had waits until it is resumed."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    bench.feed(PAUSE)
    assert [] == bench.feed(dies(batch.worker))
    assert (2, 0) == bench.scheduler.units(A)
    assert [[0]] == [each.indexes for each in bench.asked(RESUME)]


def test_session_is_paused() -> None:
    """A session can be paused whether or not anybody asked for units."""
    bench = Bench()
    bench.feed(Submitted(A, 5, 0.0, is_session=True), NodeReady(N1, 1))
    assert bench.scheduler.may_pause(A)
    bench.feed(PAUSE)
    assert [] == bench.feed(asks([0], asker=None))
    assert [[0]] == [each.indexes for each in of(RunUnits, bench.feed(RESUME))]


def test_restored_paused() -> None:
    """A paused instance is paused after a restart: with its node, without a slot, or in the queue."""
    bench = Bench()
    row = Restored(A, 5, 0.0, Status.PAUSED, OLD, N1, 0)
    waits = Restored(B, 5, 0.0, Status.PAUSED)
    assert [] == bench.feed(row, waits, NodeReady(N1, 1, running=(OLD,)))
    assert [None] == list(bench.scheduler.slots(N1))
    assert [Status.PAUSED] * 2 == [bench.scheduler.status(each) for each in (A, B)]
    assert [Pause(A, paused=False)] == bench.feed(RESUME)
    assert [A] == list(bench.scheduler.slots(N1))
    assert [Pause(B, paused=False)] == bench.feed(ResumeRequested(B))
    assert [B] == [each.instance for each in bench.scheduler.queued()]


def test_resumed_while_its_node_is_away() -> None:
    """It goes on when its node is back."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    bench.feed(PAUSE, done(batch), NodeSilent(N1))
    assert [Pause(A, paused=False)] == bench.feed(RESUME)
    assert [] == bench.feed(TimePassed())
    assert [[1]] == [each.indexes for each in bench.asked(NodeReady(N1, 1, running=(ROOT,)))]


def test_resources_are_free_while_it_is_paused() -> None:
    """What a paused instance held is for others, and it waits for that too when it is resumed."""
    bench = Bench()
    gpu = RunOptions(resources={"gpus": 1.0})
    bench.feed(NodeReady(N1, 3, resources={"gpus": 1.0}), Submitted(A, 5, 0.0, options=gpu))
    [batch] = of(RunUnits, bench.feed(asks(range(2))))
    bench.feed(PAUSE, done(batch, unit_s=1.0))
    other = one(Dispatch, bench.feed(Submitted(B, 5, 0.0, options=gpu)))
    assert [Pause(A, paused=False)] == bench.feed(RESUME)
    assert [[1]] == [
        each.indexes for each in of(RunUnits, bench.feed(finished(Outcome.COMPLETE, other.attempt.number)))
    ]
    assert [] == of(Dispatch, bench.feed(Submitted(C, 5, 0.0, options=gpu)))


def test_time_limit_stands_still() -> None:
    """The time limit of an instance does not run while it is paused."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1), Submitted(A, 5, 0.0, options=RunOptions(time_limit=10.0)))
    bench.feed(asks([0]))
    bench.at(4.0, PAUSE)
    assert [] == of(BeginCancelling, bench.at(13.0, NodeReady(N1, 1, running=(ROOT,))))
    bench.feed(RESUME)
    assert [] == of(BeginCancelling, bench.at(18.9, TimePassed()))
    assert [BeginCancelling] == [type(each) for each in of(BeginCancelling, bench.at(19.0, TimePassed()))]
