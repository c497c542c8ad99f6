# SPDX-License-Identifier: MIT
"""Slots that are lent to further workers, and who works on them."""

from __future__ import annotations

from pydra.cluster.scheduler.unit_values import (
    DiscardUnits,
    HireWorker,
    RecordUnits,
    RunUnits,
    UnitsForgotten,
)
from pydra.model.ids import WorkerSlot
from tests.support.scheduler_bench import N1, A, nth
from tests.support.unit_bench import UnitBench, asks, dies, digests, done, of, one


def test_nested_units_need_one_slot() -> None:
    """On one slot, a unit that asks for units lends its slot on, and goes on when it has them all."""
    bench = UnitBench()
    [outer] = bench.asked(asks(range(2)))
    out = bench.feed(asks(range(2), outer.worker, branch="S:0/T"))
    hired, inner = one(HireWorker, out), one(RunUnits, out)
    assert WorkerSlot(N1, 0) == hired.slot
    assert ("S:0/T", hired.worker) == (inner.branch, inner.worker)
    [last] = bench.asked(done(inner, unit_s=1.0))
    assert hired.worker == last.worker
    out = bench.feed(done(last))
    assert outer.worker == one(RecordUnits, out).asker
    assert [] == of(RunUnits, out)
    [second] = bench.asked(done(outer))
    assert outer.worker == second.worker


def test_lent_only_while_it_waits() -> None:
    """A worker on a lent slot gets nothing while its lender works."""
    bench = UnitBench()
    [outer] = bench.asked(asks(range(2)))
    [inner] = bench.asked(asks([0], outer.worker, branch="S:0/T"))
    bench.feed(done(inner))
    assert [] == bench.feed(asks(range(2, 5)))
    [inner] = bench.asked(asks([1], outer.worker, branch="S:0/T"))
    assert nth(4) == inner.worker


def test_nested_units_first() -> None:
    """Units that others wait for go before those of the main worker, on whatever slot is there."""
    bench = UnitBench(slots=2)
    first, second = bench.asked(asks(range(9)))
    bench.feed(asks(range(9), first.worker, branch="S:0/T"))
    assert ["S:0/T"] == [each.branch for each in bench.asked(done(second, unit_s=1.0))]


def test_waiting_worker_gets_nothing() -> None:
    """A worker that waits for units gets no batch that would wait behind these."""
    bench = UnitBench()
    first, second = bench.measured(3, unit_s=0.001)
    bench.feed(done(first))
    nested = bench.asked(asks(range(1), second.worker, branch="S:2/T"))
    given = bench.asked(asks(range(3, 20)))
    assert second.worker not in {each.worker for each in (*nested, *given)}
    assert ["S:2/T"] == [each.branch for each in nested]


def test_one_works_on_a_slot() -> None:
    """Of three workers on a slot the last gets nothing when the first works, though the second waits."""
    bench = UnitBench()
    [outer] = bench.asked(asks(range(2)))
    [middle] = bench.asked(asks([0], outer.worker, branch="S:0/T"))
    [inner] = bench.asked(asks(range(3), middle.worker, branch="S:0/T:0/U"))
    [inner] = bench.asked(done(inner, unit_s=1.0))
    bench.feed(UnitsForgotten(A, outer.worker, "S:0/T"))
    assert [] == of(RunUnits, bench.feed(done(inner, unit_s=1.0)))
    [again] = bench.asked(asks([1], outer.worker, branch="S:0/V"))
    assert (inner.worker, "S:0/T:0/U") == (again.worker, again.branch)


def test_takes_its_slot_back_first() -> None:
    """A worker whose unit has ended gets no other one while somebody works on the slot that it lent."""
    bench = UnitBench(slots=2)
    one_, two = bench.asked(asks(range(9)))
    [below_one] = bench.asked(asks(range(2), one_.worker, branch="S:0/T"))
    [below_two] = bench.asked(asks(range(2), two.worker, branch="S:1/T"))
    assert "S:0/T" == below_two.branch
    [foreign] = bench.asked(done(below_one, unit_s=1.0))
    assert (below_one.worker, "S:1/T") == (foreign.worker, foreign.branch)
    bench.feed(done(below_two, unit_s=1.0))
    assert [] == bench.asked(done(one_, unit_s=1.0))
    [next_one] = bench.asked(done(foreign, unit_s=1.0))
    assert (one_.worker, [2]) == (next_one.worker, next_one.indexes)


def test_slot_of_a_lost_lender() -> None:
    """When a lender is lost, its lendee has the slot, and the units that it asked for are gone."""
    bench = UnitBench(slots=2)
    lent, own = bench.asked(asks(range(2)))
    [inner] = bench.asked(asks(range(3), own.worker, branch="S:1/T"))
    out = bench.feed(dies(own.worker))
    assert (1, 2) == bench.scheduler.units(A)
    assert [] == out
    record, again = bench.feed(done(inner, unit_s=1.0))
    assert isinstance(record, RecordUnits)
    assert record.asker is None
    assert isinstance(again, RunUnits)
    assert (inner.worker, [1]) == (again.worker, again.indexes)
    assert lent.worker != again.worker


def test_units_of_a_lost_asker_are_claimed() -> None:
    """What a lost worker asked for and still runs is not run again when its successor asks for the same."""
    bench = UnitBench(slots=2)
    lent, own = bench.asked(asks(range(2)))
    [inner] = bench.asked(asks(range(2), own.worker, branch="S:1/T"))
    bench.feed(dies(own.worker))
    [again] = bench.asked(done(lent, unit_s=1.0))
    assert [1] == again.indexes
    [other] = bench.asked(asks(range(2), again.worker, branch="S:1/T"))
    assert [1] == other.indexes
    assert again.worker == one(RecordUnits, bench.feed(done(inner))).asker


def test_units_with_other_arguments_are_not_claimed() -> None:
    """If the successor asks with other arguments, what still runs is of no use to it, nor recorded."""
    bench = UnitBench(slots=2)
    lent, own = bench.asked(asks(range(2)))
    [inner] = bench.asked(asks(range(2), own.worker, branch="S:1/T"))
    bench.feed(dies(own.worker))
    [again] = bench.asked(done(lent, unit_s=1.0))
    [other] = bench.asked(asks(range(2), again.worker, branch="S:1/T", version=1))
    assert ([0], digests([0], 1)) == (other.indexes, other.digests)
    out = bench.feed(done(inner))
    assert [] == of(RecordUnits, out)
    assert DiscardUnits(N1, inner.batch, 1) == one(DiscardUnits, out)


def test_retried_elsewhere() -> None:
    """A unit that is run again asks for its own units anew, though its first worker did not forget them."""
    bench = UnitBench(slots=2)
    first, second = bench.asked(asks(range(3), time_limit=9.0))
    bench.feed(asks(range(2), first.worker, branch="S:0/T"))
    bench.feed(asks(range(2), second.worker, branch="S:0/T"))
    assert (0, 0) == bench.scheduler.outstanding(A, first.worker)
    assert (2, 2) == bench.scheduler.outstanding(A, second.worker)


def test_nothing_behind_who_may_wait_for_it() -> None:
    """A worker is given nothing ahead that the unit which it runs may be about to wait for."""
    bench = UnitBench(slots=3)
    [outer] = bench.asked(asks([0]))
    [middle] = bench.asked(asks([0], outer.worker, branch="S:0/T"))
    inner, _ = bench.asked(asks(range(2), middle.worker, branch="S:0/T:0/U"))
    bench.feed(done(inner))
    [quick] = bench.asked(asks([1]))
    bench.feed(done(quick))
    [again] = bench.asked(dies(outer.worker))
    given = bench.asked(asks(range(2, 12), middle.worker, branch="S:0/T:0/U"))
    assert {inner.worker} == {each.worker for each in given}
    assert ("S", [0]) == (again.branch, again.indexes)


def test_the_next_unit_asks_before_the_last_has_ended() -> None:
    """A unit that stood behind a nested one has its own units run as soon as that has its result."""
    bench = UnitBench(slots=2)
    [outer] = bench.asked(asks([0]))
    bench.feed(done(outer))
    [outer] = bench.asked(asks([1]))
    bench.feed(*map(done, bench.asked(asks(range(2), outer.worker, branch="S:1/T"))))
    _, own = bench.asked(asks(range(2, 4), outer.worker, branch="S:1/T"))
    lendees = set()
    for index in (2, 3):
        [behind] = bench.asked(asks([index]))
        assert own.worker == behind.worker
        assert [] == bench.asked(asks([0], own.worker, branch=f"S:{index}/T"))
        # At first nobody is on its slot, then the worker of the time before.
        [nested] = bench.asked(done(own))
        assert (f"S:{index}/T", [0]) == (nested.branch, nested.indexes)
        lendees.add(nested.worker)
        bench.feed(done(nested), done(behind))
        [own] = bench.asked(asks([index + 2], outer.worker, branch="S:1/T"))
    assert 1 == len(lendees)
