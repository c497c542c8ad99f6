# SPDX-License-Identifier: MIT
"""What runs at most once: whatever is lost of it has failed, and is never given out again."""

from __future__ import annotations

import msgspec
import pytest

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    NodeReady,
    NodeSilent,
    Outcome,
    Submitted,
    TimePassed,
)
from pydra.cluster.scheduler.unit_values import (
    BatchHeld,
    DiscardUnits,
    HireWorker,
    PauseRequested,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
    UnitsDone,
    UnitsForgotten,
    WorkerHeld,
)
from pydra.model.ids import Attempt
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status
from tests.support.guarantee_bench import (
    EXCLUSIVE,
    NEVER,
    OLD_BATCH,
    OLD_ROOT,
    OLD_WORKER,
    ONCE,
    begun,
    ends,
    failures,
    guarded,
    restarted,
    running,
)
from tests.support.scheduler_bench import N1, N2, A, B, Bench, dispatch, finished, submitted
from tests.support.unit_bench import ROOT, UnitBench, asks, dies, digests, done, of, one, there

LOST = [(A, Status.FAILED, "lost")]


def test_lost_root() -> None:
    """An instance that loses its worker has failed, and says that it is never run again."""
    bench = running(NEVER)
    [end] = bench.feed(finished(Outcome.LOST, reason="it died"))
    assert LOST == ends([end])
    assert "was lost and is never run again: it died" in str(end)


@pytest.mark.parametrize("way", ["silence", "back without it", "unnamed"])
def test_lost_node(way: str) -> None:
    """It has failed too if its node is gone, comes back without it, or does not have it any more."""
    bench = running(NEVER)
    if way == "silence":
        happened = [*bench.at(15.0, TimePassed()), *bench.at(61.0, TimePassed())]
    elif way == "back without it":
        happened = bench.feed(NodeSilent(N1), NodeReady(N1, 1))
    else:
        happened = bench.beats(65.0)
    assert LOST == ends(happened)


def test_paused_root() -> None:
    """It has failed as well if it is paused then."""
    bench = running(NEVER)
    bench.feed(asks([0]), PauseRequested(A))
    assert LOST == ends(bench.feed(finished(Outcome.LOST)))


def test_cancelled_root() -> None:
    """One that was to end is cancelled."""
    bench = running(NEVER)
    bench.feed(CancelRequested(A))
    assert [(A, Status.CANCELLED, "")] == ends(bench.feed(finished(Outcome.LOST)))


def test_failed_root() -> None:
    """One that fails by itself has its own failure."""
    bench = running(NEVER)
    assert [(A, Status.FAILED, "")] == ends(bench.feed(finished(Outcome.FAILED, reason="ValueError")))


def test_lost_root_of_the_master_before() -> None:
    """After a restart of the master it goes on with its node, or has failed."""
    bench = restarted(options=NEVER)
    assert [] == bench.feed(NodeReady(N1, 1, running=(OLD_ROOT,)))
    bench = restarted(options=NEVER)
    assert LOST == ends(bench.feed(NodeReady(N1, 1)))
    bench = restarted(options=NEVER)
    assert LOST == ends(bench.at(61.0, TimePassed()))


def test_what_depends_on_it() -> None:
    """Its loss is a failure for what waits for it."""
    bench = running(NEVER)
    after = [RunOptions(after=Dependency((A,), failure=is_met)) for is_met in (True, False)]
    bench.feed(Submitted(B, 5, 0.0, options=after[0]))
    happened = bench.feed(finished(Outcome.LOST))
    assert dispatch(B, 2) in happened
    other = running(NEVER)
    other.feed(Submitted(B, 5, 0.0, options=after[1]))
    assert [*LOST, (B, Status.FAILED, "dependency")] == ends(other.feed(finished(Outcome.LOST)))


def test_root_of_a_session() -> None:
    """The root of a session does nothing itself: only its units run at most once."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1), Submitted(A, 5, 0.0, is_session=True, options=NEVER))
    assert dispatch(A, 2) in bench.feed(finished(Outcome.LOST))
    [batch] = of(RunUnits, bench.feed(asks([0], None)))
    assert [(None, [0], "lost")] == failures(bench.feed(dies(batch.worker)))


# Units.


def test_one_by_one() -> None:
    """They come alone, however quick, and none waits behind another."""
    bench = UnitBench(2)
    sent = bench.asked(guarded(ONCE, *range(6)))
    while sent:
        assert all(len(batch.indexes) == 1 for batch in sent)
        sent = bench.asked(*(done(batch, unit_s=1e-6) for batch in sent))


def test_not_behind_a_quick_batch() -> None:
    """A worker that has a batch is given none with a guarantee ahead, nor any behind one."""
    bench = UnitBench()
    [batch] = bench.measured(4, 0.001)[:1]
    assert [] == bench.asked(guarded(ONCE, 0, branch="T"))
    [*_, following] = bench.asked(done(batch))
    while following.branch == "S":
        [following] = bench.asked(done(following))
    assert [] == bench.asked(asks(range(10, 14), branch="U"))


def test_lost_unit() -> None:
    """Its asker is told that it is lost, and it is not given out again when that asks again."""
    bench = UnitBench()
    [batch] = bench.asked(guarded(ONCE, 0, 1))
    happened = bench.feed(dies(batch.worker))
    assert [(ROOT, [0], "lost")] == failures(happened)
    assert [[1]] == [each.indexes for each in of(RunUnits, happened)]


def test_by_the_options_of_its_instance() -> None:
    """All units of an instance that runs at most once do, too."""
    bench = running(NEVER, 2)
    [batch] = of(RunUnits, bench.feed(asks([0])))
    assert ONCE == batch.guarantee
    assert [(ROOT, [0], "lost")] == failures(bench.feed(dies(batch.worker)))


def test_unit_over_its_time() -> None:
    """One that took too long has failed by that."""
    bench = UnitBench()
    [batch] = bench.asked(guarded(ONCE, 0, time_limit=3.0))
    assert [(ROOT, [0], "limit")] == failures(bench.feed(dies(batch.worker, code="limit")))


@pytest.mark.parametrize(
    "way", ["node back without it", "node back without the batch", "silence", "nonsense"]
)
def test_unit_on_a_lost_node(way: str) -> None:
    """It is lost with its node, or if that does not have it (any more), or tells nonsense."""
    bench = UnitBench()
    happened = bench.feed(guarded(ONCE, 0))
    batch, hired = one(RunUnits, happened), one(HireWorker, happened)
    if way == "silence":
        happened = [*bench.at(15.0, TimePassed()), *bench.at(61.0, TimePassed())]
        assert [(None, [0], "lost")] == failures(happened)
        return
    if way == "nonsense":
        happened = bench.feed(
            done(batch, count=1, start=0).__class__(N1, batch.worker, batch.batch, 0, 2, 0.0)
        )
    else:
        workers = (there(hired),) if way == "node back without the batch" else ()
        happened = bench.feed(NodeSilent(N1), NodeReady(N1, 1, running=(ROOT,), workers=workers))
    assert [(ROOT, [0], "lost")] == failures(happened)
    assert [] == of(RunUnits, happened)


def test_unit_of_a_lost_main_worker() -> None:
    """If the main worker is lost, its units are, and nobody is told but the store."""
    bench = UnitBench(2)
    assert 2 == len(bench.asked(guarded(ONCE, 0, 1, 2)))
    happened = bench.feed(finished(Outcome.LOST))
    assert [(None, [0], "lost"), (None, [1], "lost")] == sorted(failures(happened), key=str)


def test_unit_of_an_instance_that_ends() -> None:
    """What runs when its instance is cancelled is recorded as lost, before that."""
    bench = UnitBench()
    bench.asked(guarded(ONCE, 0))
    happened = bench.feed(CancelRequested(A))
    assert [(None, [0], "lost")] == failures(happened)


def test_forgotten_unit() -> None:
    """One that nobody waits for is recorded all the same, as lost or with its result."""
    bench = UnitBench()
    [batch] = bench.asked(guarded(ONCE, 0))
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert [(None, [0], "lost")] == failures(bench.feed(dies(batch.worker)))


def test_forgotten_and_asked_again() -> None:
    """It is the same one if its arguments are: it is not given out twice, and its asker has its result."""
    bench = UnitBench(2)
    [batch] = bench.asked(guarded(ONCE, 0))
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert [] == bench.asked(guarded(ONCE, 0))
    assert ROOT == one(RecordUnits, bench.feed(done(batch))).asker


def test_asked_with_other_arguments() -> None:
    """With other arguments it is other work, and is run."""
    bench = UnitBench(3)
    [batch] = bench.asked(guarded(ONCE, 0))
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    [other] = bench.asked(guarded(ONCE, 0, version=1))
    assert [] == of(RecordUnits, bench.feed(done(batch)))
    assert ROOT == one(RecordUnits, bench.feed(done(other))).asker


def test_begun_and_with_nobody() -> None:
    """What the store has as begun, and nobody has, is lost; so it is told."""
    bench = UnitBench()
    happened = bench.feed(guarded(ONCE, 0, 1, started={0: Attempt(1, 3)}))
    assert [(ROOT, [0], "lost")] == failures(happened)
    assert [[1]] == [batch.indexes for batch in of(RunUnits, happened)]


def test_quick_normal_units_are_not_slower() -> None:
    """A guarantee of some units of a branch does not make single ones of the others."""
    bench = UnitBench()
    [batch] = bench.measured(400, 0.00001)[-1:]
    assert len(batch.indexes) > 1
    bench.feed(guarded(ONCE, 1000))
    assert ONCE not in [each.guarantee for each in bench.asked(done(batch))[:1]]


# After a restart of the master.


def hello(*batches: BatchHeld, workers: tuple[Attempt, ...] = (OLD_WORKER,)) -> NodeReady:
    """Node 1 comes back with the root, and with these."""
    named = tuple(WorkerHeld(each, A, 1) for each in workers)
    return NodeReady(N1, 2, running=(OLD_ROOT,), workers=named, batches=batches)


OLD = BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [0], digests([0]), 0)


def test_node_still_has_it() -> None:
    """It goes on, whether it was asked for again before or is after; nothing is given out."""
    for is_early in (True, False):
        bench = restarted(begun(ONCE))
        if is_early:
            bench.feed(guarded(ONCE, 0, asker=OLD_ROOT, started={0: OLD_BATCH}))
        assert [] == of(RunUnits, bench.feed(hello(OLD)))
        if not is_early:
            assert [] == of(RunUnits, bench.feed(guarded(ONCE, 0, asker=OLD_ROOT, started={0: OLD_BATCH})))
        result = UnitsDone(N1, OLD_WORKER, OLD_BATCH, 0, 1, 1.0, "told")
        assert OLD_ROOT == one(RecordUnits, bench.feed(result)).asker


def test_node_still_has_what_was_given_up() -> None:
    """What is recorded as lost, or was given out again, is no more than a worker to be ended."""
    bench = restarted()
    out = bench.feed(hello(msgspec.structs.replace(OLD, is_guarded=True)))
    assert DiscardUnits(N1, OLD_BATCH, 1) in out
    assert [OLD_WORKER] == [each.worker for each in of(ReleaseWorker, out)]
    result = UnitsDone(N1, OLD_WORKER, OLD_BATCH, 0, 1, 1.0, "told")
    assert [] == of(RecordUnits, bench.feed(result))


def test_node_has_its_result() -> None:
    """A worker that is gone may have told a result, which counts; if it does not come, the unit is lost."""
    bench = restarted(begun(ONCE))
    bench.feed(guarded(ONCE, 0, asker=OLD_ROOT, started={0: OLD_BATCH}), hello(OLD, workers=()))
    other = bench.scheduler
    assert (0, 1) == other.units(A)
    assert [(OLD_ROOT, [0], "lost")] == failures(bench.beats(10.0, held=(OLD_ROOT,)))


@pytest.mark.parametrize("is_asked", [True, False])
def test_node_comes_back_without_it(is_asked: bool) -> None:
    """It is lost, and recorded so; who waits for it is told."""
    bench = restarted(begun(ONCE))
    if is_asked:
        bench.feed(guarded(ONCE, 0, asker=OLD_ROOT, started={0: OLD_BATCH}))
    happened = bench.feed(hello(workers=()))
    assert [(OLD_ROOT if is_asked else None, [0], "lost")] == failures(happened)


def test_node_does_not_come_back() -> None:
    """It is lost with its node's lease, though its main worker is well."""
    bench = restarted(begun(ONCE, node=N2))
    bench.feed(hello(workers=()), guarded(ONCE, 0, asker=OLD_ROOT, started={0: OLD_BATCH}))
    assert [] == failures(bench.beats(55.0, held=(OLD_ROOT,)))
    assert [(OLD_ROOT, [0], "lost")] == failures(bench.beats(65.0, held=(OLD_ROOT,)))


def test_lost_with_the_main_worker_of_before() -> None:
    """If the main worker did not survive, what it had begun is lost, and its successor is told."""
    bench = restarted(begun(ONCE, node=N2))
    happened = bench.feed(NodeReady(N1, 2))
    assert [(None, [0], "lost")] == failures(happened)
    assert dispatch(A, 1) in happened


@pytest.mark.parametrize(
    "lie",
    [
        BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [1], digests([1]), 0),
        BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [0], digests([0], 1), 0),
        BatchHeld(OLD_BATCH, OLD_WORKER, A, "T", [0], digests([0]), 0),
        BatchHeld(OLD_BATCH, OLD_WORKER, B, "S", [0], digests([0]), 0),
        BatchHeld(OLD_BATCH, OLD_WORKER, A, "S", [0, 1], digests([0, 1]), 0),
    ],
)
def test_node_says_something_else_of_it(lie: BatchHeld) -> None:
    """What does not agree with the store is refused, and the unit is lost."""
    bench = restarted(begun(ONCE))
    happened = bench.feed(hello(lie))
    assert [(None, [0], "lost")] == failures(happened)
    assert ReleaseWorker(N1, OLD_WORKER) in happened


def test_another_node_says_that_it_is_gone() -> None:
    """Only the node that it was given to can say what became of it."""
    bench = restarted(begun(ONCE, node=N2))
    bench.feed(hello(workers=()))
    assert [] == bench.feed(dies(OLD_WORKER, N1), HeartbeatReceived(N1, (OLD_WORKER, OLD_ROOT)))
    assert [] == failures(bench.feed(dies(OLD_WORKER, N1)))
    assert [(None, [0], "lost")] == failures(bench.feed(NodeReady(N2, 1)))


def test_what_has_ended_is_not_restored() -> None:
    """What was begun for an instance that has ended is nobody's."""
    bench = Bench()
    assert [] == bench.feed(begun(ONCE | EXCLUSIVE))
    assert [] == bench.feed(submitted(A))
    assert dispatch(A, 1) in bench.feed(NodeReady(N1, 1))
    assert [[0]] == [batch.indexes for batch in of(RunUnits, bench.feed(guarded(ONCE, 0)))]


def test_asked_with_other_arguments_after_a_restart() -> None:
    """The other work is run, and what becomes of the former is not recorded in its place."""
    bench = restarted(begun(ONCE, node=N2))
    bench.feed(hello(workers=()))
    [batch] = of(RunUnits, bench.feed(guarded(ONCE, 0, asker=OLD_ROOT, version=1)))
    assert OLD_ROOT == one(RecordUnits, bench.feed(done(batch))).asker
    workers = (WorkerHeld(OLD_WORKER, A, 0),)
    assert [] == failures(bench.feed(NodeReady(N2, 1, workers=workers, batches=(OLD,))))
    assert [] == of(RecordUnits, bench.feed(UnitsDone(N2, OLD_WORKER, OLD_BATCH, 0, 1, 1.0, "told")))
