# SPDX-License-Identifier: MIT
"""What is exclusive is not given out while an attempt of it may be alive."""

from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import (
    HeartbeatReceived,
    NodeReady,
    NodeSilent,
    Outcome,
    Submitted,
    TimePassed,
)
from pydra.cluster.scheduler.instructions import Dispatch
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.unit_values import (
    BatchHeld,
    DiscardUnits,
    HireWorker,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
    UnitsDone,
    UnitsForgotten,
    WorkerHeld,
)
from pydra.model.ids import Attempt
from tests.support.guarantee_bench import (
    ALONE,
    EXCLUSIVE,
    OLD_BATCH,
    OLD_ROOT,
    OLD_WORKER,
    ONCE,
    begun,
    failures,
    guarded,
    restarted,
    running,
)
from tests.support.scheduler_bench import N1, N2, A, Bench, dispatch, finished, nth
from tests.support.unit_bench import ROOT, UnitBench, dies, digests, done, held, of, one, there


def test_root_on_a_silent_node() -> None:
    """It is given out again 45 s after its node named it last, and no moment before."""
    bench = running(ALONE)
    bench.feed(NodeReady(N2, 1))
    bench.at(3.0, HeartbeatReceived(N1, (ROOT,)), NodeSilent(N1))
    while bench.now < 47.0:
        assert [] == of(Dispatch, bench.at(bench.now + 4.0, HeartbeatReceived(N2)))
    assert [] == of(Dispatch, bench.at(47.9, HeartbeatReceived(N2)))
    assert [dispatch(A, 2, N2)] == of(Dispatch, bench.at(48.0, TimePassed()))


def test_root_that_is_not_named() -> None:
    """It is lost 45 s after it was named last also if its node is there."""
    bench = running(ALONE)
    assert [] == bench.beats(40.0)
    assert dispatch(A, 2) in bench.beats(45.0)


@pytest.mark.parametrize("way", ["its node says so", "its node comes back without it"])
def test_root_that_is_known_to_be_gone(way: str) -> None:
    """It is given out at once if its node says that its worker is gone, or that it does not have it."""
    bench = running(ALONE)
    gone = finished(Outcome.LOST) if way == "its node says so" else NodeReady(N1, 1)
    assert dispatch(A, 2) in bench.feed(NodeSilent(N1), NodeReady(N1, 1, running=(ROOT,)), gone)


def test_root_of_the_master_before() -> None:
    """After a restart of the master 45 s have to pass from that."""
    bench = restarted(options=ALONE)
    bench.feed(NodeReady(N2, 1))
    assert [] == of(Dispatch, bench.beats(44.0 - 4.0, N2))
    assert [] == of(Dispatch, bench.at(44.9, HeartbeatReceived(N2)))
    assert [dispatch(A, 1, N2)] == of(Dispatch, bench.at(45.0, TimePassed()))


def test_leases_that_are_shorter() -> None:
    """If nodes are given up sooner than that, one with something exclusive is not."""
    limits = Limits(suspect_s=2.0, lease_s=6.0, exclusive_s=20.0)
    bench = Bench(limits)
    bench.feed(NodeReady(N1, 1), NodeReady(N2, 1))
    bench.feed(Submitted(A, 5, 0.0, options=ALONE))
    for second in range(1, 20):
        assert [] == of(Dispatch, bench.at(float(second), HeartbeatReceived(N2)))
    assert [dispatch(A, 2, N2)] == of(Dispatch, bench.at(20.0, HeartbeatReceived(N2), TimePassed()))


# Units.


def begun_unit(slots: int = 3) -> tuple[UnitBench, HireWorker, RunUnits]:
    """An exclusive unit is with a hired worker on the lent slot."""
    bench = UnitBench(slots)
    happened = bench.feed(guarded(EXCLUSIVE, 0))
    return bench, one(HireWorker, happened), one(RunUnits, happened)


def test_unit_whose_worker_dies() -> None:
    """It is given out again at once."""
    bench, _, batch = begun_unit()
    assert [[0]] == [each.indexes for each in bench.asked(dies(batch.worker))]


def test_unit_with_other_arguments_whose_worker_is_gone() -> None:
    """It is given out at once, though a result of it with the arguments of before may still come."""
    bench, _, batch = begun_unit()
    back = NodeReady(N1, 3, running=(ROOT,), batches=(held(batch),))
    bench.feed(UnitsForgotten(A, ROOT, "S"), NodeSilent(N1), back)
    [again] = bench.asked(guarded(EXCLUSIVE, 0, version=1))
    assert ([0], digests([0], 1)) == (again.indexes, again.digests)
    assert DiscardUnits(N1, batch.batch, 1) in bench.feed(done(batch))


def test_unit_on_a_node_that_is_away() -> None:
    """It is given out again 45 s after its worker was named."""
    bench = UnitBench(1)
    bench.feed(NodeReady(N2, 1))
    sent = bench.asked(guarded(EXCLUSIVE, 0, 1))
    [away] = [each for each in sent if each.node == N2]
    held = (ROOT, *(each.worker for each in sent))
    bench.feed(NodeSilent(N2))
    assert [] == [each for each in of(RunUnits, bench.beats(40.0, held=held)) if each.indexes == away.indexes]
    happened = bench.at(45.0, HeartbeatReceived(N1, held), done(next(each for each in sent if each != away)))
    assert [away.indexes] == [each.indexes for each in of(RunUnits, happened)]


def test_unit_of_a_lost_main_worker() -> None:
    """The next main worker waits until the node says that the worker is gone."""
    bench, hired, batch = begun_unit()
    happened = bench.feed(finished(Outcome.LOST))
    assert ReleaseWorker(N1, batch.worker) in happened
    root = one(Dispatch, happened).attempt
    assert [] == bench.asked(guarded(EXCLUSIVE, 0, asker=root))
    assert [] == bench.asked(HeartbeatReceived(N1, (root, batch.worker)))
    [again] = bench.asked(dies(hired.worker))
    assert ([0], EXCLUSIVE) == (again.indexes, again.guarantee)
    assert root == one(RecordUnits, bench.feed(done(again))).asker


def test_unit_of_a_lost_main_worker_and_a_silent_node() -> None:
    """If the node says nothing, 45 s have to pass since it named the worker."""
    bench, _, batch = begun_unit()
    bench.feed(NodeReady(N2, 2))
    bench.at(1.0, HeartbeatReceived(N1, (ROOT, batch.worker)))
    happened = bench.feed(finished(Outcome.LOST), NodeSilent(N1))
    root = one(Dispatch, happened).attempt
    assert [] == bench.asked(guarded(EXCLUSIVE, 0, asker=root))
    assert [] == of(RunUnits, bench.beats(41.0, N2, held=(root,)))
    assert [[0]] == [each.indexes for each in of(RunUnits, bench.beats(46.0, N2, held=(root,)))]


@pytest.mark.parametrize("has_it", [True, False])
def test_released_worker_and_a_new_link(has_it: bool) -> None:
    """A node that comes back with the worker is told again; without it, the unit is free."""
    bench, hired, _ = begun_unit()
    root = one(Dispatch, bench.feed(finished(Outcome.LOST))).attempt
    bench.feed(guarded(EXCLUSIVE, 0, asker=root), NodeSilent(N1))
    workers = (there(hired),) if has_it else ()
    happened = bench.feed(NodeReady(N1, 3, running=(root,), workers=workers))
    assert has_it == (ReleaseWorker(N1, hired.worker) in happened)
    assert has_it == (not of(RunUnits, happened))


def test_forgotten_and_asked_again() -> None:
    """Asked for again with the same arguments it is the same attempt; with others it waits for its end."""
    bench, _, batch = begun_unit()
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert [] == bench.asked(guarded(EXCLUSIVE, 0))
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert [] == bench.asked(guarded(EXCLUSIVE, 0, version=1))
    happened = bench.feed(done(batch))
    assert [] == of(RecordUnits, happened)
    assert digests([0], 1) == one(RunUnits, happened).digests


def test_waiting_and_forgotten() -> None:
    """Nothing comes of a unit that nobody waits for any more."""
    bench, hired, _ = begun_unit()
    root = one(Dispatch, bench.feed(finished(Outcome.LOST))).attempt
    bench.feed(guarded(EXCLUSIVE, 0, asker=root), UnitsForgotten(A, root, "S"))
    assert [] == bench.asked(dies(hired.worker))


def test_results_that_cannot_be() -> None:
    """The worker that told them is ended, and its unit waits for that."""
    bench, hired, batch = begun_unit()
    happened = bench.feed(UnitsDone(N1, batch.worker, batch.batch, 0, 2, 0.0))
    assert ReleaseWorker(N1, batch.worker) in happened
    assert [] == of(RunUnits, happened)
    assert [[0]] == [each.indexes for each in bench.asked(dies(hired.worker))]


def test_too_many_losses() -> None:
    """The poison limit holds for it as for any other."""
    bench, _, batch = begun_unit()
    for _ in range(2):
        [batch] = bench.asked(dies(batch.worker))
    assert [(ROOT, [0], "worker_died")] == failures(bench.feed(dies(batch.worker)))


def test_a_foreign_node_says_that_it_is_gone() -> None:
    """Nobody but its node can free a unit."""
    bench, hired, _ = begun_unit()
    bench.feed(NodeReady(N2, 1))
    root = one(Dispatch, bench.feed(finished(Outcome.LOST))).attempt
    bench.feed(guarded(EXCLUSIVE, 0, asker=root))
    assert [] == bench.asked(dies(hired.worker, N2), NodeReady(N2, 1), HeartbeatReceived(N2, (hired.worker,)))


# After a restart of the master.


def test_begun_before() -> None:
    """What another master began is given out 45 s after the start, or when its node says that it is gone."""
    bench = restarted(begun(EXCLUSIVE, node=N2))
    bench.feed(NodeReady(N1, 1, running=(OLD_ROOT,)))
    asked = guarded(EXCLUSIVE, 0, asker=OLD_ROOT, started={0: OLD_BATCH})
    assert [] == of(RunUnits, bench.feed(asked))
    assert [] == of(RunUnits, bench.beats(40.0, held=(OLD_ROOT,)))
    assert [[0]] == [each.indexes for each in of(RunUnits, bench.beats(45.0, held=(OLD_ROOT,)))]


def test_begun_before_and_still_there() -> None:
    """It goes on, and is given out again when its worker is lost."""
    bench = restarted(begun(EXCLUSIVE))
    bench.feed(guarded(EXCLUSIVE, 0, asker=OLD_ROOT, started={0: OLD_BATCH}))
    batch = BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [0], digests([0]), 0)
    worker = WorkerHeld(OLD_WORKER, A, 1)
    hello = NodeReady(N1, 2, running=(OLD_ROOT,), workers=(worker,), batches=(batch,))
    assert [] == of(RunUnits, bench.feed(hello))
    assert [[0]] == [each.indexes for each in of(RunUnits, bench.feed(dies(OLD_WORKER)))]


def test_begun_before_and_asked_with_other_arguments() -> None:
    """It goes on for nobody, and the other waits for its end."""
    bench = restarted(begun(EXCLUSIVE))
    bench.feed(guarded(EXCLUSIVE, 0, asker=OLD_ROOT, version=1))
    batch = BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [0], digests([0]), 0)
    worker = WorkerHeld(OLD_WORKER, A, 1)
    hello = NodeReady(N1, 2, running=(OLD_ROOT,), workers=(worker,), batches=(batch,))
    assert [] == of(RunUnits, bench.feed(hello))
    happened = bench.feed(UnitsDone(N1, OLD_WORKER, OLD_BATCH, 0, 1, 1.0, "told"))
    assert digests([0], 1) == one(RunUnits, happened).digests


def test_begun_before_by_a_worker_without_its_main_worker() -> None:
    """If the main worker did not survive, its successor waits until the node ended the worker."""
    bench = restarted(begun(EXCLUSIVE))
    batch = BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [0], digests([0]), 0)
    worker = WorkerHeld(OLD_WORKER, A, 1)
    happened = bench.feed(NodeReady(N1, 2, workers=(worker,), batches=(batch,)))
    assert ReleaseWorker(N1, OLD_WORKER) in happened
    root = one(Dispatch, happened).attempt
    assert nth(1) == root
    assert [] == of(RunUnits, bench.feed(guarded(EXCLUSIVE, 0, asker=root, started={0: Attempt(1, 9)})))
    assert [[0]] == [each.indexes for each in of(RunUnits, bench.feed(dies(OLD_WORKER)))]


def test_a_root_that_takes_its_stray_with_it() -> None:
    """A main worker and a stray unit of it are given up at the same moment, each once."""
    both = EXCLUSIVE | ONCE
    bench = restarted(begun(both), options=ALONE)
    happened = bench.at(45.0, TimePassed())
    assert [(None, [0], "lost")] == failures(happened)
    assert [] == bench.scheduler.running()
