# SPDX-License-Identifier: MIT
"""What a node does for what runs at most once, and for what is exclusive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.node.journal_writer import QUICK_SIZE
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    FAILED,
    LOST,
    STOPPED,
    Heartbeat,
    HeldWorker,
    KillUnit,
    NodeHello,
    Recorded,
    ReleaseWorker,
    StopUnit,
    ToMaster,
    UnitFinished,
    UnitsDone,
    UnitsRecorded,
    WorkerLost,
)
from pydra.model.ids import Attempt
from pydra.model.options import Guarantee
from tests.support.asking import ask
from tests.support.hired import BATCH, ONE, WORKER, hired, loss
from tests.support.nodes import EXCLUSIVE_STOP_S, HEARTBEAT_S, NodeBench, batch, unit
from tests.support.workers import KILLED, OVERDUE

ONCE, EXCLUSIVE = int(Guarantee.ONCE), int(Guarantee.EXCLUSIVE)
FIRST = Attempt(1, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    bench.tell(Heartbeat(answers=0))
    yield bench
    bench.close()


def outcomes(messages: list[ToMaster]) -> list[str]:
    """Those of attempts that were told."""
    return [each.outcome for each in messages if isinstance(each, UnitFinished)]


def answering(bench: NodeBench, seconds: float) -> list[ToMaster]:
    """Time passes, and the master answers each heartbeat; what else the node said."""
    said = []
    for _ in range(round(seconds / HEARTBEAT_S)):
        for message in bench.advance(HEARTBEAT_S):
            if isinstance(message, Heartbeat):
                bench.tell(Heartbeat(answers=message.number))
            else:
                said.append(message)
    return said


# At most once.


def test_the_same_attempt_again(bench: NodeBench) -> None:
    """An attempt that was here is not run again, also when its outcome is recorded."""
    bench.run(guarantee=ONCE).says(frames.RESULT, b"\x05")
    bench.settle()
    assert [] == bench.tell(unit(guarantee=ONCE))
    bench.tell(Recorded((FIRST,)))
    assert [] == bench.tell(unit(guarantee=ONCE))
    assert 1 == len(bench.workers.taken)


def test_the_same_batch_again(bench: NodeBench) -> None:
    """Nor is a batch."""
    worker = hired(bench)
    bench.tell(batch(1, guarantee=ONCE))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    bench.settle()
    bench.tell(UnitsRecorded(BATCH, 1))
    assert [] == bench.tell(batch(1, guarantee=ONCE))
    assert 1 == [frame[0] for frame in worker.sent].count(frames.UNITS)


def test_orders_that_waited_for_the_store(bench: NodeBench) -> None:
    """What has a guarantee comes after later orders without, and is carried out all the same, once."""
    worker = hired(bench)
    bench.tell(
        batch(1, number=102), batch(1, number=101, guarantee=ONCE), batch(1, number=101, guarantee=ONCE)
    )
    assert 2 == [frame[0] for frame in worker.sent].count(frames.UNITS)


@pytest.mark.parametrize("quick_size", [0, QUICK_SIZE])
@pytest.mark.parametrize("guarantee", [0, ONCE, EXCLUSIVE])
def test_results_are_synced(tmp_path: Path, guarantee: int, quick_size: int) -> None:
    """What came of something with a guarantee is synced before it is sent; of others it is not."""
    bench = NodeBench(tmp_path, quick_size=quick_size)
    bench.greet()
    synced: list[bool] = []
    append = bench.journal.append
    bench.journal.append = lambda records, sync: (synced.append(sync), append(records, sync))[1]  # type: ignore
    bench.run(guarantee=guarantee).says(frames.RESULT, b"\x05")
    assert ["complete"] == outcomes(bench.settle())
    worker = hired(bench)
    bench.tell(batch(1, guarantee=guarantee))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    assert [1] == [len(each.results) for each in bench.settle() if isinstance(each, UnitsDone)]
    assert {bool(guarantee)} == set(synced)
    bench.close()


def test_units_that_are_asked_for(bench: NodeBench) -> None:
    """What a worker wants promised of its units is asked of the master, again on a new link."""
    worker = bench.run()
    worker.says(frames.ASK, "Sub", [0], [b"x"], bytes(16), 0.0, ONCE)
    assert [ONCE] == [each.guarantee for each in bench.settle()]
    bench.cable.pull()
    assert [ONCE] == [each.guarantee for each in bench.greet()[1:]]


@pytest.mark.parametrize("promised", [[-1], [4], ["never"], [1.5], [None], [1, 2]])
def test_a_guarantee_that_there_is_not(bench: NodeBench, promised: list[object]) -> None:
    """A worker that wants something else promised is ended."""
    worker = bench.run()
    worker.says(frames.ASK, "Sub", [0], [b"x"], bytes(16), 0.0, *promised)
    assert [FAILED] == outcomes(bench.settle())
    assert worker.is_killed


def test_normal_units_are_asked_as_before(bench: NodeBench) -> None:
    """Without a guarantee nothing is said of one."""
    worker = bench.run()
    ask(worker, 0)
    assert [0] == [each.guarantee for each in bench.settle()]


# Exclusive.


def test_answers_keep_it(bench: NodeBench) -> None:
    """As long as the master answers, it goes on."""
    worker = bench.run(guarantee=EXCLUSIVE)
    other = hired(bench)
    bench.tell(batch(1, guarantee=EXCLUSIVE))
    answering(bench, 300.0)
    assert (False, False) == (worker.is_killed, other.is_killed)


def test_no_answers(bench: NodeBench) -> None:
    """Without answers for the limit it is ended, though the link is up; what is not exclusive goes on."""
    exclusive, once = bench.run(1, guarantee=EXCLUSIVE), bench.run(2, guarantee=ONCE)
    for _ in range(5):
        bench.advance(HEARTBEAT_S)
    assert not exclusive.is_killed
    said = [*bench.advance(HEARTBEAT_S), *bench.advance(0.1)]
    assert (True, False) == (exclusive.is_killed, once.is_killed)
    assert [LOST] == outcomes(said)


def test_a_cut_link(bench: NodeBench) -> None:
    """It is ended so long after the last answered heartbeat, and reported on the next link."""
    worker = bench.run(guarantee=EXCLUSIVE)
    answering(bench, 10.0)
    bench.clock.advance(3.0)
    bench.cable.pull()
    bench.clock.advance(EXCLUSIVE_STOP_S - 3.1)
    assert not worker.is_gone
    bench.clock.advance(0.2)
    assert worker.is_gone
    hello, *said = bench.greet()
    assert isinstance(hello, NodeHello)
    assert ((), (FIRST,)) == (hello.running, hello.finished)
    assert [LOST] == outcomes(said)


def test_who_ends_it_is_told(bench: NodeBench) -> None:
    """Who ends workers hears how long what is exclusive may live, once for each answer; of others nothing."""
    worker, once = bench.run(1, guarantee=EXCLUSIVE), bench.run(2, guarantee=ONCE)
    other = hired(bench)
    bench.tell(batch(1, number=100, guarantee=ONCE), batch(1, number=101))
    assert [] == other.limits
    bench.tell(batch(1, number=102, guarantee=EXCLUSIVE), batch(1, number=103, guarantee=EXCLUSIVE))
    answering(bench, 2 * HEARTBEAT_S)
    limits = [EXCLUSIVE_STOP_S + beats * HEARTBEAT_S for beats in range(3)]
    assert (limits, limits) == (worker.limits, other.limits)
    assert [] == once.limits


@pytest.mark.parametrize("seconds", [0.0, 20.0])
def test_a_worker_that_was_long_in_coming(bench: NodeBench, seconds: float) -> None:
    """One that could not be had at once lives no longer for that."""
    bench.workers.hold()
    bench.tell(unit(guarantee=EXCLUSIVE))
    bench.advance(seconds)
    bench.workers.release()
    assert [EXCLUSIVE_STOP_S] == bench.workers.last.limits


def test_a_worker_that_does_not_come(bench: NodeBench) -> None:
    """What has no worker when its time has passed is lost, and one that comes later is not used."""
    bench.workers.hold()
    bench.tell(unit(guarantee=EXCLUSIVE))
    assert [LOST] == outcomes([each for _ in range(7) for each in bench.advance(HEARTBEAT_S)])
    bench.workers.release()
    assert (True, []) == (bench.workers.last.is_killed, bench.workers.last.sent)


def test_its_time_passed_while_the_node_stood_still(bench: NodeBench) -> None:
    """It was ended by others then: it is lost, in the words for a master that does not answer."""
    worker, other = bench.run(guarantee=EXCLUSIVE), hired(bench)
    bench.tell(batch(1, guarantee=EXCLUSIVE))
    worker.exits(OVERDUE)
    other.exits(OVERDUE)
    said = bench.settle()
    [lost] = [each.failure for each in said if isinstance(each, UnitFinished) and each.outcome == LOST]
    assert lost is not None
    assert "The master did not answer for 30 s, and it is exclusive." == lost.message
    assert "The master did not answer for 30 s, and a unit of it is exclusive." == loss(said).message


@pytest.mark.parametrize("guarantee", [0, ONCE])
def test_overdue_without_a_time(bench: NodeBench, guarantee: int) -> None:
    """A worker that was given no time and is told to have lived too long is lost as any other."""
    worker = bench.run(guarantee=guarantee)
    worker.exits(OVERDUE)
    assert [LOST] == outcomes(bench.settle())


def test_given_out_too_long_ago(bench: NodeBench) -> None:
    """What was under way for too long does not begin, and the master is told."""
    answering(bench, 60.0)
    assert [LOST] == outcomes(bench.tell(unit(guarantee=EXCLUSIVE, heard=3)))
    worker = hired(bench)
    bench.tell(batch(1, guarantee=EXCLUSIVE, heard=3))
    assert worker.is_killed
    assert "worker_died" == loss(bench.advance(0.0)).code
    assert [frames.SERVE] == [frame[0] for frame in worker.sent]


@pytest.mark.parametrize("way", ["killed", "protocol", "stopped"])
def test_its_end_is_told_when_it_is_gone(bench: NodeBench, way: str) -> None:
    """Nobody is told that it has ended while its worker may be alive; it is still named."""
    worker = bench.run(guarantee=EXCLUSIVE)
    worker._clock = type("Never", (), {"callLater": lambda *_: None})()  # type: ignore  # its end takes long
    if way == "killed":
        said = bench.tell(KillUnit(FIRST))
    elif way == "stopped":
        bench.tell(StopUnit(FIRST))
        worker.says(frames.STOPPED)
        said = bench.settle()
    else:
        worker.says(99)
        said = bench.settle()
    assert (True, []) == (worker.is_killed, said)
    bench.cable.pull()
    hello, *_ = bench.greet()
    assert isinstance(hello, NodeHello)
    assert (FIRST,) == hello.running
    worker.exits(KILLED)
    assert [{"killed": LOST, "protocol": FAILED, "stopped": STOPPED}[way]] == outcomes(bench.settle())


def test_a_released_worker(bench: NodeBench) -> None:
    """A worker of an exclusive unit that the master gives up is named until it is gone, and then told."""
    worker = hired(bench)
    bench.tell(batch(1, guarantee=EXCLUSIVE))
    worker._clock = type("Never", (), {"callLater": lambda *_: None})()  # type: ignore  # its end takes long
    assert [] == bench.tell(ReleaseWorker(WORKER), ReleaseWorker(WORKER), batch(1, number=101))
    assert worker.is_killed
    assert [Heartbeat((WORKER,), 1)] == bench.advance(HEARTBEAT_S)
    bench.cable.pull()
    hello, *_ = bench.greet()
    assert isinstance(hello, NodeHello)
    assert (HeldWorker(WORKER, ONE, 0),) == hello.workers
    worker.exits(KILLED)
    assert [WORKER] == [each.worker for each in bench.settle() if isinstance(each, WorkerLost)]


def test_a_result_is_told_at_once(bench: NodeBench) -> None:
    """A result needs no waiting: nobody runs it again."""
    bench.run(guarantee=EXCLUSIVE).says(frames.RESULT, b"\x05")
    assert ["complete"] == outcomes(bench.settle())
