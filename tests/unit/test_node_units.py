# SPDX-License-Identifier: MIT
"""What runs on a node, what it tells of it, and what it keeps until the master has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.units import PROGRESS_S
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    LOST,
    KillUnit,
    LogStored,
    PackageWanted,
    Recorded,
    StopUnit,
    ToMaster,
    Unavailable,
    UnitFinished,
    UnitLog,
    UnitProgress,
)
from pydra.model.ids import Attempt, InstanceId, PackageName, PackageVersion
from pydra.model.instance import Payload
from tests.support.nodes import NodeBench, lines, texts, unit

FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)
ONE = InstanceId(1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def test_several_at_once(bench: NodeBench) -> None:
    """Each attempt has a worker of its own."""
    bench.tell(unit(1), unit(2))
    assert (FIRST, SECOND) == bench.units.running()
    assert 2 == len(bench.workers.taken)
    bench.workers.taken[1].says(frames.RESULT, b"\x02")
    assert [UnitFinished(SECOND, COMPLETE, Payload(1, b"\x02"))] == bench.settle()
    assert (FIRST,) == bench.units.running()


def test_told_twice(bench: NodeBench) -> None:
    """The same attempt twice runs once."""
    worker = bench.run()
    assert [] == bench.tell(unit())
    worker.says(frames.RESULT, b"\x05")
    bench.settle()
    assert [] == bench.tell(unit())
    assert 1 == len(bench.workers.taken)


@pytest.mark.parametrize("order", [StopUnit(FIRST), KillUnit(FIRST)])
def test_unknown(bench: NodeBench, order: StopUnit | KillUnit) -> None:
    """To end what is not here is answered: it is lost. Nothing is kept of that."""
    [message] = bench.tell(order)
    assert isinstance(message, UnitFinished)
    assert (FIRST, LOST) == (message.attempt, message.outcome)
    assert () == bench.outbox.attempts()


@pytest.mark.parametrize("order", [StopUnit(FIRST), KillUnit(FIRST)])
def test_ended_already(bench: NodeBench, order: StopUnit | KillUnit) -> None:
    """To end what has ended, and is not acknowledged yet, is not answered: the outcome is on its way."""
    bench.run().says(frames.RESULT, b"\x05")
    bench.settle()
    assert [] == bench.tell(order)
    assert (FIRST,) == bench.outbox.attempts()


def test_recorded(bench: NodeBench) -> None:
    """An outcome is kept until it is recorded; more than there is may be forgotten."""
    bench.run().says(frames.RESULT, b"\x05")
    bench.settle()
    bench.tell(Recorded((SECOND, FIRST)))
    assert () == bench.outbox.attempts()


def test_progress_is_told_rarely(bench: NodeBench) -> None:
    """Of much progress in a short time the latest is told, for each attempt, and then nothing again."""
    one, two = bench.run(1), bench.run(2)
    for percent in range(100):
        one.says(frames.PROGRESS, percent, None)
    two.says(frames.PROGRESS, 7, "seven")
    assert [
        UnitProgress(FIRST, ONE, 99),
        UnitProgress(SECOND, InstanceId(2), 7, "seven"),
    ] == bench.advance(PROGRESS_S)
    assert [] == bench.advance(PROGRESS_S)
    one.says(frames.PROGRESS, 100, None)
    assert [UnitProgress(FIRST, ONE, 100)] == bench.advance(PROGRESS_S)


def test_progress_is_told_to_each_master(bench: NodeBench) -> None:
    """Of what runs, the latest is told again after each hello, also if nobody was there to hear it."""
    bench.run(1).says(frames.PROGRESS, 30, "a third")
    silent, over = bench.run(2), bench.run(3)
    over.says(frames.PROGRESS, 100, None)
    over.says(frames.RESULT, b"\x05")
    bench.advance(PROGRESS_S)
    bench.cable.pull()

    def told(epoch: int) -> list[ToMaster]:
        return [message for message in bench.greet(epoch) if isinstance(message, UnitProgress)]

    assert [UnitProgress(FIRST, ONE, 30, "a third")] == told(2)
    bench.cable.pull()
    silent.says(frames.PROGRESS, 5, None)
    bench.advance(PROGRESS_S)
    assert [UnitProgress(FIRST, ONE, 30, "a third"), UnitProgress(SECOND, InstanceId(2), 5)] == told(3)
    assert [] == bench.advance(PROGRESS_S)


def test_last_progress(bench: NodeBench) -> None:
    """The last progress is told before the outcome, and not after it."""
    worker = bench.run()
    worker.says(frames.PROGRESS, 99, None)
    worker.says(frames.RESULT, b"\x05")
    assert ["UnitProgress", "UnitFinished"] == [type(message).__name__ for message in bench.settle()]
    assert [] == bench.advance(PROGRESS_S)


def test_kill_all(bench: NodeBench) -> None:
    """All that runs ends, with the reason."""
    bench.tell(unit(1), unit(2))
    bench.units.kill_all("The node stops.")
    messages: list[Any] = bench.settle()
    assert [LOST, LOST] == [message.outcome for message in messages]
    assert {"The node stops."} == {message.failure.message for message in messages}


def test_a_package_that_does_not_come(bench: NodeBench) -> None:
    """A unit whose package cannot be sent has failed, and says why."""
    version = "cd" * 32
    assert [PackageWanted] == [type(message) for message in bench.tell(unit(version=version))]
    [message] = bench.tell(Unavailable(f"demo/{version}", "It is gone."))
    assert isinstance(message, UnitFinished)
    assert message.failure is not None
    assert (FAILED, "load", "It is gone.") == (
        message.outcome,
        message.failure.code,
        message.failure.message,
    )


def test_a_fault_of_ours(bench: NodeBench) -> None:
    """Whatever keeps a unit from being started ends it: nobody waits for it."""

    def broken(package: PackageName, version: PackageVersion) -> bool:
        raise OSError("Input/output error")

    bench.packages._repository.has = broken  # type: ignore[method-assign]
    [message] = bench.tell(unit())
    assert isinstance(message, UnitFinished)
    assert LOST == message.outcome
    assert () == bench.units.running()


def test_a_unit_that_waits_over_a_broken_link(bench: NodeBench, tmp_path: Path) -> None:
    """A package that is outstanding is asked for again on the next link."""
    version = "cd" * 32
    bench.tell(unit(version=version))
    bench.cable.pull()
    assert ["NodeHello", "PackageWanted"] == [type(message).__name__ for message in bench.greet()]
    assert (FIRST,) == bench.units.running()


def test_work_without_a_link(bench: NodeBench) -> None:
    """What runs goes on without a link; its lines and its outcome come over the next one, lines first."""
    worker = bench.run()
    bench.cable.pull()
    worker.writes(b"one\n")
    bench.clock.advance(1)
    worker.says(frames.PROGRESS, 50, None)
    worker.says(frames.RESULT, b"\x05")
    worker.writes(b"late\n")
    bench.clock.advance(1)
    assert worker.is_gone
    messages = bench.greet()
    assert ["one", "late"] == texts(messages)
    names = [type(message).__name__ for message in messages]
    assert ["NodeHello", "UnitLog", "UnitLog", "UnitFinished"] == names
    assert [] == bench.advance(1)


def test_lines_of_an_end_without_a_link(bench: NodeBench) -> None:
    """What a worker wrote before it died is not lost with the link."""
    worker = bench.run()
    bench.cable.pull()
    worker.writes(b"why it died")
    worker.exits(WorkerExit(139, "killed by SIGSEGV"))
    assert ["why it died"] == texts(bench.greet())
    bench.tell(LogStored(FIRST, 1))
    assert () == bench.logs.held()


def test_a_further_attempt_says_so(bench: NodeBench) -> None:
    """Its first line tells which attempt of the instance it is."""
    bench.run(losses=1)
    messages = bench.advance(1)
    assert ["Attempt 2 begins."] == texts(messages)
    assert "INFO" == lines(messages)[0].level


def test_the_outcome_tells_how_many_lines_there_are(bench: NodeBench) -> None:
    """So the master knows when it has all of them; they come before it."""
    worker = bench.run()
    worker.writes(b"one\ntwo\n")
    worker.says(frames.RESULT, b"\x05")
    [log, finished] = bench.settle()
    assert isinstance(log, UnitLog)
    assert isinstance(finished, UnitFinished)
    assert (0, 2, 2) == (log.record.first, log.record.end, finished.lines)


def test_a_silent_task_leaves_no_trace(bench: NodeBench, tmp_path: Path) -> None:
    """No file, no message, nothing that is held."""
    bench.run().says(frames.RESULT, b"\x05")
    assert [UnitFinished(FIRST, COMPLETE, Payload(1, b"\x05"))] == bench.settle()
    assert () == bench.logs.held()
    assert [] == list((tmp_path / "task_logs").iterdir())


def test_a_start_that_failed_ends_its_log(bench: NodeBench) -> None:
    """A further attempt that never gets a worker leaves nothing held once its line is stored."""
    bench.tell(unit(version="cd" * 32, losses=1))
    bench.tell(Unavailable(f"demo/{'cd' * 32}", "It is gone."), LogStored(FIRST, 1))
    assert () == bench.logs.held()
