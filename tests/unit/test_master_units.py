# SPDX-License-Identifier: MIT
"""Units through a master: hired workers, results, their order, and what is looked up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.units import tally
from pydra.cluster.master.units.tally import UnitsView
from pydra.cluster.scheduler import inputs
from pydra.cluster.wire.messages import (
    COMPLETE,
    HireWorker,
    ReleaseWorker,
    RunUnits,
    UnitFinished,
    UnitResults,
    UnitsForgotten,
    UnitsRecorded,
    WorkerLost,
)
from pydra.events import UnitsChanged
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure, Payload
from pydra.model.status import Status
from pydra.model.unit import UnitCounts
from tests.support.cables import chunked
from tests.support.masters import RESULT
from tests.support.node_links import SEAL
from tests.support.unit_links import UnitBench, asked, restarted, result_of_unit

ONE = InstanceId(1)
FAILURE = Failure("failed", "ValueError: no", "Traceback")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[UnitBench]:
    """A node with two slots, on which instance 1 runs."""
    bench = UnitBench(tmp_path)
    bench.begin()
    yield bench
    bench.close()


def come_back(bench: UnitBench) -> None:
    """The node links again, and tells what it has."""
    bench.plug()
    bench.say(*bench.held())


def test_units_run_and_are_recorded(bench: UnitBench) -> None:
    """All units run once on hired workers, are recorded, acknowledged and given to the main worker."""
    bench.ask(*range(300))
    bench.do_all()
    assert list(range(300)) == sorted(bench.ran)
    assert {index: result_of_unit(index) for index in range(300)} == bench.results()
    assert list(range(300)) == bench.complete(*range(300))
    assert 300 == sum(recorded.count for recorded in bench.recorded)
    [row] = bench.rows(7)
    assert (result_of_unit(7), bench.record.id) == (row.result and row.result.inline, row.node)


def test_a_hired_worker_gets_what_it_needs(bench: UnitBench) -> None:
    """Task, package, slot and a seal for its log lines."""
    bench.ask(0)
    [hired] = bench.workers.values()
    live = bench.dispatcher.live[ONE]
    assert (live.task_key, live.package, live.version) == (hired.task_key, hired.package, hired.version)
    assert "node1:11890:0" == hired.key
    assert SEAL.holds(hired.seal, bench.record.id, hired.worker, ONE)


def test_nothing_is_given_before_the_commit(bench: UnitBench) -> None:
    """Workers are fed at once; results are given, acknowledged and published after they are stored."""
    bench.store.hold()
    said = bench.ask(0, 1, 2)
    assert [HireWorker, RunUnits, HireWorker, RunUnits] == [type(message) for message in said]
    bench.trace.clear()
    [batch, _] = list(bench.batches.values())
    said = bench.do(batch)
    assert [RunUnits] == [type(message) for message in said]
    assert [] == bench.trace
    assert UnitsView(0, 0, 2, 0) == bench.dispatcher.units.view(ONE)
    bench.store.release()
    bench.cable.settle()
    said = bench.node.take()
    assert [UnitResults(bench.root, "Sub", [0], [result_of_unit(0)]), UnitsRecorded(batch.batch, 1)] == said
    assert [UnitsChanged(ONE, "Sub", 1, 0)] == bench.trace


def test_results_while_the_store_refuses(bench: UnitBench) -> None:
    """They are acknowledged when it takes them again."""
    bench.ask(0)
    bench.store.refuse("The disk is full.")
    [batch] = bench.batches.values()
    assert [] == bench.do(batch)
    bench.store.accept()
    bench.pass_time(0.2)
    assert {0: result_of_unit(0)} == bench.results()


def test_failed_units(bench: UnitBench) -> None:
    """A failure is recorded and given; a unit that is asked for again runs again, and counts once."""
    bench.ask(0, 1)
    first, second = bench.batches.values()
    bench.say(bench.done(first, results=[b""], failures={0: FAILURE}))
    bench.do(second)
    [failed] = [message for message in bench.given if message.failures]
    assert ([0], {0: FAILURE}) == (failed.indexes, failed.failures)
    assert UnitsView(1, 1, 0, 0) == bench.dispatcher.units.view(ONE)
    assert [Status.FAILED, Status.COMPLETE] == [row.status for row in bench.rows(0, 1)]
    bench.results()
    bench.ask(0)
    bench.do_all()
    assert {0: result_of_unit(0)} == bench.results()
    assert UnitsView(2, 0, 0, 0) == bench.dispatcher.units.view(ONE)
    assert UnitCounts(2, 0, 0) == bench.result(bench.store.unit_counts(ONE))


@pytest.mark.parametrize("limit", [1, 100])
def test_many_failed_units(bench: UnitBench, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Only so many of them are held, none after the end, and then the counts are those of the store."""
    monkeypatch.setattr(tally, "FAILED_LIMIT", limit)
    bench.ask(*range(6))
    while bench.batches:
        batch = next(iter(bench.batches.values()))
        count = len(batch.indexes)
        bench.say(bench.done(batch, results=[b""] * count, failures=dict.fromkeys(range(count), FAILURE)))
    bench.results()
    counted = bench.dispatcher.units._tallies[ONE]
    assert (0, 6) == (counted.complete, counted.failed)
    assert min(limit, 6) >= sum(map(len, counted._failed.values()))
    bench.ask(*range(6))
    bench.do_all()
    bench.say(UnitFinished(bench.root, COMPLETE, RESULT))
    assert UnitsView(6, 0, 0, 0) == bench.dispatcher.units.view(ONE)
    assert {} == bench.dispatcher.units._tallies[ONE]._failed


def test_a_worker_that_dies_again_and_again(bench: UnitBench) -> None:
    """The unit that it had fails after the third time; the others run."""
    bench.ask(*range(4))
    for _ in range(40):
        for batch in list(bench.batches.values()):
            if 2 in batch.indexes:
                bench.batches.pop(batch.batch)
                bench.workers.pop(batch.worker)
                bench.say(WorkerLost(batch.worker, Failure("worker_died", "The worker was killed.")))
            elif batch.batch in bench.batches:
                bench.do(batch)
    assert [0, 1, 3] == bench.complete(*range(4))
    [row] = bench.rows(2)
    assert row.failure is not None
    assert "worker_died" == row.failure.code
    assert 3 == bench.ran.count(2)
    assert {0, 1, 3} == bench.results().keys()


def test_the_end_of_the_instance(bench: UnitBench) -> None:
    """Hired workers go with it, nothing is recorded any more, and its counts stay for a while."""
    bench.ask(0, 1, 2)
    first, second = bench.batches.values()
    bench.do(first)
    late = bench.done(second)
    said = bench.say(UnitFinished(bench.root, COMPLETE, RESULT))
    assert {first.worker, second.worker} == {
        message.worker for message in said if isinstance(message, ReleaseWorker)
    }
    assert [UnitsRecorded(second.batch, 1)] == bench.say(late)
    assert [] == bench.ask(3)
    assert [0] == bench.complete(0, 1, 2, 3)
    assert UnitsView(1, 0, 0, 0) == bench.dispatcher.units.view(ONE)
    assert {} == bench.dispatcher.live


def test_cancel(bench: UnitBench) -> None:
    """What is asked for after it is not run."""
    bench.ask(0, 1, 2)
    bench.dispatcher.feed(inputs.CancelRequested(ONE))
    bench.cable.settle()
    bench.take_in(bench.node.take())
    ran = list(bench.ran)
    bench.ask(3)
    bench.do_all()
    assert ran == bench.ran


def test_forgotten_units(bench: UnitBench) -> None:
    """What did not begin never runs, and the rest is given to nobody."""
    bench.ask(*range(10))
    bench.say(UnitsForgotten(bench.root, "Sub"))
    bench.do_all()
    assert [0, 1] == bench.ran
    assert {} == bench.results()


def test_what_was_forgotten_is_not_computed_again(bench: UnitBench) -> None:
    """Who forgot units, and asks for them again, gets the results that were recorded."""
    bench.ask(0, 1)
    bench.do_all()
    first = bench.results()
    bench.say(UnitsForgotten(bench.root, "Sub"))
    bench.ask(0, 1)
    bench.do_all()
    assert [0, 1] == bench.ran
    assert first == bench.results()


def test_first_asks_cost_no_look_up(bench: UnitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is read for units only if something may be there."""

    async def fails(*_: Any) -> Any:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(bench.store, "units", fails)
    bench.ask(0, 1)
    bench.do_all()
    assert {0, 1} == bench.results().keys()


def test_the_next_attempt_computes_nothing_twice(bench: UnitBench) -> None:
    """A main worker that is started again gets what is recorded, unless its arguments are others."""
    bench.ask(*range(10))
    for _ in range(4):
        bench.do(next(iter(bench.batches.values())))
    done = sorted(bench.results())
    first, bench.root = bench.root, Attempt(0, 0)
    bench.workers.clear()
    bench.batches.clear()
    bench.say(UnitFinished(first, "lost"))
    assert first != bench.root
    bench.ran.clear()
    bench.say(asked(bench.root, 100, *range(10)))
    assert done == sorted(bench.results())
    bench.do_all()
    assert sorted({100, *range(10)} - set(done)) == sorted(bench.ran)
    assert {100, *range(10)} - set(done) == bench.results().keys()
    bench.ran.clear()
    bench.ask(done[0], kind="other")
    bench.do_all()
    assert [done[0]] == bench.ran


def test_results_that_were_lost_with_the_link(bench: UnitBench) -> None:
    """A node that asks again after a new hello is given what was recorded, and nothing runs twice."""
    bench.ask(0, 1, 2)
    first, second = bench.batches.values()
    bench.cable.node.send(bench.done(first))
    bench.cable.node.deliver()
    bench.cable.pull()
    assert [0] == bench.complete(0, 1, 2)
    bench.batches = {first.batch: first, second.batch: second}
    third = bench.ran.copy()
    del bench.batches[first.batch]
    come_back(bench)
    bench.ask(0, 1, 2)
    assert {0: result_of_unit(0)} == bench.results()
    bench.do_all()
    assert {1, 2} == bench.results().keys()
    assert [0, 1, 2] == sorted({*third, *bench.ran})
    assert [0, 1, 2] == bench.complete(0, 1, 2)


def test_nested_askers_look_first(bench: UnitBench) -> None:
    """A unit that asks for units of its own is given what an earlier run of it has recorded."""
    bench.ask(0, 1)
    outer, _ = bench.batches.values()
    bench.say(asked(outer.worker, 5, branch="Sub:0/Sub"))
    [inner] = [batch for batch in bench.batches.values() if batch.branch == "Sub:0/Sub"]
    bench.do(inner)
    assert [5] == bench.complete(5, branch="Sub:0/Sub")
    bench.given.clear()
    bench.say(asked(outer.worker, 5, branch="Sub:0/Sub"))
    [given] = bench.given
    assert (outer.worker, [5], [result_of_unit(5)]) == (given.asker, given.indexes, given.results)
    assert [0, 1, 5] == sorted(bench.ran)


def test_a_restart_of_the_master(bench: UnitBench, tmp_path: Path) -> None:
    """Hired workers and batches are taken over, results of meanwhile recorded, and nothing runs twice."""
    bench.ask(*range(6))
    bench.do(next(iter(bench.batches.values())))
    again = restarted(bench, tmp_path)
    assert UnitsView(1, 0, 0, 0) == again.dispatcher.units.view(ONE)
    come_back(again)
    assert [] == again.released
    held = next(iter(again.batches.values()))
    again.do(held)
    assert [0, *held.indexes] == again.complete(*range(6))
    again.ask(*range(6))
    assert {0, *held.indexes} == again.results().keys()
    again.do_all()
    assert list(range(6)) == again.complete(*range(6))
    assert list(range(6)) == sorted([*bench.ran, *again.ran])
    assert UnitsView(6, 0, 0, 0) == again.dispatcher.units.view(ONE)
    again.close()


def test_counts_after_a_restart(bench: UnitBench, tmp_path: Path) -> None:
    """What the next master is told again, since the acknowledgement was lost, counts once, at once."""
    bench.ask(0, 1)
    [batch, _] = list(bench.batches.values())
    before, told = bench.held(), bench.done(batch)
    bench.dispatcher.units.done(bench.record.id, told)
    assert [0] == bench.complete(0, 1)
    again = restarted(bench, tmp_path)
    again.plug()
    again.say(*before)
    again.say(told)
    view = again.dispatcher.units.view(ONE)
    assert view is not None
    assert (1, 0) == (view.complete, view.failed)
    again.say(UnitFinished(bench.root, COMPLETE, RESULT))
    assert UnitsView(1, 0, 0, 0) == again.dispatcher.units.view(ONE)
    again.close()


def test_a_failure_of_before_a_restart(bench: UnitBench, tmp_path: Path) -> None:
    """A unit that failed under an earlier master and is complete under this one counts as complete alone."""
    bench.ask(0)
    [batch] = bench.batches.values()
    bench.say(bench.done(batch, results=[b""], failures={0: FAILURE}))
    again = restarted(bench, tmp_path)
    again.plug()
    again.say(*bench.held())
    assert UnitsView(0, 1, 0, 0) == again.dispatcher.units.view(ONE)
    again.ask(0)
    again.do_all()
    assert UnitsView(1, 0, 0, 0) == again.dispatcher.units.view(ONE)
    again.close()


def test_large_arguments_and_results(bench: UnitBench) -> None:
    """They travel as blobs; arguments go when their unit is recorded, results stay."""

    def send(data: bytes) -> Payload:
        name = hashlib.sha256(data).hexdigest()
        Deferred.fromCoroutine(bench.cable.node_bulk.send("blob", name, chunked(data)))
        return Payload(len(data), sha256=name)

    args, result = send(b"a" * 70_000), send(b"r" * 80_000)
    bench.say(asked(bench.root, 0, args=[b""], blobs={0: args}))
    [batch] = bench.batches.values()
    assert {0: args} == batch.blobs
    assert bench.blobs.path(args.sha256).is_file()
    bench.say(bench.done(batch, results=[b""], blobs={0: Payload(1, sha256=result.sha256)}))
    [given] = bench.given
    assert {0: result} == given.blobs
    assert result == bench.rows(0)[0].result
    assert bench.blobs.path(result.sha256).is_file()
    assert not bench.blobs.path(args.sha256).is_file()
    late = send(b"l" * 80_000)
    bench.say(bench.done(batch, results=[b""], blobs={0: late}))
    assert not bench.blobs.path(late.sha256).is_file()
