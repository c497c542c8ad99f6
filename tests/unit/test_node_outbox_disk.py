# SPDX-License-Identifier: MIT
"""What a node keeps for its master while its disk refuses, and what it can read no more."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pydra.cluster.node.journal_writer import RETRY_S
from pydra.cluster.wire.messages import LOST
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from tests.support.outboxes import DIGEST, FULL, LARGE, WORKER, Daemons, OutboxBench

FIRST = Attempt(1, 1)


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


def test_a_full_disk(bench: OutboxBench, node: Daemons) -> None:
    """It is told at once, and no new work is taken; when there is room, all that is needed is written."""
    bench.fault = FULL
    one = bench.finish(1)
    large = bench.finish(2, LARGE, DIGEST)
    bench.begin(100, 2)
    done = bench.done(100, 0, b"\x05")
    assert [one, large, done] == bench.sent
    assert "No space left on device" in bench.outbox.refusal()
    bench.clock.advance(RETRY_S)
    assert bench.outbox.refusal()
    bench.fault = None
    bench.outbox.forget(FIRST)
    bench.clock.advance(RETRY_S)
    assert "" == bench.outbox.refusal()
    assert [] == bench.clock.getDelayedCalls()
    again = node.start()
    assert [large, done] == again.link()
    assert [LARGE] == again.blobs


def test_a_disk_that_fills_while_others_wait(bench: OutboxBench) -> None:
    """Nobody waits for a write that was refused."""
    bench.hold()
    one, two = bench.finish(1), bench.finish(2)
    bench.fault = FULL
    bench.release()
    assert [one, two] == bench.sent
    bench.stop()


def test_what_ends_while_a_full_disk_takes_something_again(bench: OutboxBench, node: Daemons) -> None:
    """It is written after that, in its order: results, what they need, and what is not needed any more."""
    bench.fault = FULL
    one = bench.finish(1)
    bench.begin(100, 3)
    first = bench.done(100, 0, b"\x05")
    bench.fault = None
    bench.hold()
    bench.clock.advance(RETRY_S)
    large = bench.finish(2, LARGE, DIGEST)
    bench.begin(101, 1)
    second = bench.done(100, 1, b"\x06")
    other = bench.done(101, 0, b"\x07")
    bench.outbox.forget(FIRST)
    assert [one, first] == bench.sent
    bench.release()
    assert [one, first, large, second, other] == bench.sent
    last = bench.done(100, 2, b"\x08")
    again = node.start()
    assert [first, large, second, other, last] == again.link()
    assert [LARGE] == again.blobs


def test_what_ends_while_a_disk_refuses_again(bench: OutboxBench, node: Daemons) -> None:
    """It is told when that is known, as is what comes of being told; and it is written when there is room."""
    bench.fault = FULL
    one = bench.finish(1)
    bench.hold()
    bench.clock.advance(RETRY_S)
    two = bench.finish(2)
    assert [one] == bench.sent
    more: list[object] = []
    bench.writer.then(lambda: bench.writer.then(lambda: more.append("told")))
    bench.release()
    assert [one, two] == bench.sent
    assert ["told"] == more
    bench.fault = None
    bench.clock.advance(RETRY_S)
    assert "" == bench.outbox.refusal()
    assert [one, two] == node.start().link()


def missing(bench: OutboxBench, path: Path) -> None:
    """The file is gone."""
    path.unlink()


def damaged(bench: OutboxBench, path: Path) -> None:
    """The file has other bytes; the master refuses what it is not told of."""
    path.write_bytes(LARGE[:-1] + b"x")
    bench.refuses = {path.name}


def unreadable(bench: OutboxBench, path: Path) -> None:
    """The disk does not give it."""

    def read_blob(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    bench.journal.read_blob = read_blob  # type: ignore[method-assign]


@pytest.mark.parametrize("spoil", [missing, damaged, unreadable])
def test_a_large_result_that_is_spoilt(
    bench: OutboxBench, tmp_path: Path, node: Daemons, spoil: Callable[[OutboxBench, Path], None]
) -> None:
    """The attempt is lost, and the master is told so at once; all else goes on by the same link."""
    bench.unlink()
    bench.finish(1, LARGE, DIGEST)
    two = bench.finish(2)
    spoil(bench, tmp_path / DIGEST)
    said = bench.link()
    told = {message.attempt: message for message in [*said, *bench.sent]}
    assert {FIRST, Attempt(1, 2)} == told.keys()
    assert two == told[Attempt(1, 2)]
    assert LOST == told[FIRST].outcome
    assert told[FIRST].failure is not None
    assert "could not read the result" in told[FIRST].failure.message
    assert 0 == bench.closed
    bench.outbox.forget(FIRST)
    assert (Attempt(1, 2),) == bench.outbox.attempts()
    bench.unlink()
    assert [two] == node.start().link()


@pytest.mark.parametrize("spoil", [missing, damaged, unreadable])
def test_a_large_result_of_a_unit_that_is_spoilt(
    bench: OutboxBench, tmp_path: Path, node: Daemons, spoil: Callable[[OutboxBench, Path], None]
) -> None:
    """What came before it is told, the rest of its batch is not; a new link tells that its worker ends."""
    ended: list[Attempt] = []
    bench.outbox.end_worker = lambda worker, why: ended.append(worker)
    bench.unlink()
    bench.begin(100, 3)
    first = bench.done(100, 0, b"\x05")
    large = {0: Payload(len(LARGE), sha256=DIGEST)}
    bench.done(100, 1, b"", data={DIGEST: LARGE}, blobs=large)
    bench.done(100, 2, b"\x06")
    bench.begin(101, 1)
    other = bench.done(101, 0, b"\x07")
    spoil(bench, tmp_path / DIGEST)
    assert [first] == bench.link()
    assert (1, [WORKER]) == (bench.closed, ended)
    bench.outbox.close_batches(WORKER)
    assert {1} == {len(held.indexes) for held in bench.outbox.batches()}
    assert [first, other] == bench.link()
    assert 1 == bench.closed
    bench.unlink()
    assert [first, other] == node.start().link()
