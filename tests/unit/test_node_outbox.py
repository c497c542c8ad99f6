# SPDX-License-Identifier: MIT
"""What a node keeps for the master: through kills, full disks and links that break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.journal import Journal
from pydra.cluster.node.journal_writer import LAZY_LIMIT, RETRY_S, SPARE, JournalWriter
from pydra.cluster.node.outbox import Outbox
from pydra.cluster.wire.messages import HeldWorker, UnitsDone, WorkerLost
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure, Payload
from tests.support.cables import unthreaded
from tests.support.outboxes import DIGEST, FULL, LARGE, WORKER, Daemons, OutboxBench
from tests.support.pumps import result_of

FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemons]:
    """A node, which does not run."""
    daemons = Daemons(tmp_path)
    yield daemons
    daemons.kill()


@pytest.fixture
def bench(node: Daemons) -> OutboxBench:
    """An outbox with a link."""
    bench = node.start()
    bench.link()
    return bench


def test_outcomes(bench: OutboxBench, tmp_path: Path) -> None:
    """The first outcome of an attempt stays, in the order of the ends, until it is recorded."""
    two, one = bench.finish(2), bench.finish(1)
    bench.finish(2, b"\x06")
    assert (SECOND, FIRST) == bench.outbox.attempts()
    assert SECOND in bench.outbox
    assert [two, one] == bench.sent == bench.link()
    bench.outbox.forget(SECOND)
    bench.outbox.forget(SECOND)
    assert [one] == bench.link()
    assert Attempt(9, 9) not in bench.outbox


def test_in_the_journal_before_it_is_sent(bench: OutboxBench) -> None:
    """Nothing is sent that is not written; what comes meanwhile is written together."""
    bench.hold()
    messages = [bench.finish(number) for number in range(5)]
    assert [] == bench.sent
    bench.unlink()
    assert [] == bench.link()
    calls = len(bench.calls)
    bench.release()
    assert messages == bench.sent
    assert calls + 2 == len(bench.calls)


def test_a_kill(bench: OutboxBench, node: Daemons) -> None:
    """After a kill, all that was sent and not recorded is sent again, and named."""
    finished = bench.finish(1)
    held = bench.begin(100, 3)
    first, second = bench.done(100, 0, b"\x05"), bench.done(100, 1, b"\x06")
    bench.begin(101, 2)
    again = node.start()
    assert (FIRST,) == again.outbox.attempts()
    [batch] = again.outbox.batches()
    assert ([0, 1], bytes(32), 0) == (batch.indexes, batch.digests, batch.recorded)
    assert (held.batch, held.worker, held.instance, held.branch) == (
        batch.batch,
        batch.worker,
        batch.instance,
        batch.branch,
    )
    assert [finished, first, second] == again.link()
    again.outbox.recorded(held.batch, 2)
    again.outbox.forget(FIRST)
    again.stop()
    assert [] == node.start().link()


def test_a_kill_in_the_midst_of_a_batch(bench: OutboxBench, node: Daemons) -> None:
    """What was recorded of a batch is not sent again, once that is written."""
    batch = bench.begin(100, 4)
    bench.done(100, 0, b"\x05")
    bench.done(100, 1, b"\x06", b"\x07")
    bench.outbox.recorded(batch.batch, 1)
    last = bench.done(100, 3, b"\x08")
    again = node.start()
    assert [1] == [held.recorded for held in again.outbox.batches()]
    assert last == again.link()[-1]
    third = node.start()
    assert [[0, 1, 2, 3]] == [held.indexes for held in third.outbox.batches()]
    assert 2 == len(third.link())


def test_a_batch_that_is_done(bench: OutboxBench) -> None:
    """It is forgotten when all of it is recorded; more than there is may be."""
    batch = bench.begin(100, 2)
    bench.done(100, 0, b"\x05")
    bench.outbox.recorded(batch.batch, 2)
    assert bench.outbox.has_batch(batch.batch)
    assert [1] == [held.recorded for held in bench.outbox.batches()]
    bench.done(100, 1, b"\x05")
    bench.outbox.recorded(batch.batch, 2)
    assert not bench.outbox.has_batch(batch.batch)
    bench.outbox.recorded(batch.batch, 2)
    assert [] == bench.link()


def test_a_loss(bench: OutboxBench) -> None:
    """It is told after the results, once; then the batch is as long as what came of it."""
    bench.begin(100, 3)
    bench.hold()
    done = bench.done(100, 0, b"\x05")
    worker = HeldWorker(WORKER, InstanceId(1), 0)
    bench.outbox.lost(worker, Failure("worker_died", "It died."))
    assert ([], (worker,)) == (bench.sent, bench.outbox.lost_workers())
    bench.release()
    assert [done, WorkerLost(WORKER, Failure("worker_died", "It died."))] == bench.sent
    assert () == bench.outbox.lost_workers()
    assert [[0]] == [batch.indexes for batch in bench.outbox.batches()]
    assert [done] == bench.link()


def test_a_release(bench: OutboxBench) -> None:
    """Batches of which there are no results are forgotten."""
    bench.begin(100, 3)
    bench.begin(101, 3)
    done = bench.done(100, 0, b"\x05")
    bench.outbox.close_batches(WORKER)
    assert [100] == [batch.batch.number for batch in bench.outbox.batches()]
    assert [done] == bench.link()


def test_large_results(bench: OutboxBench, tmp_path: Path, node: Daemons) -> None:
    """They are files beside the journal, sent from there, and removed when nothing needs them."""
    finished = bench.finish(1, LARGE, DIGEST)
    bench.begin(100, 1)
    done = UnitsDone(WORKER, Attempt(1, 100), 0, [b""], blobs={0: Payload(len(LARGE), sha256=DIGEST)})
    bench.outbox.keep_results(done, {DIGEST: LARGE})
    assert LARGE == (tmp_path / DIGEST).read_bytes()
    assert [LARGE, LARGE] == bench.blobs
    again = node.start()
    assert [finished, done] == again.link()
    assert [LARGE, LARGE] == again.blobs
    assert len(LARGE) < again.writer.size < len(LARGE) + 1000
    again.outbox.forget(FIRST)
    assert (tmp_path / DIGEST).exists()
    again.outbox.recorded(Attempt(1, 100), 1)
    assert not (tmp_path / DIGEST).exists()
    assert again.writer.size < 1000


def test_a_large_result_that_is_not_whole(bench: OutboxBench, tmp_path: Path, node: Daemons) -> None:
    """After a power cut a blob may be cut off: what names it is not there, and its batch ends before it."""
    bench.finish(1, LARGE, DIGEST)
    bench.begin(100, 3)
    first = bench.done(100, 0, b"\x05")
    blobs = {0: Payload(len(LARGE), sha256=DIGEST)}
    bench.outbox.keep_results(UnitsDone(WORKER, Attempt(1, 100), 1, [b""], blobs=blobs), {DIGEST: LARGE})
    bench.done(100, 2, b"\x05")
    (tmp_path / DIGEST).write_bytes(LARGE[:-1] + b"x")
    again = node.start()
    assert [first] == again.link()
    assert [[0]] == [batch.indexes for batch in again.outbox.batches()]
    assert not (tmp_path / DIGEST).exists()


def test_a_large_result_that_is_gone(bench: OutboxBench, tmp_path: Path, node: Daemons) -> None:
    """After a kill, what follows one that was recorded is there all the same."""
    bench.begin(100, 3)
    blobs = {0: Payload(len(LARGE), sha256=DIGEST)}
    bench.outbox.keep_results(UnitsDone(WORKER, Attempt(1, 100), 0, [b""], blobs=blobs), {DIGEST: LARGE})
    second = bench.done(100, 1, b"\x05")
    bench.finish(1, LARGE, DIGEST)
    bench.outbox.forget(FIRST)
    bench.outbox.recorded(Attempt(1, 100), 1)
    assert not (tmp_path / DIGEST).exists()
    assert [second] == node.start().link()


def test_a_large_result_that_is_not_written_yet(bench: OutboxBench) -> None:
    """It is sent from memory, if the disk is full."""
    bench.fault = FULL
    bench.finish(1, LARGE, DIGEST)
    assert [LARGE] == bench.blobs
    bench.stop()


def test_room_is_told(bench: OutboxBench) -> None:
    """Once, to who was refused, when the disk takes something again."""
    told: list[bool] = []
    bench.outbox.has_room = lambda: told.append(True)
    bench.fault = FULL
    bench.finish(1)
    bench.fault = None
    bench.clock.advance(RETRY_S)
    assert [] == told
    bench.fault = FULL
    bench.finish(2)
    assert bench.outbox.refusal()
    bench.clock.advance(RETRY_S)
    assert [] == told
    bench.fault = None
    bench.clock.advance(RETRY_S)
    bench.outbox.forget(FIRST)
    assert [True] == told


def test_the_limit(node: Daemons) -> None:
    """Above it no new work is taken, and below it again, which is told."""
    bench = node.start(2**20)
    told: list[bool] = []
    bench.outbox.has_room = lambda: told.append(True)
    bench.link()
    bench.finish(1, bytes(2**20 - 1000))
    assert "" == bench.outbox.refusal()
    bench.finish(2, LARGE, DIGEST)
    assert "The outbox of the node has reached its limit of 1 MiB." == bench.outbox.refusal()
    bench.outbox.forget(SECOND)
    assert [True] == told
    assert "" == bench.outbox.refusal()


def test_the_limit_of_the_file(node: Daemons) -> None:
    """The file may have what is not needed any more; there is room again when it was made anew."""
    bench = node.start(4 * SPARE)
    bench.link()
    told: list[bool] = []
    bench.outbox.has_room = lambda: told.append(True)
    numbers = range(1, 4 * SPARE // 2**20 + 1)
    for number in numbers:
        bench.finish(number, bytes(2**20))
    assert bench.outbox.refusal()
    for number in numbers:
        bench.outbox.forget(Attempt(1, number))
    assert [True] == told
    assert "" == bench.outbox.refusal()
    assert bench.writer.size <= SPARE + 1000


def test_synced_without_a_link(node: Daemons, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no master each write is synced, and what was written before, once."""
    synced: list[int] = []
    monkeypatch.setattr("pydra.cluster.node.journal.os.fsync", synced.append)
    bench = node.start()
    bench.link()
    synced.clear()
    bench.finish(1)
    assert [] == synced
    bench.unlink()
    assert 1 == len(synced)
    bench.finish(2)
    assert 2 == len(synced)
    bench.link()
    bench.finish(3)
    assert 2 == len(synced)


def test_the_file_does_not_grow_for_ever(bench: OutboxBench, tmp_path: Path, node: Daemons) -> None:
    """It is made anew when most of it is not needed, with what is."""
    kept = bench.finish(0)
    for number in range(1, 50):
        bench.finish(number, bytes(600_000))
        bench.outbox.forget(Attempt(1, number))
        assert (tmp_path / "journal").stat().st_size < SPARE + 2_000_000
    bench.stop()
    assert [kept] == node.start().link()


def test_acknowledgements_are_written_with_others(bench: OutboxBench) -> None:
    """Nobody waits for them, so they cost no write of their own, unless there are very many."""
    for number in range(10):
        bench.finish(number)
    calls = len(bench.calls)
    for number in range(10):
        bench.outbox.forget(Attempt(1, number))
    assert calls == len(bench.calls)
    for _ in range(LAZY_LIMIT // 20):
        bench.writer.add_lazily(b"x" * 20)
    assert calls < len(bench.calls) <= calls + 2


def test_records_of_another_version(bench: OutboxBench, node: Daemons) -> None:
    """What cannot be read is left out."""
    bench.finish(1)
    bench.writer.add_lazily(b"\xc1")
    bench.writer.add_lazily(b"\x81\xa4type\xa5other")
    last = bench.finish(2)
    bench.outbox.forget(FIRST)
    bench.stop()
    assert [last] == node.start().link()


def test_a_journal_that_cannot_be_opened(tmp_path: Path, node: Daemons) -> None:
    """The node does not start, and stops all the same."""
    (tmp_path / "journal").mkdir()
    with pytest.raises(IsADirectoryError):
        node.start()
    writer = JournalWriter(Clock(), Journal(tmp_path), unthreaded)
    result_of(Deferred.fromCoroutine(Outbox(writer, Delivery(Clock()), 1).close()))


def test_stopped_in_the_midst_of_a_write(bench: OutboxBench, node: Daemons) -> None:
    """A stop waits for the write that is under way, and writes what came meanwhile."""
    bench.hold()
    one, two = bench.finish(1), bench.finish(2)
    stopped = Deferred.fromCoroutine(bench.outbox.close())
    assert not stopped.called
    bench.release()
    assert stopped.called
    assert [one, two] == node.start().link()
