# SPDX-License-Identifier: MIT
"""Large results that wait for room, and those that nobody wants any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.node.delivery import NotNeeded
from pydra.cluster.node.room import LOOK_S, PATIENCE_S
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    LOST,
    STOPPED,
    KillUnit,
    Recorded,
    StopUnit,
    UnitFinished,
)
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from pydra.model.options import Guarantee
from tests.support.large_results import DIGEST, PIECE, left, outcome, says_parts
from tests.support.nodes import NodeBench
from tests.support.pumps import result_of

FIRST = Attempt(1, 1)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeBench]:
    """A node that its master has greeted, whose outbox holds one result and not two."""
    monkeypatch.setattr("tests.support.nodes.OUTBOX_LIMIT", 20_000_000)
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def test_results_that_do_not_fit_into_the_outbox_together(bench: NodeBench, tmp_path: Path) -> None:
    """The second is not read before the first is recorded; its log says what it waits for."""
    first, second = bench.run(1), bench.run(2)
    says_parts(first)
    says_parts(second)
    first.says(frames.RESULT, b"end")
    second.says(frames.RESULT, b"end")
    assert second.is_paused
    bench.settle()
    assert 1 == len(left(tmp_path))
    bench.tell(Recorded((FIRST,)))
    told = [message for message in bench.advance(LOOK_S) if isinstance(message, UnitFinished)]
    assert not second.is_paused
    assert [(Attempt(1, 2), COMPLETE)] == [(message.attempt, message.outcome) for message in told]


def test_a_kill_while_a_result_waits_for_room(bench: NodeBench) -> None:
    """It ends at once, and no timer is left; the others go on."""
    first, second = bench.run(1), bench.run(2)
    says_parts(first)
    says_parts(second)
    assert second.is_paused
    said = bench.tell(KillUnit(Attempt(1, 2)))
    assert [LOST] == [message.outcome for message in said if isinstance(message, UnitFinished)]
    bench.advance(0)
    assert second.is_gone
    first.says(frames.RESULT, b"end")
    assert COMPLETE == outcome(bench).outcome


@pytest.mark.parametrize("pieces", [0, 1, 20])
def test_a_result_that_is_announced_and_does_not_come(bench: NodeBench, pieces: int) -> None:
    """It has failed after a while in which others waited, whether some of it came or all but its end."""
    first, second = bench.run(1), bench.run(2)
    first.says(frames.LONG, 20 * len(PIECE) + 3)
    for _ in range(pieces):
        first.says(frames.PART, PIECE)
    says_parts(second)
    assert second.is_paused
    told: list[UnitFinished] = []
    for _ in range(int(2 * PATIENCE_S / LOOK_S)):
        told += [message for message in bench.advance(LOOK_S) if isinstance(message, UnitFinished)]
    [message] = told
    assert (FIRST, FAILED) == (message.attempt, message.outcome)
    assert message.failure is not None
    assert "wire" == message.failure.code
    assert first.is_gone
    assert not second.is_paused
    second.says(frames.RESULT, b"end")
    assert COMPLETE == outcome(bench).outcome


def test_a_result_that_waits_for_the_disk(bench: NodeBench) -> None:
    """It is whole, so however long the disk takes, it is not its worker's fault."""
    first, second = bench.run(1), bench.run(2)
    bench.hold_disk()
    says_parts(first)
    first.says(frames.RESULT, b"end")
    says_parts(second)
    for _ in range(int(2 * PATIENCE_S / LOOK_S)):
        bench.advance(LOOK_S)
    assert not first.is_killed
    bench.release_disk()
    assert COMPLETE == outcome(bench).outcome


@pytest.mark.parametrize("pieces", [0, 10])
def test_an_end_of_something_exclusive_while_its_result_comes(bench: NodeBench, pieces: int) -> None:
    """It gives back the room at once, though nobody is told before its worker is gone."""
    first, second = bench.run(1, guarantee=int(Guarantee.EXCLUSIVE), heard=0), bench.run(2)
    first.says(frames.LONG, 20 * len(PIECE))
    for _ in range(pieces):
        first.says(frames.PART, PIECE)
    says_parts(second)
    assert second.is_paused
    bench.tell(StopUnit(FIRST))
    bench.advance(LOOK_S)
    assert first.is_gone
    assert not second.is_paused
    second.says(frames.RESULT, b"end")
    assert COMPLETE == outcome(bench).outcome


@pytest.mark.parametrize("pieces", [1, 20], ids=["in memory", "in a file"])
def test_a_stop_while_the_result_comes(bench: NodeBench, tmp_path: Path, pieces: int) -> None:
    """It ends at once, as nobody wants the result, and nothing is left of it."""
    worker = bench.run()
    if pieces == 1:
        worker.says(frames.PART, PIECE)
    else:
        says_parts(worker, pieces)
    said = [message for message in bench.tell(StopUnit(FIRST)) if isinstance(message, UnitFinished)]
    assert worker.is_killed
    worker.says(frames.RESULT, b"end")
    assert [UnitFinished(FIRST, STOPPED)] == said
    assert [] == left(tmp_path)


def test_a_stop_before_the_result_comes(bench: NodeBench) -> None:
    """It is not waited for when it is announced."""
    worker = bench.run()
    bench.tell(StopUnit(FIRST))
    says_parts(worker)
    assert UnitFinished(FIRST, STOPPED) == outcome(bench)


def test_a_stop_while_the_result_is_told(tmp_path: Path) -> None:
    """The result is dropped, and that it stopped is told in its place; after a kill of the node too."""
    bench = NodeBench(tmp_path)
    bench.greet()
    worker = bench.run()
    bench.cable.pull()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    bench.settle()
    assert [DIGEST] == left(tmp_path)
    bench.units.stop(FIRST)
    bench.units.stop(FIRST)
    assert [] == left(tmp_path)
    bench.kill()
    second = NodeBench(tmp_path)
    said = second.greet() + second.settle()
    assert [STOPPED] == [message.outcome for message in said if isinstance(message, UnitFinished)]
    second.close()


def test_a_stop_of_what_ended_with_a_small_result(bench: NodeBench) -> None:
    """It is told as it is: that takes no time."""
    worker = bench.run()
    worker.says(frames.RESULT, b"\xc0")
    bench.units.stop(FIRST)
    assert UnitFinished(FIRST, COMPLETE, Payload(1, inline=b"\xc0")) == outcome(bench)


async def first_of(chunks: AsyncIterator[bytes]) -> bytes:
    """The first piece."""
    return await anext(chunks)


async def last_of(chunks: AsyncIterator[bytes]) -> bytes:
    """The last piece."""
    piece = b""
    async for each in chunks:
        piece = each
    return piece


def test_a_stream_of_a_result_that_is_dropped(tmp_path: Path) -> None:
    """What is being read of it for the master breaks off: nobody needs it any more."""
    bench = NodeBench(tmp_path)
    bench.greet()
    worker = bench.run()
    bench.cable.pull()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    bench.settle()
    [kept] = bench.outbox._kept
    chunks = kept.blobs[0].chunks()
    assert result_of(Deferred.fromCoroutine(first_of(chunks)))
    bench.units.stop(FIRST)
    rest = Deferred.fromCoroutine(last_of(chunks))
    with pytest.raises(NotNeeded):
        result_of(rest)
    bench.close()
