# SPDX-License-Identifier: MIT
"""Arguments and results of an attempt that are too large for the memory of a node."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.arguments import BACKLOG_LIMIT, LOOK_S
from pydra.cluster.node.spool import WAITING_LIMIT, Spool, SpooledAnswer
from pydra.cluster.wire import frames, payload
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    LOST,
    STOPPED,
    BlobWanted,
    KillUnit,
    Recorded,
    StopUnit,
    UnitFinished,
)
from pydra.errors import LoadError
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from tests.support.cables import unthreaded
from tests.support.large_results import DIGEST, LARGE, PIECE, left, outcome, says_parts
from tests.support.nodes import RESULT_LIMIT, NodeBench, unit
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker

FIRST = Attempt(1, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def send_blob(bench: NodeBench, data: bytes, digest: str = DIGEST) -> Deferred[None]:
    """The master sends a blob."""

    async def chunks() -> Any:
        for start in range(0, len(data), 1_000_000):
            yield data[start : start + 1_000_000]

    assert bench.cable.master_bulk is not None
    sent = Deferred.fromCoroutine(bench.cable.master_bulk.send("blob", digest, chunks()))
    bench.cable.settle()
    return sent


def test_a_large_result(bench: NodeBench, tmp_path: Path) -> None:
    """It is spooled, goes by bulk while it comes, and its file goes when the master has recorded it."""
    worker = bench.run()
    says_parts(worker)
    assert len(LARGE) - 3 == len(bench.master.sinks[""].data)
    worker.says(frames.RESULT, b"end")
    assert UnitFinished(FIRST, COMPLETE, Payload(len(LARGE), sha256=DIGEST)) == outcome(bench)
    assert LARGE == bytes(bench.master.sinks[""].data)
    assert [("unnamed", "")] == bench.cable.node_bulk.streams
    assert [DIGEST] == left(tmp_path)
    bench.tell(Recorded((FIRST,)))
    assert [] == left(tmp_path)


def test_a_large_result_outlives_the_node(tmp_path: Path) -> None:
    """After a kill it is sent by the next start; what was only half there is swept."""
    bench = NodeBench(tmp_path)
    bench.greet()
    worker = bench.run()
    bench.cable.pull()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    (tmp_path / "outbox" / ".spool-half").write_bytes(b"half")
    bench.kill()
    second = NodeBench(tmp_path)
    assert [DIGEST] == left(tmp_path)
    said = second.greet() + second.settle()
    assert UnitFinished(FIRST, COMPLETE, Payload(len(LARGE), sha256=DIGEST)) in said
    assert LARGE == bytes(second.master.sinks[DIGEST].data)
    second.close()


def test_the_same_result_of_two(bench: NodeBench, tmp_path: Path) -> None:
    """One file is kept for two attempts with the same result, until both are recorded."""
    for number in (1, 2):
        worker = bench.run(number)
        says_parts(worker)
        worker.says(frames.RESULT, b"end")
    bench.settle()
    assert [DIGEST] == left(tmp_path)
    bench.tell(Recorded((FIRST,)))
    assert [DIGEST] == left(tmp_path)
    bench.tell(Recorded((Attempt(1, 2),)))
    assert [] == left(tmp_path)


def test_a_result_above_the_limit(bench: NodeBench, tmp_path: Path) -> None:
    """It ends the attempt before it comes, with the setting to look at, and nothing of it is kept."""
    worker = bench.run()
    worker.says(frames.LONG, RESULT_LIMIT + 1)
    assert worker.is_killed
    worker.exits(WorkerExit(-9, "it was killed"))
    told = outcome(bench)
    assert FAILED == told.outcome
    assert told.failure is not None
    assert "limit" == told.failure.code
    assert "RESULT_LIMIT_MB" in told.failure.message
    assert [] == left(tmp_path)


@pytest.mark.parametrize("size", [0, -1, frames.ANSWER_LIMIT, 2**62])
def test_a_size_that_nobody_announces(bench: NodeBench, size: int) -> None:
    """What is not long, or longer than anything may be, ends the attempt as a failure."""
    worker = bench.run()
    worker.says(frames.LONG, size)
    worker.exits(WorkerExit(-9, "it was killed"))
    assert FAILED == outcome(bench).outcome


@pytest.mark.parametrize(
    "said",
    [
        [[frames.PART, PIECE]] * 20,
        [[frames.LONG, len(LARGE)], *[[frames.PART, PIECE]] * 21],
        [[frames.LONG, len(LARGE)], *[[frames.PART, PIECE]] * 20, [frames.RESULT, b"en"]],
        [[frames.LONG, len(LARGE)], *[[frames.PART, PIECE]] * 20, [frames.RESULT, b"ends"]],
        [[frames.LONG, len(LARGE)], [frames.RESULT, b"end"]],
        [[frames.LONG, len(LARGE)], [frames.LONG, len(LARGE)]],
        [[frames.PART, PIECE], [frames.LONG, len(LARGE)]],
    ],
    ids=["unannounced", "one part more", "shorter", "longer", "no parts", "twice", "late"],
)
def test_a_result_that_is_not_what_was_announced(
    bench: NodeBench, tmp_path: Path, said: list[list[object]]
) -> None:
    """The attempt fails, its worker is killed, and nothing is left of the result."""
    worker = bench.run()
    for frame in said:
        worker.says(*frame)
    told = outcome(bench)
    assert (FAILED, "wire") == (told.outcome, told.failure.code if told.failure else "")
    assert worker.is_killed
    assert [] == left(tmp_path)


def test_an_ask_after_parts_of_a_result(bench: NodeBench) -> None:
    """Arguments of a unit may not be that long."""
    worker = bench.run()
    says_parts(worker)
    worker.says(frames.ASK, "Sub", [0], [b"\x80"], bytes(16), 0.0)
    told = outcome(bench)
    assert told.failure is not None
    assert "wire" == told.failure.code


class SlowDisk:
    """A thread that does its work when it is told."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []
        self.fault: OSError | None = None

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Wait, then call or fail."""
        turn: Deferred[None] = Deferred()
        self.waiting.append(turn)
        await turn
        if self.fault is not None:
            raise self.fault
        return function(*arguments)

    def turn(self) -> None:
        """Do what was asked for up to now."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


def test_a_slow_disk_slows_the_worker(tmp_path: Path) -> None:
    """While much waits to be written nothing more is read of the worker, and the end waits for the disk."""
    disk, paused, failed, whole = SlowDisk(), [], [], []
    answer = SpooledAnswer(Spool(tmp_path, disk.in_thread), paused.append, failed.append)
    answer.add(b"first")
    for _ in range(WAITING_LIMIT // len(PIECE)):
        answer.add(PIECE)
    assert [] == paused
    answer.add(b"x")
    assert [True] == paused
    answer.finish(whole.append)
    disk.turn()
    assert [True, False] == paused
    assert [] == whole
    disk.turn()
    assert [WAITING_LIMIT + 6] == [spool.size for spool in whole]
    assert [] == failed
    whole.clear()
    del answer
    disk.turn()
    assert [] == list(tmp_path.iterdir())


def test_a_full_disk_under_a_result(tmp_path: Path) -> None:
    """It is told once, the worker is read again, and nothing is left."""
    disk, paused, failed = SlowDisk(), [], []
    disk.fault = OSError(errno.ENOSPC, "No space left on device")
    answer = SpooledAnswer(Spool(tmp_path, disk.in_thread), paused.append, failed.append)
    for _ in range(WAITING_LIMIT // len(PIECE) + 2):
        answer.add(PIECE)
    disk.turn()
    assert [disk.fault] == failed
    assert [True, False] == paused
    answer.finish(lambda _: failed.append(OSError()))
    disk.turn()
    assert 1 == len(failed)


def test_a_disk_that_takes_no_result(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt is lost, in words: another node may have room."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "_write", full)
    worker = bench.run()
    says_parts(worker)
    told = outcome(bench)
    assert LOST == told.outcome
    assert told.failure is not None
    assert "No space left" in told.failure.message


def test_a_worker_that_ends_after_its_result(tmp_path: Path) -> None:
    """Its end, or a kill of it, while the result is being written changes nothing that was told."""
    bench = NodeBench(tmp_path)
    bench.greet()
    worker = bench.run()
    says_parts(worker)
    disk = SlowDisk()
    long = bench.units._runs[FIRST]._long
    assert long is not None
    long._spool._in_thread = disk.in_thread
    worker.says(frames.RESULT, b"end")
    worker.exits(WorkerExit(0, "it ended"))
    assert [] == bench.settle()
    disk.turn()
    assert COMPLETE == outcome(bench).outcome
    bench.close()


def large_unit() -> Payload:
    """Arguments that a worker gets in parts."""
    return Payload(len(LARGE), sha256=DIGEST)


def test_large_arguments(bench: NodeBench, tmp_path: Path) -> None:
    """They come by bulk into a file, and go to the worker in parts before its RUN."""
    assert [BlobWanted(DIGEST)] == bench.tell(unit(args=large_unit()))
    result_of(send_blob(bench, LARGE))
    [worker] = bench.workers.taken
    assert [frames.MORE] * 21 == [frame[0] for frame in worker.sent[:-1]]
    assert LARGE == b"".join(frame[1] for frame in worker.sent[:-1])  # type: ignore[misc]
    assert [frames.RUN, b""] == [worker.sent[-1][0], worker.sent[-1][5]]
    assert [] == left(tmp_path)


def test_a_worker_that_reads_slowly(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent more when it has read; a stop or a kill meanwhile ends it, as it has not begun."""
    monkeypatch.setattr(ScriptedWorker, "backlog", lambda worker: BACKLOG_LIMIT + 1 - worker.behind)
    bench.tell(unit(args=large_unit()), unit(2, args=large_unit()))
    result_of(send_blob(bench, LARGE))
    first, second = bench.workers.taken
    assert [] == first.sent + second.sent
    said = bench.tell(StopUnit(FIRST), KillUnit(Attempt(1, 2)))
    first.behind = second.behind = 1
    for _ in range(3):
        bench.advance(LOOK_S)
    assert [] == first.sent + second.sent
    assert first.is_killed
    told = {told.attempt: told.outcome for told in said if isinstance(told, UnitFinished)}
    assert {FIRST: STOPPED, Attempt(1, 2): LOST} == told


@pytest.mark.parametrize("data", [LARGE[:-1], LARGE + b"x", LARGE[:-1] + b"?"])
def test_large_arguments_of_another_digest(bench: NodeBench, tmp_path: Path, data: bytes) -> None:
    """They are refused, the attempt fails, its worker never begins, and nothing is left of them."""
    bench.tell(unit(args=large_unit()))
    sent = send_blob(bench, data)
    told = outcome(bench)
    assert (FAILED, "load") == (told.outcome, told.failure.code if told.failure else "")
    [worker] = bench.workers.taken
    assert {frames.MORE} == {frame[0] for frame in worker.sent}
    assert worker.is_killed
    assert sent.called
    sent.addErrback(lambda _: None)
    assert [] == left(tmp_path)


def test_a_disk_that_takes_no_arguments(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt is lost, in words: another node may have room."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "_write", full)
    bench.tell(unit(args=large_unit()))
    sent = send_blob(bench, LARGE)
    sent.addErrback(lambda _: None)
    told = [message for message in bench.settle() if isinstance(message, UnitFinished)]
    assert [LOST] == [message.outcome for message in told]
    assert "No space left" in str(told[0].failure)


def test_arguments_above_every_limit(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a payload may have is refused while it comes."""
    monkeypatch.setattr(payload, "SIZE_LIMIT", 9_000_000)
    bench.tell(unit(args=large_unit()))
    sent = send_blob(bench, LARGE)
    assert sent.called
    sent.addErrback(lambda _: None)
    assert FAILED == outcome(bench).outcome
    assert bench.workers.taken[0].is_killed


def test_a_spool_without_a_name_goes(tmp_path: Path) -> None:
    """Its file is removed when nobody has it; under a name of its own it stays."""
    spool = Spool(tmp_path, unthreaded)
    result_of(Deferred.fromCoroutine(spool.write(b"some")))
    assert b"me" == result_of(Deferred.fromCoroutine(spool.read(2, 100)))
    assert 1 == len(list(tmp_path.iterdir()))
    spool.give_name(tmp_path / "kept", sync=True)
    spool.give_name(tmp_path / "kept", sync=False)
    assert b"some" == result_of(Deferred.fromCoroutine(spool.read(0, 100)))
    other = Spool(tmp_path, unthreaded)
    result_of(Deferred.fromCoroutine(other.write(b"other")))
    del spool, other
    gc.collect()
    assert ["kept"] == [path.name for path in tmp_path.iterdir()]


def test_a_unit_with_too_large_a_payload(bench: NodeBench) -> None:
    """What must be in memory, as arguments and results of units must, is refused above 8 MiB."""
    fetched = Deferred.fromCoroutine(bench.arguments.fetch(large_unit()))
    bench.settle()
    result_of(send_blob(bench, LARGE))
    with pytest.raises(LoadError, match="refused"):
        result_of(fetched)
