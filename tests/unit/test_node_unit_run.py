# SPDX-License-Identifier: MIT
"""One attempt on a node: each thing that a worker may say, and each way that it may end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.surroundings import PAUSES_S
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    LOST,
    STOPPED,
    KillUnit,
    StopUnit,
    ToMaster,
    UnitFinished,
    UnitLog,
    UnitProgress,
)
from pydra.errors import SandboxError, WorkersUnavailable
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import INLINE_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure, LogLine, Payload
from tests.support.nodes import NodeBench, lines, texts, unit
from tests.support.workers import ScriptedWorker

FIRST, ONE = Attempt(1, 1), InstanceId(1)
MEGABYTE = 1024 * 1024


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def outcome(bench: NodeBench) -> UnitFinished:
    """The one outcome that the node tells now; a task's failure is told when its worker is gone."""
    bench.clock.advance(0)
    [message] = [message for message in bench.settle() if isinstance(message, UnitFinished)]
    return message


def test_run(bench: NodeBench) -> None:
    """A worker with the package gets the unit in one frame."""
    worker = bench.run()
    assert ("demo", unit().version) == (worker.package, worker.version)
    key = unit().worker
    assert [[frames.RUN, "1.1", 1, "demo.tasks.Count", "demo", b"\x80", key, []]] == worker.sent
    assert (FIRST,) == bench.units.running()


def test_large_arguments(bench: NodeBench) -> None:
    """Arguments that are larger than a frame come in parts before the unit."""
    data = bytes(range(256)) * (3 * 4096)
    worker = bench.run(args=Payload(len(data), data[:0] + data[:60_000]))
    assert 1 == len(worker.sent)
    digest = hashlib.sha256(data).hexdigest()
    bench.tell(unit(2, args=Payload(len(data), sha256=digest)))
    bench.arguments._arrivals.arrived(digest, data)
    *more, run = bench.workers.last.sent
    assert [frames.MORE] * len(more) == [frame[0] for frame in more]
    assert data == b"".join(frame[1] for frame in more) + run[5]  # type: ignore[misc, operator]
    assert 5 == len(more)


def test_complete(bench: NodeBench) -> None:
    """A small result travels inline; the worker is killed, and its end changes nothing."""
    worker = bench.run()
    worker.says(frames.RESULT, b"\x05")
    assert UnitFinished(FIRST, COMPLETE, Payload(1, b"\x05")) == outcome(bench)
    assert worker.is_killed
    assert () == bench.units.running()
    assert [] == bench.advance(1)


def test_a_task_that_stopped_itself(bench: NodeBench) -> None:
    """Its outcome is that it stopped, though nobody asked."""
    worker = bench.run()
    worker.says(frames.STOPPED)
    assert UnitFinished(FIRST, STOPPED) == outcome(bench)


@pytest.mark.parametrize("size", [INLINE_LIMIT, INLINE_LIMIT + 1])
def test_large_result(bench: NodeBench, size: int) -> None:
    """A result above the inline limit goes by bulk first, under its digest."""
    worker = bench.run()
    data = bytes(size)
    worker.says(frames.PART, data[:1000])
    worker.says(frames.RESULT, data[1000:])
    digest = hashlib.sha256(data).hexdigest()
    result = Payload(size, data) if size <= INLINE_LIMIT else Payload(size, sha256=digest)
    assert UnitFinished(FIRST, COMPLETE, result) == outcome(bench)
    assert ([digest] if size > INLINE_LIMIT else []) == list(bench.master.sinks)
    assert all(bytes(sink.data) == data for sink in bench.master.sinks.values())


def test_parts_in_memory(bench: NodeBench) -> None:
    """Parts make a result; up to 8 MiB it is held in memory."""
    worker = bench.run()
    for _ in range(16):
        worker.says(frames.PART, bytes(MEGABYTE // 2))
    worker.says(frames.RESULT, b"")
    assert COMPLETE == outcome(bench).outcome


def failure_of(message: UnitFinished) -> Failure:
    """The failure of an outcome that has one."""
    assert FAILED == message.outcome or LOST == message.outcome
    assert message.failure is not None
    return message.failure


def test_failed(bench: NodeBench) -> None:
    """The exception of a task is told whole."""
    bench.run().says(frames.FAILED, "failed", "ValueError: x", "Traceback ...")
    assert Failure("failed", "ValueError: x", "Traceback ...") == failure_of(outcome(bench))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("failed", "failed"),
        ("load", "load"),
        ("limit", "limit"),
        ("invalid_parameters", "invalid_parameters"),
        ("wire", "failed"),
        ("store", "failed"),
        ("", "failed"),
        ("x" * 10_000, "failed"),
    ],
)
def test_failure_codes(bench: NodeBench, said: str, told: str) -> None:
    """A worker may claim only what a task can do."""
    bench.run().says(frames.FAILED, said, "text", "")
    assert told == failure_of(outcome(bench)).code


def test_a_long_failure(bench: NodeBench) -> None:
    """The text keeps its beginning and the traceback its end, and both fit into a message."""
    bench.run().says(frames.FAILED, "failed", "\U0001f600" * 50_000, "a" * 70_000 + "\U0001f600" * 60_000)
    failure = failure_of(outcome(bench))
    assert (MESSAGE_LIMIT, TRACEBACK_LIMIT) == (len(failure.message), len(failure.traceback))
    assert failure.traceback.endswith("\U0001f600")


@pytest.mark.parametrize(
    ("percent", "text", "told"),
    [
        (0, None, 0),
        (100, "done", 100),
        (-1, "", -1),
        (50, "x" * 10_000, 50),
        (True, None, 1),
        (False, None, 0),
    ],
)
def test_progress(bench: NodeBench, percent: int, text: str | None, told: int) -> None:
    """Progress is told after a moment, its text cut; what Python takes for a number arrives as one."""
    bench.run().says(frames.PROGRESS, percent, text)
    assert [] == bench.settle()
    shown = text[:MESSAGE_LIMIT] if text is not None else None
    assert [UnitProgress(FIRST, ONE, told, shown)] == bench.advance(0.1)
    assert bench.cable.is_up


@pytest.mark.parametrize(
    "frame",
    [
        [0],
        [-1],
        [2**63],
        [True],
        [frames.READY],
        [frames.RUN, "1.1"],
        [frames.STOPPED, 1],
        [frames.DESCRIBED, b""],
        [frames.VALIDATED, 1, True, b""],
        [frames.PROGRESS],
        [frames.PROGRESS, 101, None],
        [frames.PROGRESS, -2, None],
        [frames.PROGRESS, 5.0, None],
        [frames.PROGRESS, "5", None],
        [frames.PROGRESS, 5, b"x"],
        [frames.PROGRESS, 5, None, None],
        [frames.LOG],
        [frames.LOG, [], []],
        [frames.PART],
        [frames.PART, "text"],
        [frames.PART, None],
        [frames.RESULT],
        [frames.RESULT, "text"],
        [frames.RESULT, b"x", b"y"],
        [frames.FAILED],
        [frames.FAILED, "failed", "text"],
        [frames.FAILED, "failed", "text", None],
        [frames.FAILED, b"failed", "text", ""],
        [frames.FAILED, ["failed"], "text", ""],
    ],
)
def test_hostile_frames(bench: NodeBench, frame: list[object]) -> None:
    """What the protocol does not allow ends the attempt and its worker, and nothing else."""
    worker = bench.run()
    worker.says(*frame)
    assert "wire" == failure_of(outcome(bench)).code
    assert worker.is_killed
    assert bench.cable.is_up


def test_nothing_after_the_outcome(bench: NodeBench) -> None:
    """The first answer counts; what the worker says after it is not heard."""
    worker = bench.run()
    worker.says(frames.RESULT, b"\x05")
    worker.says(frames.FAILED, "failed", "x", "")
    worker.says(frames.PROGRESS, 5, None)
    worker.says(99)
    worker.exits(WorkerExit(1, "it exited"))
    assert COMPLETE == outcome(bench).outcome
    assert [] == bench.advance(1)


def test_lines(bench: NodeBench) -> None:
    """What it logs and writes arrives before its outcome."""
    worker = bench.run()
    worker.says(frames.LOG, [[5.0, "INFO", "log", "one"]])
    worker.writes(b"two\n")
    worker.says(frames.RESULT, b"\x05")
    [log, finished] = bench.settle()
    assert isinstance(log, UnitLog)
    assert LogLine(5.0, "INFO", "log", "one") == lines([log])[0]
    assert "two" == lines([log])[1].text
    assert isinstance(finished, UnitFinished)


def test_late_output(bench: NodeBench) -> None:
    """What its processes write until they are gone is kept, an unfinished line too."""
    worker = bench.run()
    worker.says(frames.RESULT, b"\x05")
    worker.writes(b"late\nunfinished")
    assert [] == texts(bench.settle())
    assert ["late", "unfinished"] == texts(bench.advance(0.01))


def test_hostile_lines(bench: NodeBench) -> None:
    """Lines of a wrong shape do not end the attempt."""
    worker = bench.run()
    for rows in (None, 5, [[1]], {"a": 1}, [["now", "INFO", "log", "x"]]):
        worker.says(frames.LOG, rows)
    assert (FIRST,) == bench.units.running()


def test_garbage_is_a_failure(bench: NodeBench) -> None:
    """A worker that sent what is no frame would do so again: it is not run once more."""
    worker = bench.run()
    worker.exits(WorkerExit(137, "protocol: This is no frame", has_sent_garbage=True))
    words = "The worker ended before the task: protocol: This is no frame."
    told = outcome(bench)
    assert (FAILED, Failure("wire", words)) == (told.outcome, failure_of(told))


def test_exit_without_answer(bench: NodeBench) -> None:
    """A worker that ends without an answer is lost, with how it ended."""
    worker = bench.run()
    worker.writes(b"Segmentation fault")
    worker.exits(WorkerExit(139, "killed by SIGSEGV"))
    messages = bench.settle()
    assert ["Segmentation fault"] == texts(messages)
    assert isinstance(messages[-1], UnitFinished)
    assert LOST == messages[-1].outcome
    assert "killed by SIGSEGV" in failure_of(messages[-1]).message


def test_stop(bench: NodeBench) -> None:
    """A stop sets the flag of the task, which then may say that it stopped."""
    worker = bench.run()
    bench.tell(StopUnit(FIRST))
    assert [frames.STOP] == worker.sent[-1]
    worker.says(frames.STOPPED)
    assert UnitFinished(FIRST, STOPPED) == outcome(bench)


def test_stop_and_still_complete(bench: NodeBench) -> None:
    """A task that ends by itself after the stop flag has its result."""
    worker = bench.run()
    bench.tell(StopUnit(FIRST))
    worker.says(frames.RESULT, b"\x05")
    assert COMPLETE == outcome(bench).outcome


def test_kill(bench: NodeBench) -> None:
    """A kill ends it at once."""
    worker = bench.run()
    [message] = bench.tell(KillUnit(FIRST))
    assert isinstance(message, UnitFinished)
    assert "worker_died" == failure_of(message).code
    assert worker.is_killed


@pytest.mark.parametrize("order", [StopUnit(FIRST), KillUnit(FIRST)])
def test_ended_before_a_worker(bench: NodeBench, order: StopUnit | KillUnit) -> None:
    """A unit that is ended while it waits for a worker never runs; a worker that comes is not used."""
    bench.workers.hold()
    bench.tell(unit())
    answer: list[ToMaster] = bench.tell(order)
    assert [STOPPED if isinstance(order, StopUnit) else LOST] == [
        message.outcome for message in answer if isinstance(message, UnitFinished)
    ]
    bench.workers.release()
    worker: ScriptedWorker = bench.workers.last
    assert [] == worker.sent
    assert worker.is_killed
    assert [] == bench.advance(1)


def test_no_sandbox(bench: NodeBench) -> None:
    """Without a sandbox the attempt is lost, so that the instance may run elsewhere."""
    bench.workers.fault = SandboxError("No worker can be started.")
    [message] = bench.tell(unit())
    assert isinstance(message, UnitFinished)
    assert (LOST, "sandbox") == (message.outcome, failure_of(message).code)


def test_a_worker_is_waited_for_a_while(bench: NodeBench) -> None:
    """What can start no worker at the moment is asked again, and costs no attempt if it then can."""
    bench.workers.fault = WorkersUnavailable("No worker can be started: no memory.")
    assert [] == bench.tell(unit())
    assert [] == bench.advance(PAUSES_S[0] / 2)
    bench.workers.fault = None
    bench.advance(PAUSES_S[0])
    assert 1 == len(bench.workers.taken)


def test_a_worker_that_only_this_task_cannot_have(bench: NodeBench) -> None:
    """Where others begin, it is lost like any other attempt, or it would come again for ever."""
    bench.workers.fault = WorkersUnavailable("No worker can be started: no network.")
    bench.workers.refusal = str  # type: ignore[method-assign]
    bench.tell(unit())
    told = [message for pause_s in PAUSES_S for message in bench.advance(pause_s)]
    [message] = [each for each in told if isinstance(each, UnitFinished)]
    assert (LOST, "sandbox") == (message.outcome, failure_of(message).code)


def test_a_worker_is_not_waited_for_for_ever(bench: NodeBench) -> None:
    """After the last pause the attempt is lost, and says why."""
    bench.workers.fault = WorkersUnavailable("No worker can be started: no memory.")
    bench.tell(unit())
    told = [message for pause_s in PAUSES_S for message in bench.advance(pause_s)]
    [message] = [each for each in told if isinstance(each, UnitFinished)]
    assert (LOST, "workers_unavailable") == (message.outcome, failure_of(message).code)
