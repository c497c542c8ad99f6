# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import CancelRequested, NodeReady, Outcome, Submitted
from pydra.cluster.scheduler.instructions import BeginCancelling, Dispatch, Finish, StopUnit
from pydra.cluster.scheduler.serving import BATCH_BYTES, BATCH_UNITS
from pydra.cluster.scheduler.unit_values import (
    DiscardUnits,
    HireWorker,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
)
from pydra.cluster.wire.messages import BATCH_LIMIT, encode
from pydra.cluster.wire.messages import RunUnits as RunUnitsMessage
from pydra.model.ids import Attempt, WorkerSlot
from pydra.model.instance import Payload
from pydra.model.unit import BRANCH_LIMIT, DIGEST_SIZE
from tests.support.scheduler_bench import N1, N2, OLD, A, B, Bench, finished, nth, submitted
from tests.support.unit_bench import ROOT, UnitBench, asks, digests, done, of, one


def test_first_units() -> None:
    """On one slot, the slot of the main worker is lent to a hired one, which gets one unit first."""
    bench = UnitBench()
    assert [
        HireWorker(nth(2), A, WorkerSlot(N1, 0)),
        RunUnits(N1, nth(2), nth(3), A, "S", [0], [b"x"], digests([0]), {}, 0.0),
    ] == bench.feed(asks(range(5)))
    assert (4, 1) == bench.scheduler.units(A)
    assert (5, 5) == bench.scheduler.outstanding(A, ROOT)
    assert (A, N1) == bench.scheduler.worker(nth(2))
    assert bench.scheduler.holder(nth(2)) is None
    assert bench.scheduler.is_current_batch(nth(3))


def test_results() -> None:
    """Results are recorded with the units that they are of, and the next batch goes out."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(3)))
    recorded, following = bench.feed(done(batch, unit_s=1.0))
    assert RecordUnits(N1, batch.batch, A, ROOT, "S", [0], digests([0]), 1, "told") == recorded
    assert isinstance(following, RunUnits)
    assert [1] == following.indexes
    assert (2, 2) == bench.scheduler.outstanding(A, ROOT)


def test_results_in_parts() -> None:
    """Results may come in parts; the batch is over with the last of them."""
    bench = UnitBench()
    [batch, second] = bench.measured(40, unit_s=0.002)
    assert [10, 10] == [len(batch.indexes), len(second.indexes)]
    first = one(RecordUnits, bench.feed(done(batch, 4)))
    assert (batch.indexes[:4], 4) == (first.indexes, first.recorded)
    rest = one(RecordUnits, bench.feed(done(batch, 6, start=4)))
    assert (batch.indexes[4:], digests(batch.indexes[4:]), 10) == (rest.indexes, rest.digests, rest.recorded)
    assert not bench.scheduler.is_current_batch(batch.batch)


@pytest.mark.parametrize(
    ("unit_s", "count", "expected"),
    [
        pytest.param(0.0, 10_000, 1000, id="no more than a thousand"),
        pytest.param(0.001, 10_000, 20, id="20 ms of work"),
        pytest.param(0.001, 9, 4, id="a fair part of what is queued"),
        pytest.param(3.0, 100, 1, id="at least one"),
    ],
)
def test_batch_size(unit_s: float, count: int, expected: int) -> None:
    """A batch has as many units as make 20 ms of work, within the limits."""
    assert expected == len(UnitBench().measured(count, unit_s)[0].indexes)


def test_batch_bytes() -> None:
    """A batch has no more than 256 KiB of arguments, but at least one unit."""
    bench = UnitBench()
    [first] = bench.asked(asks(range(100), args=bytes(100 * 1024)))
    batches = bench.asked(done(first, unit_s=0.0))
    assert [2, 2] == [len(batch.indexes) for batch in batches]
    assert [[1, 2], [3, 4]] == [batch.indexes for batch in batches]
    bench.feed(UnitsForgotten(A, ROOT, "S"), *(done(batch) for batch in batches))
    [large] = bench.asked(asks([0, 1, 2, 3], branch="T", args=bytes(300 * 1024)))
    assert [[1], [2]] == [batch.indexes for batch in bench.asked(done(large, unit_s=0.0))]
    assert (3, 3 * 300 * 1024) == bench.scheduler.outstanding(A, ROOT)


def test_batch_of_several_asks() -> None:
    """A batch has units of several asks, if they have the same time limit."""
    bench = UnitBench()
    limited = asks([4, 5, 6, 7], time_limit=9.0)
    [first] = bench.asked(asks([0]), asks([1, 2, 3]), limited, asks([8, 9, 10, 11]))
    batches = bench.asked(done(first, unit_s=0.0))
    assert [([1, 2, 3], 0.0), ([4, 5, 6, 7], 9.0)] == [(each.indexes, each.time_limit) for each in batches]
    [last] = bench.asked(done(batches[0], unit_s=0.0))
    assert [8, 9] == last.indexes


def test_blobs_of_a_batch() -> None:
    """Large arguments are told by their position in the batch."""
    bench = UnitBench()
    blob = Payload(100_000, sha256="ab")
    given = UnitsAsked(A, ROOT, "S", [7, 8, 9], [b"x", b"x", b""], digests([7, 8, 9]), {2: blob})
    [first] = bench.asked(given, asks(range(10, 20)))
    assert {} == first.blobs
    batch = bench.asked(done(first, unit_s=0.0))[0]
    assert ([8, 9, 10, 11, 12, 13], {1: blob}) == (batch.indexes, batch.blobs)


def test_two_batches_ahead() -> None:
    """A worker has a second batch ahead if its units take little, and else one."""
    assert 2 == len(UnitBench().measured(100, unit_s=0.03))
    assert 1 == len(UnitBench().measured(100, unit_s=0.07))


def test_branches_take_turns() -> None:
    """Of two subtasks that ask for more before they run dry, each gets its turn."""
    bench = UnitBench()
    batches = bench.asked(asks(range(3)), asks(range(3), branch="T"))
    order = []
    for number in range(6):
        [batch] = batches
        order.append(batch.branch)
        batches = bench.asked(asks([3 + number], branch=batch.branch), done(batch, unit_s=1.0))
    assert ["S", "T"] * 3 == order


def test_asked_again() -> None:
    """What is outstanding is not asked for twice; what is new is."""
    bench = UnitBench()
    [first] = bench.asked(asks(range(3)))
    assert [] == bench.feed(asks(range(3)), asks(range(2, 5)))
    assert (5, 5) == bench.scheduler.outstanding(A, ROOT)
    seen = []
    batches = [first]
    while batches:
        batch = batches.pop(0)
        seen += batch.indexes
        batches += bench.asked(done(batch))
    assert [0, 1, 2, 3, 4] == sorted(seen)
    assert [[1]] == [batch.indexes for batch in bench.asked(asks([1]))]


@pytest.mark.parametrize(
    "given",
    [
        asks([0], asker=OLD),
        asks([0], asker=nth(99)),
        asks([0], asker=None),
        asks([0], instance=B),
        asks([]),
        UnitsForgotten(A, OLD, "S"),
        UnitsForgotten(A, None, "S"),
        UnitsForgotten(A, ROOT, "never"),
    ],
)
def test_nobody_asks(given: UnitsAsked | UnitsForgotten) -> None:
    """Whoever is not a current worker of the instance asks in vain, and so does who asks for nothing."""
    bench = UnitBench()
    assert [] == bench.feed(given)
    assert (0, 0) == bench.scheduler.units(A)


def test_idle_worker_asks_in_vain() -> None:
    """A hired worker without a batch has no unit that could ask."""
    bench = UnitBench()
    [batch] = bench.asked(asks([0]))
    bench.feed(done(batch))
    assert [] == bench.feed(asks([0], asker=batch.worker, branch="S:0/T"))


def test_forgotten() -> None:
    """What is queued of a forgotten branch never runs; the result of what ran goes to nobody."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(5)))
    assert [] == bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert (0, 0) == bench.scheduler.outstanding(A, ROOT)
    assert (0, 1) == bench.scheduler.units(A)
    record = one(RecordUnits, bench.feed(done(batch)))
    assert (None, [0]) == (record.asker, record.indexes)
    assert [[0]] == [each.indexes for each in bench.asked(asks([0]))]


def test_forgotten_and_asked_for_again() -> None:
    """What still runs of a forgotten branch is not run twice, and its result goes to who asks again."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(5)))
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert [] == bench.asked(asks([0]))
    record = one(RecordUnits, bench.feed(done(batch)))
    assert (ROOT, [0]) == (record.asker, record.indexes)


def test_forgotten_and_asked_for_with_other_arguments() -> None:
    """What still runs of a forgotten branch with other arguments is not recorded."""
    bench = UnitBench()
    [batch] = bench.asked(asks([0]))
    bench.feed(UnitsForgotten(A, ROOT, "S"))
    assert [] == bench.asked(asks([0], version=1))
    out = bench.feed(done(batch))
    assert [] == of(RecordUnits, out)
    assert DiscardUnits(N1, batch.batch, 1) == one(DiscardUnits, out)
    assert ([0], digests([0], 1)) == (one(RunUnits, out).indexes, one(RunUnits, out).digests)


def test_stale_results() -> None:
    """Results of a batch that is over, foreign, or another node's are discarded."""
    bench = UnitBench()
    bench.feed(NodeReady(N2, 0))
    [batch] = bench.asked(asks(range(2)))
    assert [DiscardUnits(N1, nth(99), 3)] == bench.feed(UnitsDone(N1, batch.worker, nth(99), 1, 2, 0.0))
    elsewhere = UnitsDone(N2, batch.worker, batch.batch, 0, 1, 0.0)
    assert [DiscardUnits(N2, batch.batch, 1)] == bench.feed(elsewhere)
    assert [DiscardUnits(N1, batch.batch, 1)] == bench.feed(UnitsDone(N1, ROOT, batch.batch, 0, 1, 0.0))
    bench.feed(done(batch))
    assert [DiscardUnits(N1, batch.batch, 1)] == bench.feed(done(batch))


def test_results_told_again() -> None:
    """Results that are recorded already are acknowledged again; those beyond are recorded."""
    bench = UnitBench()
    batch = bench.measured(40, unit_s=0.002)[0]
    bench.feed(done(batch, 4))
    assert [DiscardUnits(N1, batch.batch, 4)] == bench.feed(done(batch, 3))
    again = one(RecordUnits, bench.feed(done(batch, 6)))
    assert (batch.indexes[:6], 6) == (again.indexes, again.recorded)
    assert (35 - 2, 35 - 2) == (bench.scheduler.outstanding(A, ROOT)[0], sum(bench.scheduler.units(A)))


@pytest.mark.parametrize(("start", "count"), [(1, 1), (0, 1000), (5, 5)])
def test_invented_results(start: int, count: int) -> None:
    """A worker that tells results which it cannot have is given up, and its units run elsewhere."""
    bench = UnitBench()
    batch = bench.measured(40, unit_s=0.002)[0]
    out = bench.feed(done(batch, count, start=start))
    assert ReleaseWorker(N1, batch.worker) == out[0]
    assert DiscardUnits(N1, batch.batch, start + count) == out[1]
    again = of(RunUnits, out)[0]
    assert batch.worker != again.worker
    assert [batch.indexes[0]] == again.indexes
    assert (39, 39) == (bench.scheduler.outstanding(A, ROOT)[0], sum(bench.scheduler.units(A)))


def test_results_out_of_turn() -> None:
    """The second batch of a worker has no results before the first is over."""
    bench = UnitBench()
    _, second = bench.measured(40, unit_s=0.002)
    assert ReleaseWorker(N1, second.worker) == bench.feed(done(second))[0]


def test_nonsense_of_time() -> None:
    """A duration that cannot be does no harm."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(5)))
    for busy_s in (-1.0, float("nan"), float("inf")):
        [batch] = bench.asked(UnitsDone(N1, batch.worker, batch.batch, 0, 1, busy_s))
        assert 1 == len(batch.indexes)


def test_root_ends() -> None:
    """When the root ends its hired workers are released, and what was queued is gone."""
    bench = UnitBench(slots=2)
    batches = bench.asked(asks(range(5)))
    out = bench.feed(finished(Outcome.COMPLETE))
    released = {each.worker for each in of(ReleaseWorker, out)}
    assert {batch.worker for batch in batches} == released
    assert isinstance(out[-1], Finish)
    assert (0, 0) == bench.scheduler.units(A)
    assert [DiscardUnits(N1, batches[0].batch, 1)] == bench.feed(done(batches[0]))


def test_cancel_releases_at_once() -> None:
    """A cancelled instance keeps its main worker for the grace, and no hired one; asks come in vain."""
    bench = UnitBench(slots=2)
    batches = bench.asked(asks(range(5)))
    out = bench.feed(CancelRequested(A))
    assert 2 == len(of(ReleaseWorker, out))
    assert [BeginCancelling(A, ROOT), StopUnit(N1, ROOT)] == out[2:]
    assert [DiscardUnits(N1, batches[1].batch, 1)] == bench.feed(asks([7, 8]), done(batches[1]))


def test_root_lost() -> None:
    """A lost main worker takes its units with it; the next one asks for them again."""
    bench = UnitBench()
    [batch] = bench.asked(asks(range(5)))
    out = bench.feed(finished(Outcome.LOST))
    assert [ReleaseWorker(N1, batch.worker)] == of(ReleaseWorker, out)
    again = one(Dispatch, out)
    assert [] == bench.feed(asks(range(5)))
    assert [[0]] == [each.indexes for each in bench.asked(asks(range(5), asker=again.attempt))]


def test_session() -> None:
    """Units of a session wait for its root, run on its lent slot, and survive its loss."""
    bench = Bench()
    bench.feed(Submitted(A, 5, 0.0, is_session=True))
    assert [] == bench.feed(asks(range(3), asker=None, branch="key"))
    dispatched, hired, batch = bench.feed(NodeReady(N1, 1))
    assert isinstance(dispatched, Dispatch)
    assert isinstance(hired, HireWorker)
    assert isinstance(batch, RunUnits)
    assert WorkerSlot(N1, 0) == hired.slot
    assert [] == bench.feed(asks([9], asker=dispatched.attempt))
    out = bench.feed(finished(Outcome.LOST))
    assert (3, 3) == bench.scheduler.outstanding(A, None)
    assert ReleaseWorker(N1, hired.worker) == out[0]
    assert [[0]] == [each.indexes for each in of(RunUnits, out)]
    record = one(RecordUnits, bench.feed(done(one(RunUnits, out))))
    assert (None, [0]) == (record.asker, record.indexes)
    bench.feed(CancelRequested(A))
    assert [] == bench.feed(asks([5], asker=None))


def test_session_is_cancelled_while_it_waits() -> None:
    """Units of a session that never ran are gone with it."""
    bench = Bench()
    bench.feed(Submitted(A, 5, 0.0, is_session=True), asks([1], asker=None))
    assert [Finish] == [type(each) for each in bench.feed(CancelRequested(A))]
    assert (0, 0) == bench.scheduler.units(A)


def test_instances_do_not_touch() -> None:
    """The asker of one instance gets nothing from another, whatever it names."""
    bench = UnitBench(slots=2)
    bench.feed(submitted(B))
    [mine] = bench.asked(asks([0]))
    assert [] == bench.feed(asks([0], instance=B), asks([1], asker=mine.worker, instance=B))
    assert (0, 0) == bench.scheduler.units(B)


@pytest.mark.parametrize("inline", [0, 1, 4, 10, 100, 999, 1000])
def test_the_largest_batch_travels(inline: int) -> None:
    """Units with long arguments are in no message, but their names are: with all other columns it fits."""
    size = BATCH_BYTES // max(inline, 1)
    named = {place: Payload(2**30, sha256="f" * 64) for place in range(inline, BATCH_UNITS)}
    message = RunUnitsMessage(
        Attempt(2**53, 2**53),
        Attempt(2**53, 2**53),
        "\U0001f600" * BRANCH_LIMIT,
        [2**63 - 1] * BATCH_UNITS,
        [bytes(size)] * inline + [b""] * (BATCH_UNITS - inline),
        bytes(DIGEST_SIZE * BATCH_UNITS),
        named,
        1.5,
    )
    assert len(encode(message)) < BATCH_LIMIT - 16 * 1024
