# SPDX-License-Identifier: MIT
from __future__ import annotations

from itertools import permutations

import pytest

from pydra.cluster.scheduler.inputs import CancelRequested, Input, NodeReady, Restored, TimePassed
from pydra.cluster.scheduler.unit_values import (
    BatchHeld,
    DiscardUnits,
    HireWorker,
    NodesExpected,
    RecordUnits,
    ReleaseWorker,
    RunUnits,
    UnitsDone,
    WorkerHeld,
)
from pydra.model.ids import Attempt, NodeId
from pydra.model.status import Status
from tests.support.scheduler_bench import N1, N2, A, B, Bench, nth
from tests.support.unit_bench import asks, dies, digests, of

ROOT, WORKER, BATCH = Attempt(1, 7), Attempt(1, 8), Attempt(1, 9)
"""Of the master before; the bench is of epoch 2."""


def ready(
    *batches: BatchHeld,
    workers: tuple[Attempt, ...] = (WORKER,),
    instance: int = A,
    index: int = 0,
    node: NodeId = N1,
    slots: int = 1,
) -> NodeReady:
    """A node comes back with the root, these hired workers and their batches."""
    running = (ROOT,) if node == N1 else ()
    there = tuple(WorkerHeld(each, A.__class__(instance), index) for each in workers)
    return NodeReady(node, slots, running=running, workers=there, batches=batches)


def batch(
    indexes: range = range(4),
    recorded: int = 0,
    attempt: Attempt = BATCH,
    worker: Attempt = WORKER,
    branch: str = "S",
    version: int = 0,
) -> BatchHeld:
    """A batch that a node has."""
    return BatchHeld(attempt, worker, A, branch, list(indexes), digests(indexes, version), recorded)


def results(count: int, start: int = 0, worker: Attempt = WORKER, attempt: Attempt = BATCH) -> UnitsDone:
    """Results of that batch."""
    return UnitsDone(N1, worker, attempt, start, count, float(count), "told")


def restarted(*given: Input, is_session: bool = False, status: Status = Status.RUNNING) -> Bench:
    """A scheduler that begins anew with an instance that runs on the first slot of node 1."""
    bench = Bench()
    bench.feed(Restored(A, 5, 0.0, status, ROOT, N1, 0, is_session=is_session), *given)
    return bench


def test_worker_and_batch_are_ours() -> None:
    """Workers and batches of before go on; results count, and go to the asker once it has asked again."""
    bench = restarted()
    assert [] == bench.feed(ready(batch(recorded=1)))
    assert (A, N1) == bench.scheduler.worker(WORKER)
    assert (0, 3) == bench.scheduler.units(A)
    [record] = bench.feed(results(1, start=1))
    assert RecordUnits(N1, BATCH, A, None, "S", [1], digests([1]), 2, "told") == record
    assert [] == bench.feed(asks(range(2, 6), ROOT))
    assert (2, 2) == bench.scheduler.units(A)
    record, following = bench.feed(results(2, start=2))
    assert isinstance(record, RecordUnits)
    assert ROOT == record.asker
    assert isinstance(following, RunUnits)
    assert (WORKER, [4]) == (following.worker, following.indexes)


def test_asked_before_the_node_is_back() -> None:
    """What the asker asked for again before the worker's node came back is not given out once more."""
    bench = restarted(NodesExpected((N1, N2)))
    assert [] == bench.feed(ready(workers=()), asks(range(6), ROOT))
    elsewhere = BatchHeld(BATCH, WORKER, A, "S", [0, 1, 2], digests(range(3)), 0)
    out = bench.feed(ready(elsewhere, node=N2, slots=1))
    assert [[3]] == [each.indexes for each in of(RunUnits, out)]
    assert (2, 4) == bench.scheduler.units(A)
    out = bench.feed(dies(WORKER, node=N2))
    assert [] == of(ReleaseWorker, out)
    assert (5, 5) == (sum(bench.scheduler.units(A)) - 1, bench.scheduler.outstanding(A, ROOT)[0] - 1)


@pytest.mark.parametrize("order", list(permutations([0, 1, 2])))
def test_nested_askers_ask_again_in_any_order(order: tuple[int, ...]) -> None:
    """Units that are nested three deep go on after a restart, whoever of their askers asks again first."""
    second, third = Attempt(1, 10), Attempt(1, 11)
    bench = restarted()
    nested = batch(range(1), attempt=third, worker=second, branch="S:0/T")
    bench.feed(ready(batch(range(1)), nested, workers=(WORKER, second)))
    askers = [
        asks(range(1), ROOT),
        asks(range(1), WORKER, branch="S:0/T"),
        asks(range(2), second, branch="S:0/T:0/U"),
    ]
    given = [each for which in order for each in bench.feed(askers[which])]
    assert ["S:0/T:0/U"] == [each.branch for each in of(RunUnits, given)]


def test_arguments_come_again() -> None:
    """Units of an adopted batch whose worker is lost run again once they were asked for; others are gone."""
    bench = restarted()
    bench.feed(ready(batch()), asks(range(2), ROOT))
    assert (4, 4) == bench.scheduler.outstanding(A, ROOT)[:1] * 2
    [again] = of(RunUnits, bench.feed(dies(WORKER)))
    assert ([0], [b"x"]) == (again.indexes, again.args)
    assert (2, 2) == bench.scheduler.outstanding(A, ROOT)


def test_nobody_asked_again() -> None:
    """Units of an adopted batch that nobody asked for are gone with their worker."""
    bench = restarted()
    bench.feed(ready(batch()))
    assert [] == bench.feed(dies(WORKER))
    assert (0, 0) == bench.scheduler.units(A)


def test_waits_for_expected_nodes() -> None:
    """Units of a restored instance wait until all nodes are back, or for 10 s."""
    bench = restarted(NodesExpected((N1, N2)))
    bench.feed(ready(workers=()))
    assert [] == bench.feed(asks(range(2), ROOT))
    assert 10.0 == bench.scheduler.wake_at()
    assert [HireWorker, RunUnits] == [type(each) for each in bench.at(10.0, TimePassed())]
    bench = restarted(NodesExpected((N1, N2)))
    bench.feed(ready(workers=()), asks(range(2), ROOT))
    assert 2 == len(of(RunUnits, bench.feed(NodeReady(N2, 1))))


def test_nobody_is_waited_for() -> None:
    """If all nodes were ready before, nothing waits."""
    bench = restarted()
    bench.feed(ready(workers=()), NodesExpected((N1,)))
    assert 1 == len(of(RunUnits, bench.feed(asks(range(2), ROOT))))


def test_chain_on_one_slot() -> None:
    """Workers of one slot are a chain again, in the order in which they were hired."""
    inner = Attempt(1, 10)
    bench = restarted()
    nested = batch(range(1), attempt=Attempt(1, 11), worker=inner, branch="S:0/T")
    assert [] == bench.feed(ready(batch(range(1)), nested, workers=(inner, WORKER)))
    assert [A] == list(bench.scheduler.slots(N1))
    assert [] == bench.feed(asks(range(2), ROOT), asks(range(2), WORKER, branch="S:0/T"))
    [again] = of(RunUnits, bench.feed(results(1, worker=inner, attempt=Attempt(1, 11))))
    assert ("S:0/T", [1], inner) == (again.branch, again.indexes, again.worker)


def test_worker_on_a_slot_of_its_own() -> None:
    """A worker keeps the slot that it had, and another one if that is somebody else's by now."""
    bench = restarted(Restored(B, 5, 0.0, Status.RUNNING, Attempt(1, 3), N1, 1))
    given = ready(batch(), index=1, slots=3)
    bench.feed(NodeReady(N1, 3, running=(ROOT, Attempt(1, 3)), workers=given.workers, batches=given.batches))
    assert [A, B, A] == list(bench.scheduler.slots(N1))


@pytest.mark.parametrize(
    ("workers", "instance"),
    [
        pytest.param((Attempt(1, 6),), A, id="older than the root"),
        pytest.param((nth(50),), A, id="of this epoch"),
        pytest.param((Attempt(3, 1),), A, id="of the future"),
        pytest.param((WORKER,), B, id="of an unknown instance"),
    ],
)
def test_not_ours(workers: tuple[Attempt, ...], instance: int) -> None:
    """Workers that cannot be ours are released."""
    bench = restarted()
    out = bench.feed(ready(workers=workers, instance=instance))
    assert [ReleaseWorker(N1, workers[0])] == out
    assert bench.scheduler.worker(workers[0]) is None


def test_ended_meanwhile() -> None:
    """Workers and batches of an instance that is being cancelled are given up."""
    bench = restarted(CancelRequested(A))
    out = bench.feed(ready(batch()))
    assert [DiscardUnits(N1, BATCH, 4)] == of(DiscardUnits, out)
    assert [ReleaseWorker(N1, WORKER)] == of(ReleaseWorker, out)


def test_units_that_run_elsewhere_by_now() -> None:
    """A batch whose units are with another worker is given up, and so is the worker that runs it."""
    bench = restarted()
    bench.feed(NodeReady(N1, 1, running=(ROOT,)))
    bench.feed(asks(range(2), ROOT))
    out = bench.feed(ready(batch(range(1)), node=N2))
    assert [DiscardUnits(N2, BATCH, 1), ReleaseWorker(N2, WORKER)] == out[:2]
    assert (2, 2) == (sum(bench.scheduler.units(A)), bench.scheduler.outstanding(A, ROOT)[0])


def test_units_with_other_arguments() -> None:
    """A batch whose units were asked for with other arguments is given up."""
    bench = restarted(NodesExpected((N1, N2)))
    bench.feed(ready(workers=()), asks(range(2), ROOT, version=1))
    out = bench.feed(ready(batch(range(1)), node=N2))
    assert [DiscardUnits(N2, BATCH, 1)] == of(DiscardUnits, out)
    assert digests([0], 1) in [each.digests for each in of(RunUnits, out)]


def test_acknowledged_once_more() -> None:
    """A batch whose results we have all had is acknowledged again, and its worker kept."""
    bench = restarted()
    bench.feed(ready(batch()), asks(range(4), ROOT), results(4))
    out = bench.feed(ready(batch()))
    assert [DiscardUnits(N1, BATCH, 4)] == out
    assert (A, N1) == bench.scheduler.worker(WORKER)


def test_released_once_and_for_all() -> None:
    """A worker that was adopted and released is not adopted again."""
    bench = restarted()
    bench.feed(ready())
    assert [ReleaseWorker(N1, WORKER)] == bench.at(2.0, TimePassed())
    assert [ReleaseWorker(N1, WORKER)] == bench.feed(ready())


def test_results_of_a_worker_that_is_gone() -> None:
    """Results that a worker left behind while there was no master count."""
    bench = restarted()
    assert [] == bench.feed(ready(batch(), workers=()), asks(range(4), ROOT))
    [record] = bench.feed(results(3))
    assert isinstance(record, RecordUnits)
    assert ROOT == record.asker
    assert [[3]] == [each.indexes for each in of(RunUnits, bench.feed(dies(WORKER)))]


def test_nothing_is_left_of_a_worker_that_is_gone() -> None:
    """When all results that it left are here, nothing of it remains."""
    bench = restarted()
    bench.feed(ready(batch(), workers=()), results(4))
    assert bench.scheduler.worker(WORKER) is None


def test_session_of_before() -> None:
    """Units of a session that run somewhere are not given out again; the rest of them is."""
    bench = restarted(asks(range(6), None), is_session=True)
    [following] = bench.feed(ready(batch()), results(4))[1:]
    assert isinstance(following, RunUnits)
    assert ([4], WORKER) == (following.indexes, following.worker)
    assert (2, 2) == bench.scheduler.outstanding(A, None)[:1] * 2


def test_more_recorded_than_there_is() -> None:
    """A batch of which nothing is left is acknowledged."""
    bench = restarted()
    assert [DiscardUnits(N1, BATCH, 4)] == bench.feed(ready(batch(recorded=4)))


def test_batch_of_another() -> None:
    """A batch that a node names for a worker of another instance or node is given up."""
    other = Restored(B, 5, 0.0, Status.RUNNING, Attempt(1, 3), N2, 0)
    bench = restarted(other)
    bench.feed(NodeReady(N2, 1, running=(Attempt(1, 3),), workers=(WorkerHeld(WORKER, B, 0),)))
    assert [DiscardUnits(N1, BATCH, 4)] == bench.feed(ready(batch(), workers=()))


def test_batch_that_another_node_names() -> None:
    """A batch stays with the worker that has it, whoever names it besides."""
    bench = restarted()
    bench.feed(ready(batch()))
    assert [DiscardUnits(N2, BATCH, 4)] == bench.feed(NodeReady(N2, 0, batches=(batch(),)))
    assert bench.scheduler.is_current_batch(BATCH)


@pytest.mark.parametrize("given", [(0, 3, 6), (6, 3, 0), (3, 6, 0), (2, 5, 8)])
def test_batches_of_units_that_are_queued_again(given: tuple[int, ...]) -> None:
    """Wherever in the line its units stand, a batch takes just these; the others run in their order."""
    bench = restarted(asks(range(5), None), asks(range(5, 12), None, args=b"longer"), is_session=True)
    held = [batch(range(at, at + 3), attempt=Attempt(1, 20 + number)) for number, at in enumerate(given)]
    bench.feed(ready(*held))
    assert (3, 9) == bench.scheduler.units(A)
    sent = []
    for each in held:
        told = bench.feed(results(3, attempt=each.batch))
        sent += [index for run in told if isinstance(run, RunUnits) for index in run.indexes]
    [crew] = bench.scheduler.state.crews.values()
    left = [index for chunk in crew.branches["S"].chunks for index in chunk.indexes[chunk.at :]]
    taken = {index for each in held for index in each.indexes}
    assert [index for index in range(12) if index not in taken] == sent + left
