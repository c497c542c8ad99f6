# SPDX-License-Identifier: MIT
"""A hired worker of a node: units in, results out, all that it may say and each way that it may end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.hired_worker import SENT_LIMIT
from pydra.cluster.node.surroundings import PAUSES_S
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    BlobWanted,
    HeldBatch,
    NodeHello,
    ReleaseWorker,
    Unavailable,
    UnitLog,
    UnitsDone,
    UnitsRecorded,
    WorkerLost,
)
from pydra.errors import LimitExceeded, WorkersUnavailable
from pydra.model.instance import INLINE_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure, Payload
from tests.support.cables import chunked
from tests.support.hired import BATCH, ONE, WORKER, done, hired, loss
from tests.support.nodes import NodeBench, batch, hire, texts
from tests.support.pumps import result_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def test_hire(bench: NodeBench) -> None:
    """A worker with the package is told to serve."""
    bench.tell(hire())
    worker = bench.workers.last
    key = hire().key
    assert [[frames.SERVE, "1.50", 1, "demo.tasks.Count", "demo", key, []]] == worker.sent
    assert [] == bench.tell(hire())
    assert 1 == len(bench.workers.taken)


def test_units(bench: NodeBench) -> None:
    """A batch goes in as one frame; its results are told as they come, in its order."""
    worker = hired(bench)
    assert [] == bench.tell(batch(3))
    assert [frames.UNITS, "1.100", "Sub", [0, 1, 2], [b"\x00", b"\x01", b"\x02"]] == worker.sent[-1]
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    assert [done(0, b"\x05")] == bench.settle()
    worker.says(frames.DONE, "1.100", 1, [b"\x06", b""], {1: ["failed", "ValueError: x", "Traceback"]}, 0.5)
    failure = Failure("failed", "ValueError: x", "Traceback")
    assert [done(1, b"\x06", b"", failures={1: failure})] == bench.settle()


def test_units_before_there_is_a_worker(bench: NodeBench) -> None:
    """They wait for it, in their order."""
    bench.workers.hold()
    bench.tell(hire(), batch(1), batch(1, number=101))
    bench.workers.release()
    names = [frame[1] for frame in bench.workers.last.sent if frame[0] == frames.UNITS]
    assert ["1.100", "1.101"] == names


def test_a_batch_twice(bench: NodeBench) -> None:
    """It runs once, also while its results are not recorded."""
    worker = hired(bench)
    bench.tell(batch(1), batch(1))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    bench.tell(batch(1))
    assert 1 == [frame[0] for frame in worker.sent].count(frames.UNITS)


def test_units_for_nobody(bench: NodeBench) -> None:
    """A worker that is not here is told to be lost; a batch without units is none."""
    assert "worker_died" == loss(bench.tell(batch(1))).code
    assert [] == bench.tell(batch(0), ReleaseWorker(WORKER))


def test_release(bench: NodeBench) -> None:
    """A released worker ends without a word; its results are still told until they are recorded."""
    worker = hired(bench)
    bench.tell(batch(2))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    bench.settle()
    assert [] == bench.tell(ReleaseWorker(WORKER))
    assert worker.is_killed
    bench.advance(1)
    bench.cable.pull()
    held = HeldBatch(BATCH, WORKER, ONE, "Sub", [0], bytes(16))
    hello, told = bench.greet()
    assert isinstance(hello, NodeHello)
    assert ((), (held,)) == (hello.workers, hello.batches)
    assert done(0, b"\x05") == told
    bench.tell(UnitsRecorded(BATCH, 1))
    assert [] == bench.outbox.batches()


def test_release_before_there_is_a_worker(bench: NodeBench) -> None:
    """The worker that comes for it is ended."""
    bench.workers.hold()
    bench.tell(hire(), batch(1), ReleaseWorker(WORKER))
    bench.workers.release()
    assert bench.workers.last.is_killed
    assert [] == bench.workers.last.sent
    assert [] == bench.advance(1)
    assert [] == bench.outbox.batches()


@pytest.mark.parametrize("size", [INLINE_LIMIT, INLINE_LIMIT + 1, 3 * frames.PART_SIZE + 7])
def test_large_results(bench: NodeBench, size: int) -> None:
    """A result above the inline limit goes by bulk first, under its digest; all that follows waits for it."""
    worker = hired(bench)
    bench.tell(batch(2))
    data = bytes(size)
    start = 0
    while size - start > frames.PART_SIZE:
        worker.says(frames.PART, data[start : start + frames.PART_SIZE])
        start += frames.PART_SIZE
    worker.says(frames.DONE, "1.100", 0, [data[start:]], {}, 0.5)
    worker.says(frames.DONE, "1.100", 1, [b"\x05"], {}, 0.5)
    digest = hashlib.sha256(data).hexdigest()
    first = done(0, data) if size <= INLINE_LIMIT else done(0, b"", blobs={0: Payload(size, sha256=digest)})
    assert [first, done(1, b"\x05")] == bench.settle()
    assert ([digest] if size > INLINE_LIMIT else []) == list(bench.master.sinks)
    assert all(bytes(sink.data) == data for sink in bench.master.sinks.values())


def test_many_results(bench: NodeBench) -> None:
    """Results that are too much for one message are told in several, with their failures and their times."""
    worker = hired(bench)
    bench.tell(batch(20))
    results = [bytes([number]) * 40_000 for number in range(20)]
    results[9] = b""
    worker.says(frames.DONE, "1.100", 0, results, {9: ["failed", "x", "t" * 100_000]}, 2.0)
    told = bench.settle()
    assert 2 < len(told)
    found: list[bytes] = []
    for message in told:
        assert isinstance(message, UnitsDone)
        assert len(found) == message.start
        if message.start <= 9 < message.start + len(message.results):
            assert {9 - message.start: Failure("failed", "x", "t" * TRACEBACK_LIMIT)} == message.failures
        else:
            assert {} == message.failures
        found += message.results
    assert results == found
    assert 2.0 == pytest.approx(sum(message.busy_s for message in told if isinstance(message, UnitsDone)))


def test_large_arguments(bench: NodeBench) -> None:
    """They are fetched, and go in one after the other, each alone; those after them wait."""
    worker = hired(bench)
    data = bytes(range(256)) * 4096
    digest = hashlib.sha256(data).hexdigest()
    wanted = bench.tell(batch(3, blobs={1: Payload(len(data), sha256=digest)}))
    assert [BlobWanted(digest)] == wanted
    assert [[0]] == [frame[3] for frame in worker.sent if frame[0] == frames.UNITS]
    result_of(Deferred.fromCoroutine(bench.cable.master_bulk.send("blob", digest, chunked(data))))
    units = [frame for frame in worker.sent if frame[0] == frames.UNITS]
    assert [[0], [1], [2]] == [frame[3] for frame in units]
    more = b"".join(bytes(frame[1]) for frame in worker.sent if frame[0] == frames.MORE)  # type: ignore[call-overload]
    assert data == more + units[1][4][0]  # type: ignore[index]
    for frame in units:
        worker.says(frames.DONE, frame[1], 0, [b"\x05"], {}, 0.5)
    assert [0, 1, 2] == [message.start for message in bench.settle() if isinstance(message, UnitsDone)]


def test_arguments_that_do_not_come(bench: NodeBench) -> None:
    """The worker is lost, and says why."""
    hired(bench)
    bench.tell(batch(1, blobs={0: Payload(100_000, sha256="ab" * 32)}))
    failure = loss(bench.tell(Unavailable("ab" * 32, "The blob is missing.")))
    assert Failure("load", "The blob is missing.") == failure


def test_arguments_that_cannot_be_sent(bench: NodeBench) -> None:
    """A fault of ours while they are fetched ends the worker too."""
    hired(bench)
    bench.tell(batch(1, blobs={0: Payload(100_000, sha256="ab" * 32)}))
    bench.arguments._arrivals.failed("ab" * 32, ValueError("a fault"))  # type: ignore[arg-type]  # a fault
    assert "failed to send it units" in loss(bench.settle()).message


def test_no_more_than_it_can_take(bench: NodeBench) -> None:
    """Of large arguments a worker is sent the next when it has done with those before."""
    worker = hired(bench)
    data = bytes(SENT_LIMIT // 4 + 1)
    digest = hashlib.sha256(data).hexdigest()
    bench.tell(batch(8, blobs={place: Payload(len(data), sha256=digest) for place in range(8)}))
    names = []
    for _ in range(8):
        while bench.arguments._arrivals.is_awaited(digest):
            bench.arguments._arrivals.arrived(digest, data)
        names = [frame[1] for frame in worker.sent if frame[0] == frames.UNITS]
        worker.says(frames.DONE, names[_], 0, [b"\x05"], {}, 0.5)
        assert len(names) <= _ + 3
    assert 8 == len(names)


def test_texts_are_cut(bench: NodeBench) -> None:
    """A failure has a code that a task may have, and texts within limits; of its result nothing is kept."""
    worker = hired(bench)
    bench.tell(batch(1))
    worker.says(frames.DONE, "1.100", 0, [b"x"], {0: ["store", "m" * 99_999, "t" * 99_999]}, 1)
    failure = Failure("failed", "m" * MESSAGE_LIMIT, "t" * TRACEBACK_LIMIT)
    assert [done(0, b"", failures={0: failure}, busy_s=1.0)] == bench.settle()


def test_code_that_cannot_be_loaded(bench: NodeBench) -> None:
    """What it says of its load is why it is lost; its end is waited for."""
    bench.tell(hire())
    bench.workers.last.says(frames.FAILED, "load", "No module named 'x'", "Traceback")
    bench.workers.last.says(frames.FAILED, "load", "again", "")
    assert Failure("load", "No module named 'x'", "Traceback") == loss(bench.advance(0))


def test_a_loss(bench: NodeBench) -> None:
    """A worker that ends is lost after its results; the reason is told."""
    worker = hired(bench)
    bench.tell(batch(2))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    worker.exits(WorkerExit(139, "killed by SIGSEGV"))
    told, lost = bench.settle()
    assert done(0, b"\x05") == told
    assert Failure("worker_died", "The worker ended before its units: killed by SIGSEGV.") == loss([lost])
    held = HeldBatch(BATCH, WORKER, ONE, "Sub", [0], bytes(16))
    assert [held] == bench.outbox.batches()


def test_garbage(bench: NodeBench) -> None:
    """A worker that sent what is no frame is lost for that."""
    worker = hired(bench)
    bench.tell(batch(2))
    worker.exits(WorkerExit(137, "protocol: This is no frame", has_sent_garbage=True))
    words = "The worker ended before its units: protocol: This is no frame."
    assert Failure("wire", words) == loss(bench.settle())


def test_a_limit(bench: NodeBench) -> None:
    """A worker that reached a limit says which, and after how long; the log of its unit says so too."""
    worker = hired(bench)
    bench.tell(batch(2))
    bench.clock.advance(125)
    worker.exits(WorkerExit(137, "killed by SIGKILL", "memory limit of 256 MiB reached"))
    messages = bench.settle()
    words = "memory limit of 256 MiB reached after 2 minutes"
    assert Failure("limit", words) == loss([each for each in messages if isinstance(each, WorkerLost)])
    assert [words] == texts(messages)
    [log] = [message for message in messages if isinstance(message, UnitLog)]
    assert ("Sub", 0) == (log.record.subtask, log.record.unit)


def test_no_worker_to_be_had(bench: NodeBench) -> None:
    """It is tried for a while; then it is lost."""
    bench.workers.fault = WorkersUnavailable("out of memory")
    bench.tell(hire(), batch(1))
    for pause_s in PAUSES_S[:-1]:
        assert [] == [each for each in bench.advance(pause_s) if isinstance(each, WorkerLost)]
    [lost] = [each for each in bench.advance(PAUSES_S[-1]) if isinstance(each, WorkerLost)]
    assert Failure("workers_unavailable", "out of memory") == loss([lost])


def test_more_than_is_given_here(bench: NodeBench) -> None:
    """It is lost at once."""
    bench.workers.fault = LimitExceeded("16 GiB are asked for.")
    assert Failure("limit", "16 GiB are asked for.") == loss(bench.tell(hire()))


def test_time_limit(bench: NodeBench) -> None:
    """The limit is for each unit: time begins again with each result, and with the batch."""
    worker = hired(bench)
    bench.tell(batch(3, time_limit=5.0), batch(1, number=101))
    bench.advance(4)
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    bench.advance(4)
    worker.says(frames.DONE, "1.100", 1, [b"\x05"], {}, 0.5)
    assert [done(1, b"\x05")] == [m for m in bench.advance(4.9) if isinstance(m, UnitsDone)][-1:]
    messages = bench.advance(0.1)
    lost = [message for message in messages if isinstance(message, WorkerLost)]
    assert Failure("limit", "time limit of 5 s reached") == loss([*lost])
    assert worker.is_killed
    [log] = [message for message in bench.advance(1) + messages if isinstance(message, UnitLog)]
    assert ("Sub", 2) == (log.record.subtask, log.record.unit)


def test_no_time_limit(bench: NodeBench) -> None:
    """A unit without a limit may take long, after one that has one."""
    worker = hired(bench)
    bench.tell(batch(1, time_limit=5.0), batch(1, number=101))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    bench.settle()
    bench.clock.advance(1000)
    assert (WORKER,) == bench.hired.attempts()


def test_loading_does_not_count(bench: NodeBench) -> None:
    """The time of the first unit begins when the task is loaded."""
    bench.tell(hire(), batch(1, time_limit=5.0))
    bench.advance(30)
    bench.workers.last.says(frames.READY)
    assert [] == [m for m in bench.advance(4) if isinstance(m, WorkerLost)]
    assert "limit" == loss([m for m in bench.advance(1) if isinstance(m, WorkerLost)]).code


def test_lines(bench: NodeBench) -> None:
    """Lines are told with the unit that wrote them, or with none, in the order in which they came."""
    worker = hired(bench)
    bench.tell(batch(2))
    row = [1.0, "INFO", "stdout", "text"]
    worker.says(frames.LOG, [row], "Sub", 0)
    worker.says(frames.LOG, [row, row], "Sub", 0)
    worker.says(frames.LOG, [row], "Sub", 1)
    worker.says(frames.LOG, [row])
    worker.writes(b"raw\n")
    worker.says(frames.PROGRESS, 50, None)
    logs = [message.record for message in bench.advance(1) if isinstance(message, UnitLog)]
    assert [("Sub", 0), ("Sub", 1), (None, None)] == [(log.subtask, log.unit) for log in logs]
    assert [(0, 3), (3, 1), (4, 2)] == [(log.first, log.count) for log in logs]
    assert {WORKER} == {log.attempt for log in logs}
