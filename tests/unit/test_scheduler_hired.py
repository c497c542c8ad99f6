# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import HeartbeatReceived, NodeReady, NodeSilent, TimePassed
from pydra.cluster.scheduler.instructions import Dispatch
from pydra.cluster.scheduler.serving import LATE_S
from pydra.cluster.scheduler.unit_values import (
    DiscardUnits,
    FailUnits,
    HireWorker,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
)
from pydra.errors import WorkersUnavailable
from pydra.model.ids import WorkerSlot
from tests.support.scheduler_bench import N1, N2, A, B, C, nth, submitted
from tests.support.unit_bench import ROOT, UnitBench, asks, dies, digests, done, held, of, one, there

# Who gets slots.


def test_hired_on_all_slots() -> None:
    """Units that take a while get all slots that are free, the lent one first."""
    bench = UnitBench(slots=3)
    bench.feed(NodeReady(N2, 1))
    hired = of(HireWorker, bench.feed(asks(range(9))))
    assert [WorkerSlot(N1, 0), WorkerSlot(N2, 0), WorkerSlot(N1, 1), WorkerSlot(N1, 2)] == [
        each.slot for each in hired
    ]


def test_not_hired_for_little() -> None:
    """Nobody is hired for units that are done before a worker would be there."""
    bench = UnitBench()
    bench.measured(50, unit_s=0.0001)
    assert [] == of(HireWorker, bench.feed(NodeReady(N2, 4)))
    assert 1 == len(of(HireWorker, bench.feed(asks(range(50, 650)))))


def test_waiting_roots_come_first() -> None:
    """A free slot goes to a root that waits, then to a further worker."""
    bench = UnitBench(slots=1)
    bench.feed(asks(range(9)), submitted(B))
    out = bench.feed(NodeReady(N2, 2))
    assert [Dispatch, HireWorker, RunUnits] == [type(each) for each in out]


def test_slots_are_shared() -> None:
    """Of instances with the same priority the one with fewer workers gets the next; a better one before."""
    bench = UnitBench(slots=3)
    bench.feed(submitted(B), submitted(C, priority=9))
    bench.feed(asks(range(99)), asks(range(99), nth(2), instance=B), asks(range(99), nth(3), instance=C))
    hired = of(HireWorker, bench.feed(NodeReady(N2, 4)))
    assert [A, B, A, B] == [each.instance for each in hired]


def test_gives_way_to_a_root() -> None:
    """A worker on a slot of its own is given back at the end of its batch if a root waits for that."""
    bench = UnitBench(slots=2, priority=5)
    lent, own = bench.asked(asks(range(9)))
    assert [] == bench.feed(submitted(B, priority=5))
    out = bench.feed(done(lent, unit_s=1.0))
    assert lent.worker == one(RunUnits, out).worker
    out = bench.feed(done(own, unit_s=1.0))
    assert [RecordUnits, ReleaseWorker, Dispatch] == [type(each) for each in out]
    assert WorkerSlot(N1, 1) == one(Dispatch, out).slot


def test_does_not_give_way_to_a_lesser_root() -> None:
    """A worker with work is kept if what waits has a lower priority, until there is no more work."""
    bench = UnitBench(slots=2, priority=3)
    _, own = bench.asked(asks(range(3)))
    bench.feed(submitted(B, priority=5))
    [again] = bench.asked(done(own, unit_s=1.0))
    out = bench.feed(done(again, unit_s=1.0))
    assert [RecordUnits, ReleaseWorker, Dispatch] == [type(each) for each in out]


def test_no_second_batch_while_a_root_waits() -> None:
    """A worker that is to give way gets no batch ahead."""
    bench = UnitBench(slots=2)
    lent, own = bench.asked(asks(range(200)))
    bench.feed(submitted(B))
    batches = bench.asked(done(lent))
    assert {lent.worker} == {each.worker for each in batches}
    assert 2 == len(batches)
    assert Dispatch in [type(each) for each in bench.feed(done(own))]


def test_one_slot_for_one_root() -> None:
    """As many workers give way as roots wait."""
    bench = UnitBench(slots=4)
    batches = bench.asked(asks(range(99)))
    bench.feed(submitted(B))
    out = bench.feed(*(done(each, unit_s=1.0) for each in batches))
    assert (1, 1, 3) == (len(of(ReleaseWorker, out)), len(of(Dispatch, out)), len(of(RunUnits, out)))


def test_idle_worker_is_held() -> None:
    """A worker with nothing to do is used again, or released after a while."""
    bench = UnitBench(slots=2)
    batches = bench.asked(asks(range(2)))
    bench.feed(*map(done, batches))
    assert 2.0 == bench.scheduler.wake_at()
    [batch] = bench.asked(asks([5]))
    bench.at(1.0, done(batch))
    assert [ReleaseWorker(N1, batches[1].worker)] == bench.at(2.0, TimePassed())
    assert [ReleaseWorker(N1, batch.worker)] == bench.at(3.0, TimePassed())


def test_idle_worker_goes_at_once() -> None:
    """A worker with nothing to do is released at once if another instance wants its slot."""
    bench = UnitBench(slots=3)
    bench.feed(submitted(B))
    lent, own = bench.asked(asks(range(2)))
    bench.feed(done(lent), done(own))
    out = bench.feed(asks(range(9), nth(2), instance=B))
    assert [ReleaseWorker(N1, own.worker)] == of(ReleaseWorker, out)
    assert [WorkerSlot(N1, 1), WorkerSlot(N1, 2)] == [each.slot for each in of(HireWorker, out)]


# Losses.


def test_lost_worker_leaves_its_units() -> None:
    """Units of a lost worker are queued again, first in line, one by one; results of before count."""
    bench = UnitBench()
    first, second = bench.measured(60, unit_s=0.002)
    bench.feed(done(first, 4))
    out = bench.feed(dies(first.worker))
    assert [] == of(FailUnits, out)
    [hired] = of(HireWorker, out)
    left = first.indexes[4:] + second.indexes
    batches = of(RunUnits, out)
    for index in left:
        batch = batches.pop(0)
        assert ([index], hired.worker) == (batch.indexes, batch.worker)
        batches += bench.asked(done(batch))
    assert len(batches[-1].indexes) > 1


def test_poison() -> None:
    """A unit that costs too many workers fails, and the others go on."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    for _ in range(2):
        assert [0] == batch.indexes
        [batch] = bench.asked(dies(batch.worker))
    out = bench.feed(dies(batch.worker))
    reason = "lost its worker 3 times; the limit is 3: it died; see: pydra logs 1 --unit S:0"
    assert FailUnits(A, ROOT, "S", [0], digests([0]), batch.batch, "worker_died", reason) == out[0]
    assert [1] == one(RunUnits, out).indexes
    assert (1, 1) == bench.scheduler.outstanding(A, ROOT)


def test_a_worker_that_could_not_be_started_costs_its_units_nothing() -> None:
    """However often that happens, they are no poison."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2)))
    for _ in range(5):
        out = bench.feed(dies(batch.worker, code=WorkersUnavailable.code))
        assert [] == of(FailUnits, out)
        batch = of(RunUnits, out)[0]


def test_only_the_running_unit_is_charged() -> None:
    """Units that wait behind one that kills workers are not charged for it."""
    bench = UnitBench()
    first, second = bench.measured(60, unit_s=0.002)
    batch = first
    for _ in range(2):
        batch = bench.asked(dies(batch.worker))[0]
    out = bench.feed(dies(batch.worker))
    assert [first.indexes[0]] == one(FailUnits, out).indexes
    assert [first.indexes[1]] == of(RunUnits, out)[0].indexes
    assert second.worker == first.worker


def test_losses_end_with_a_result() -> None:
    """A unit that has a result is not charged for what was before, if it is asked for again."""
    bench = UnitBench()
    [batch] = bench.asked(asks([0]))
    for _ in range(2):
        [batch] = bench.asked(dies(batch.worker))
    bench.feed(done(batch))
    [batch] = bench.asked(asks([0]))
    assert [] == of(FailUnits, bench.feed(dies(batch.worker)))


def test_time_limit() -> None:
    """A unit that ran alone and for too long fails at once."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(2), time_limit=3.0))
    failed = one(FailUnits, bench.feed(dies(batch.worker, code="limit")))
    assert ([0], "limit", "it died") == (failed.indexes, failed.code, failed.reason)


def test_time_limit_among_others() -> None:
    """If others were in the batch, the unit is tried alone first."""
    bench = UnitBench()
    batch = bench.measured(60, unit_s=0.002)[0]
    out = bench.feed(dies(batch.worker, code="limit"))
    assert [] == of(FailUnits, out)
    out = bench.feed(dies(of(RunUnits, out)[0].worker, code="limit"))
    assert [batch.indexes[0]] == one(FailUnits, out).indexes


def test_lost_without_work() -> None:
    """A worker that has nothing to do is lost without harm, and so is an unknown one."""
    bench = UnitBench()
    [batch] = bench.asked(asks([0]))
    bench.feed(done(batch))
    assert [] == bench.feed(dies(batch.worker), dies(batch.worker), dies(nth(99)))


def test_not_named_for_a_lease() -> None:
    """A hired worker that its node does not name for a lease is lost; one that it names is not."""
    bench = UnitBench(slots=2)
    lent, own = bench.asked(asks(range(2)))
    assert [] == bench.beats(55.0, held=[ROOT, own.worker])
    [again] = of(RunUnits, bench.beats(60.0, held=[ROOT, own.worker]))
    assert ([0], lent.worker) != (again.indexes, again.worker)
    assert [0] == again.indexes


def test_node_is_gone() -> None:
    """Hired workers of a node that was not heard of for a lease are lost, and their units run elsewhere."""
    bench = UnitBench(slots=1)
    bench.feed(NodeReady(N2, 1))
    _, far = bench.asked(asks(range(2)))
    assert N2 == far.node
    bench.feed(NodeSilent(N2))
    out = bench.beats(60.0, held=[ROOT, nth(2)])
    assert [] == of(RunUnits, out)
    record, again = bench.feed(done(RunUnits(N1, nth(2), nth(3), A, "S", [0], [b""], b"", {}, 0.0)))
    assert isinstance(record, RecordUnits)
    assert isinstance(again, RunUnits)
    assert ([1], nth(2)) == (again.indexes, again.worker)


def test_nothing_goes_to_a_silent_node() -> None:
    """Workers of a node that is away get nothing, and what they have waits for it."""
    bench = UnitBench(slots=1)
    bench.feed(NodeReady(N2, 1))
    near, far = bench.asked(asks(range(4)))
    bench.feed(NodeSilent(N2))
    [near] = bench.asked(done(near, unit_s=1.0))
    assert (N1, [2]) == (near.node, near.indexes)
    hired = HireWorker(far.worker, A, WorkerSlot(N2, 0))
    assert [] == bench.feed(NodeReady(N2, 1, workers=(there(hired),), batches=(held(far),)))
    [far] = bench.asked(done(far, unit_s=1.0))
    assert (N2, [3]) == (far.node, far.indexes)


def test_idle_worker_of_a_silent_node() -> None:
    """A worker without a batch gets none while its node is away."""
    bench = UnitBench(slots=1)
    bench.feed(NodeReady(N2, 1))
    batches = bench.asked(asks(range(2)))
    bench.feed(*(done(each, unit_s=1.0) for each in batches), NodeSilent(N2))
    assert [N1] == [each.node for each in bench.asked(asks(range(2, 5)))]


def test_node_that_lost_a_batch() -> None:
    """A batch that never came to a worker is given out again, and nobody is charged."""
    bench = UnitBench()
    out = bench.feed(asks(range(2)))
    hired, batch = one(HireWorker, out), one(RunUnits, out)
    for _ in range(5):
        bench.feed(NodeSilent(N1))
        [again] = bench.asked(NodeReady(N1, 1, running=(ROOT,), workers=(there(hired),)))
        assert ([0], hired.worker) == (again.indexes, again.worker)
        assert batch.batch != again.batch


@pytest.mark.parametrize("told", [True, False])
def test_gone_worker_whose_results_are_to_come(told: bool) -> None:
    """Results of a worker that is gone count; what it did not do runs again once that is known."""
    bench = UnitBench()
    batch = bench.measured(60, unit_s=0.002)[0]
    bench.feed(NodeSilent(N1))
    out = bench.feed(NodeReady(N1, 1, running=(ROOT,), batches=(held(batch),)))
    assert [] == of(FailUnits, out)
    assert batch.worker not in {each.worker for each in of(RunUnits, out)}
    assert batch.indexes[:4] == one(RecordUnits, bench.feed(done(batch, 4))).indexes
    if told:
        bench.feed(dies(batch.worker))
    else:
        bench.at(2.0, HeartbeatReceived(N1, (ROOT,)))
    assert not bench.scheduler.is_current_batch(batch.batch)
    assert (55, 55) == (bench.scheduler.outstanding(A, ROOT)[0], sum(bench.scheduler.units(A)))
    assert DiscardUnits(N1, batch.batch, 10) == bench.feed(done(batch, start=4))[0]


def test_quick_units_do_not_wait_for_a_slow_one() -> None:
    """If a unit of those that were quick so far takes long, further workers run the others, and soon."""
    bench = UnitBench(slots=3)
    [first] = bench.asked(asks([0]))
    bench.feed(done(first))
    [slow] = bench.asked(asks([1]))
    [ahead] = bench.asked(asks(range(2, 12)))
    assert slow.worker == ahead.worker
    assert bench.scheduler.wake_at() == LATE_S
    [other, second] = of(RunUnits, bench.at(LATE_S, TimePassed()))
    assert other.worker == second.worker != slow.worker
    while second.indexes[-1] < 11:
        other, second = second, bench.asked(done(other))[0]
    assert other.worker == second.worker


def test_nothing_ahead_of_a_slow_unit() -> None:
    """A worker whose unit takes long is given no other one, as quick as these were so far."""
    bench = UnitBench(slots=2)
    [first] = bench.asked(asks([0]))
    bench.feed(done(first))
    [slow] = bench.asked(asks([1]))
    [quick] = of(RunUnits, bench.at(LATE_S, asks([2])))
    assert slow.worker != quick.worker


def test_quick_units_need_no_further_workers_for_those_that_wait() -> None:
    """Nobody is woken for the sake of units that are done soon."""
    bench = UnitBench(slots=2)
    [first] = bench.asked(asks([0]))
    bench.feed(done(first))
    [quick] = bench.asked(asks([1]))
    [ahead] = bench.asked(asks([2, 3]))
    bench.at(0.001, done(quick))
    bench.at(0.002, done(ahead))
    assert LATE_S < (bench.scheduler.wake_at() or 0.0)
