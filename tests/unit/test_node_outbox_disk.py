# SPDX-License-Identifier: MIT
"""What a node keeps for its master while its disk refuses, and what it can read no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.node.journal_writer import RETRY_S
from pydra.model.ids import Attempt
from tests.support.outboxes import DIGEST, FULL, LARGE, Daemons, OutboxBench

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
