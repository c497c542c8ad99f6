# SPDX-License-Identifier: MIT
"""What a master does for units that run at most once, and for those of which no two attempts are alive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.wire.messages import (
    LOST,
    Heartbeat,
    KillUnit,
    RunUnit,
    RunUnits,
    ToNode,
    UnitFinished,
    UnitsForgotten,
    WorkerLost,
)
from pydra.model.changes import StartUnit
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure
from pydra.model.options import Guarantee, RunOptions
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK
from tests.support.unit_links import UnitBench, asked, restarted, result_of_unit

ONE = InstanceId(1)
ONCE, EXCLUSIVE = int(Guarantee.ONCE), int(Guarantee.EXCLUSIVE)
DIED = Failure("worker_died", "It died.")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[UnitBench]:
    """A node with two slots, on which instance 1 runs."""
    bench = UnitBench(tmp_path)
    bench.begin()
    yield bench
    bench.close()


def failures(bench: UnitBench) -> list[tuple[int, str]]:
    """What the main worker was told of failed units since the last time, by index and code."""
    given, bench.given = bench.given, []
    return [(each.indexes[at], failure.code) for each in given for at, failure in each.failures.items()]


def batches(messages: list[ToNode]) -> list[RunUnits]:
    """Those that were sent."""
    return [message for message in messages if isinstance(message, RunUnits)]


def test_stored_before_it_is_sent(bench: UnitBench) -> None:
    """A unit with a guarantee is sent when its attempt is committed; others do not wait."""
    bench.store.hold()
    assert [] == batches(bench.ask(0, guarantee=EXCLUSIVE))
    bench.store.release()
    bench.cable.settle()
    [batch] = batches(bench.take_in(bench.node.take()))
    assert (EXCLUSIVE, [0]) == (batch.guarantee, batch.indexes)
    [started] = [each for each in bench.store.committed if isinstance(each, StartUnit)]
    assert (batch.batch, batch.worker, bench.record.id) == (started.attempt, started.worker, started.node)
    assert [Status.RUNNING] == [row.status for row in bench.rows(0)]
    bench.do(batch)
    assert {0: result_of_unit(0)} == bench.results()
    assert [0] == bench.complete(0)


def test_lost_while_it_is_stored(bench: UnitBench) -> None:
    """A unit whose worker is lost before the commit is never sent, and has failed."""
    bench.store.hold()
    bench.ask(0, guarantee=ONCE)
    bench.store.release()
    bench.store.hold()
    bench.cable.settle()
    [worker] = bench.workers
    bench.say(WorkerLost(worker, DIED))
    bench.store.release()
    bench.cable.settle()
    assert [] == batches(bench.take_in(bench.node.take()))
    assert [(0, "lost")] == failures(bench)
    assert [Status.FAILED] == [row.status for row in bench.rows(0)]


def test_the_number_of_the_heartbeat(bench: UnitBench) -> None:
    """Who is given something exclusive is told which heartbeat had been heard when that was decided."""
    bench.say(Heartbeat((bench.root,), 1), Heartbeat((bench.root,), 2))
    assert [0, 1, 2] == bench.node.answers
    bench.store.hold()
    bench.ask(0, guarantee=EXCLUSIVE)
    bench.say(Heartbeat((bench.root,), 3))
    bench.store.release()
    bench.cable.settle()
    [batch] = batches(bench.take_in(bench.node.take()))
    assert (2, 3) == (batch.heard, bench.link.heard)
    bench.cable.pull()
    bench.plug()
    bench.say(*bench.held())
    assert 0 == bench.link.heard


def test_a_root_and_its_guarantee(bench: UnitBench) -> None:
    """A root is sent with what is promised of it; that of a session with nothing."""
    bench.say(Heartbeat((bench.root,), 7))
    bench.submit(2, options=RunOptions(retry="never", exclusive=True))
    bench.cable.settle()
    [root] = [each for each in bench.node.take() if isinstance(each, RunUnit)]
    assert (ONCE | EXCLUSIVE, 7) == (root.guarantee, root.heard)
    bench.say(UnitFinished(root.attempt, LOST, failure=DIED))
    ended = bench.dispatcher.ended[InstanceId(2)]
    assert (Status.FAILED, "lost") == (ended.status, ended.failure and ended.failure.code)
    bench.submit(3, options=RunOptions(retry="never"), task_key=SESSION_TASK)
    bench.cable.settle()
    assert [0] == [each.guarantee for each in bench.node.take() if isinstance(each, RunUnit)]


def test_asked_again_after_it_was_lost(bench: UnitBench) -> None:
    """The same failure comes from the store, and nothing runs; other arguments are other work."""
    bench.ask(0, guarantee=ONCE)
    [worker] = bench.workers
    bench.say(WorkerLost(worker, DIED))
    assert [(0, "lost")] == failures(bench)
    before = len(bench.ran)
    bench.ask(0, guarantee=ONCE)
    assert ([(0, "lost")], before) == (failures(bench), len(bench.ran))
    bench.ask(0, kind="other", guarantee=ONCE)
    assert before + 1 == len(bench.ran)


def test_asked_again_after_it_failed(bench: UnitBench) -> None:
    """What failed by itself is not run again either."""
    bench.ask(0, guarantee=ONCE)
    [batch] = bench.batches.values()
    bench.say(bench.done(batch, results=[b""], failures={0: Failure("failed", "ValueError: x")}))
    assert [(0, "failed")] == failures(bench)
    bench.ask(0, guarantee=ONCE)
    assert ([(0, "failed")], [0]) == (failures(bench), bench.ran)


def test_by_the_options_of_the_instance(tmp_path: Path) -> None:
    """Units of an instance that runs at most once need not ask for it."""
    bench = UnitBench(tmp_path)
    bench.begin(options=RunOptions(retry="never"))
    bench.ask(0)
    [batch] = bench.batches.values()
    assert ONCE == batch.guarantee
    bench.say(WorkerLost(batch.worker, DIED))
    bench.ask(0)
    assert ([(0, "lost")] * 2, [0]) == (failures(bench), bench.ran)
    bench.close()


def test_a_root_that_runs_again(bench: UnitBench) -> None:
    """The next main worker is told what became of the units of the one before, and nothing runs twice."""
    bench.ask(0, 1, guarantee=ONCE)
    for batch in list(bench.batches.values()):
        if batch.indexes == [1]:
            bench.do(batch)
    bench.say(UnitFinished(bench.root, LOST, failure=DIED))
    bench.results()
    bench.ask(0, 1, guarantee=ONCE)
    given, bench.given = bench.given, []
    found = {index: at in each.failures for each in given for at, index in enumerate(each.indexes)}
    assert {0: True, 1: False} == found
    assert [0, 1] == sorted(bench.ran)


@pytest.mark.parametrize("end", ["complete", "failed", "lost"])
def test_a_root_that_asks_for_something_else(bench: UnitBench, end: str) -> None:
    """A unit that ran is not run with other arguments by the next main worker; what came of it is kept."""
    bench.ask(0, guarantee=ONCE)
    [batch] = bench.batches.values()
    if end == "complete":
        bench.do(batch)
    elif end == "failed":
        bench.say(bench.done(batch, results=[b""], failures={0: Failure("failed", "ValueError: x")}))
    bench.say(UnitFinished(bench.root, LOST, failure=DIED))
    bench.results()
    bench.ask(0, 1, kind="other", guarantee=ONCE)
    assert [(0, "conflict")] == failures(bench)
    bench.do_all()
    assert [0, 1] == bench.ran
    bench.results()
    bench.ask(0, guarantee=ONCE)
    assert [0, 1] == bench.ran
    if end == "complete":
        assert {0: result_of_unit(0)} == bench.results()
    else:
        assert [(0, end)] == failures(bench)


def test_who_may_ask_for_something_else(bench: UnitBench) -> None:
    """A main worker may ask for other units itself; without the guarantee the next one may, too."""
    bench.ask(0, guarantee=ONCE)
    bench.do_all()
    bench.ask(0, kind="other", guarantee=ONCE)
    bench.do_all()
    bench.say(UnitFinished(bench.root, LOST, failure=DIED))
    bench.ask(0, guarantee=EXCLUSIVE)
    bench.do_all()
    assert [0, 0, 0] == bench.ran
    assert [] == failures(bench)


def test_a_unit_that_draws_twice(bench: UnitBench) -> None:
    """A unit may ask for other units under the same indexes; what begins again is to ask for the last."""
    bench.ask(7)
    [outer] = bench.batches.values()
    for kind in ("", "other"):
        bench.say(asked(outer.worker, 0, branch="Sub:7/Sub", kind=kind, guarantee=ONCE))
        [inner] = [each for each in bench.batches.values() if each.branch == "Sub:7/Sub"]
        bench.do(inner)
    assert ([7, 0, 0], []) == (bench.ran, failures(bench))
    del bench.batches[outer.batch], bench.workers[outer.worker]
    bench.say(WorkerLost(outer.worker, DIED))
    [outer] = [each for each in bench.batches.values() if each.branch == "Sub"]
    bench.say(asked(outer.worker, 0, branch="Sub:7/Sub", guarantee=ONCE))
    assert ([7, 0, 0, 7], [(0, "conflict")]) == (bench.ran, failures(bench))
    bench.say(asked(outer.worker, 0, branch="Sub:7/Sub", kind="other", guarantee=ONCE))
    assert ([7, 0, 0, 7], {0: result_of_unit(0)}) == (bench.ran, bench.results())


@pytest.mark.parametrize("guarantee", [ONCE, EXCLUSIVE, ONCE | EXCLUSIVE])
def test_a_restart_of_the_master(bench: UnitBench, tmp_path: Path, guarantee: int) -> None:
    """What the node still runs goes on, and its result counts."""
    bench.ask(0, guarantee=guarantee)
    again = restarted(bench, tmp_path)
    again.plug()
    again.say(*again.held())
    again.ask(0, guarantee=guarantee)
    assert [] == again.ran
    again.do_all()
    assert {0: result_of_unit(0)} == again.results()
    again.close()


def test_a_restart_and_a_node_without_it(bench: UnitBench, tmp_path: Path) -> None:
    """What the node does not have has failed, also if it is asked for before or after."""
    bench.ask(0, 1, 2, guarantee=ONCE)
    again = restarted(bench, tmp_path)
    again.workers, again.batches = {}, {}
    again.plug()
    again.say(*again.held())
    again.ask(0, 1, guarantee=ONCE)
    assert [(0, "lost"), (1, "lost")] == sorted(failures(again))
    assert [] == again.ran
    assert [(0, "lost"), (1, "lost")] == [
        (row.index, row.failure.code) for row in again.rows(0, 1) if row.failure is not None
    ]
    again.close()


def test_exclusive_after_a_restart(bench: UnitBench, tmp_path: Path) -> None:
    """It is not given out again before its node said that it does not have it."""
    bench.ask(0, guarantee=EXCLUSIVE)
    again = restarted(bench, tmp_path)
    again.pass_time(10.0)
    again.workers, again.batches = {}, {}
    again.plug()
    again.say(*again.held())
    again.ask(0, guarantee=EXCLUSIVE)
    again.do_all()
    assert [0] == again.ran
    assert {0: result_of_unit(0)} == again.results()
    again.close()


def test_what_runs_when_its_instance_ends(bench: UnitBench) -> None:
    """Its row does not stay one of something that runs."""
    bench.ask(0, guarantee=ONCE)
    bench.dispatcher.refuse(ONE, DIED)
    bench.cable.settle()
    bench.say(UnitFinished(bench.root, LOST, failure=DIED))
    assert Status.FAILED is bench.dispatcher.ended[ONE].status
    assert [Status.FAILED] == [row.status for row in bench.rows(0)]


def test_a_foreign_worker_is_said_to_be_gone(bench: UnitBench) -> None:
    """A node says it of a worker that it never had: nothing changes."""
    bench.ask(0, guarantee=ONCE)
    said = bench.say(WorkerLost(Attempt(1, 77), DIED), UnitFinished(Attempt(7, 7), LOST, failure=DIED))
    assert [] == batches(said)
    assert [] == failures(bench)


@pytest.mark.parametrize("guarantee", [-1, 4, 2**63 - 1])
def test_a_guarantee_that_there_is_not(bench: UnitBench, guarantee: int) -> None:
    """The instance of who asks for it has failed."""
    said = bench.say(asked(bench.root, 0, guarantee=guarantee))
    assert [KillUnit(bench.root)] == [each for each in said if isinstance(each, KillUnit)]


@pytest.mark.parametrize("number", [0, 77, 2**63 - 1])
def test_heartbeats_with_any_number(bench: UnitBench, number: int) -> None:
    """They are answered with it, and mean what they name."""
    bench.say(Heartbeat((bench.root,), number))
    assert number == bench.node.answers[-1]


def test_forgotten(bench: UnitBench) -> None:
    """A unit that nobody waits for is recorded, and that is what an equal one gets."""
    bench.ask(0, guarantee=ONCE)
    [batch] = bench.batches.values()
    bench.say(UnitsForgotten(bench.root, "Sub"))
    bench.do(batch)
    assert {} == bench.results()
    bench.ask(0, guarantee=ONCE)
    assert ({0: result_of_unit(0)}, [0]) == (bench.results(), bench.ran)
