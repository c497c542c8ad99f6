# SPDX-License-Identifier: MIT
"""Large payloads that go on from a node before their last byte, and so their digest, is known there."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.spool import Spool
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    LOST,
    STOPPED,
    BlobWanted,
    KillUnit,
    Recorded,
    StopUnit,
    Unavailable,
    UnitFinished,
)
from pydra.errors import WireError
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from tests.support.large_results import DIGEST, LARGE, PIECE, left, outcome, says_parts
from tests.support.links import RecordingSink
from tests.support.nodes import NodeBench, unit
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker

FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)
WHOLE = Payload(len(LARGE), sha256=DIGEST)
HALF = 10 * len(PIECE)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


class Sender:
    """The master sends arguments, bit by bit."""

    def __init__(self, bench: NodeBench) -> None:
        self.sink = bench.link.stream_opened("blob", DIGEST)

    def writes(self, data: bytes) -> Sender:
        """More of them."""
        for start in range(0, len(data), 1_000_000):
            result_of(Deferred.fromCoroutine(self.sink.write(data[start : start + 1_000_000])))
        return self

    def ends(self) -> Deferred[None]:
        """That was all."""
        sink = self.sink
        del self.sink
        return Deferred.fromCoroutine(sink.finish())


def came(worker: ScriptedWorker) -> bytes:
    """The arguments that a worker got up to now; nothing else may have come."""
    assert {frames.MORE} >= {frame[0] for frame in worker.sent}
    return b"".join(frame[1] for frame in worker.sent)  # type: ignore[misc]


def ran_with(worker: ScriptedWorker) -> bytes:
    """The arguments of a worker that was told to begin."""
    *more, run = worker.sent
    assert [frames.RUN, b""] == [run[0], run[5]]
    return b"".join(frame[1] for frame in more)  # type: ignore[misc]


def test_arguments_go_on_as_they_come(bench: NodeBench, tmp_path: Path) -> None:
    """A worker has them all before the last is known to be good, and is told to begin only then."""
    worker = bench.run(args=WHOLE)
    sender = Sender(bench).writes(LARGE[:HALF])
    assert LARGE[:HALF] == came(worker)
    sender.writes(LARGE[HALF:])
    assert LARGE == came(worker)
    result_of(sender.ends())
    assert LARGE == ran_with(worker)
    assert [] == left(tmp_path)


def test_bytes_that_are_being_written(tmp_path: Path) -> None:
    """Who reads behind takes what is known to be written, whatever else the file has, up to the end."""
    returns: list[Deferred[None]] = []

    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        done = function(*arguments)
        if function.__name__ == "_write":
            returns.append(Deferred())
            await returns[-1]
        return done

    async def read() -> bytes:
        return b"".join([piece async for piece in spool.chunks()])

    spool = Spool(tmp_path, in_thread)
    for data in (b"one", b"two", b"three"):
        Deferred.fromCoroutine(spool.write(data))
        if data != b"three":
            returns.pop().callback(None)
    reading = Deferred.fromCoroutine(read())
    assert not reading.called
    returns.pop().callback(None)
    assert not reading.called
    spool.end()
    assert b"onetwothree" == result_of(reading)


def test_arguments_of_two(bench: NodeBench) -> None:
    """Who comes later gets them from the first byte on, and they are asked for once."""
    first = bench.run(args=WHOLE)
    sender = Sender(bench).writes(LARGE[:HALF])
    assert [] == bench.tell(unit(2, args=WHOLE))
    second = bench.workers.taken[1]
    assert LARGE[:HALF] == came(second)
    sender.writes(LARGE[HALF:])
    result_of(sender.ends())
    assert [LARGE, LARGE] == [ran_with(first), ran_with(second)]


@pytest.mark.parametrize("cut", [0, 1, HALF, len(LARGE) - 1, len(LARGE)])
def test_a_cut_while_arguments_come(bench: NodeBench, cut: int) -> None:
    """The next link brings them again; what the worker has already is left out, and all of it was hashed."""
    worker = bench.run(args=WHOLE)
    Sender(bench).writes(LARGE[:cut]).sink.abort("the connection is lost")
    bench.cable.pull()
    assert BlobWanted(DIGEST) in bench.greet()
    sender = Sender(bench).writes(LARGE)
    assert LARGE == came(worker)
    result_of(sender.ends())
    assert LARGE == ran_with(worker)


@pytest.mark.parametrize(
    "again",
    [LARGE[:-1], LARGE + b"x", LARGE[:-1] + b"?", LARGE[: HALF - 1], b""],
    ids=["shorter", "longer", "another end", "shorter than what came", "nothing"],
)
def test_other_arguments_after_a_cut(bench: NodeBench, tmp_path: Path, again: bytes) -> None:
    """They are refused, the attempt fails, its worker never begins, and nothing is left of them."""
    worker = bench.run(args=WHOLE)
    Sender(bench).writes(LARGE[:HALF]).sink.abort("the connection is lost")
    bench.cable.pull()
    bench.greet()
    with pytest.raises(WireError):
        result_of(Sender(bench).writes(again).ends())
    told = outcome(bench)
    assert (FAILED, "load") == (told.outcome, told.failure.code if told.failure else "")
    came(worker)
    assert worker.is_killed
    assert [] == left(tmp_path)


def test_another_beginning_before_a_cut(bench: NodeBench) -> None:
    """What a worker got is what was hashed: bytes that an earlier link changed are never acted on."""
    worker = bench.run(args=WHOLE)
    Sender(bench).writes(b"?" + LARGE[1:HALF]).sink.abort("the connection is lost")
    bench.cable.pull()
    bench.greet()
    with pytest.raises(WireError):
        result_of(Sender(bench).writes(LARGE).ends())
    assert FAILED == outcome(bench).outcome
    came(worker)


def test_arguments_that_stay_away(bench: NodeBench) -> None:
    """A master that cannot go on says so: the attempt fails, and its worker never begins."""
    worker = bench.run(args=WHOLE)
    Sender(bench).writes(LARGE[:HALF]).sink.abort("the sender could not go on")
    told = bench.tell(Unavailable(DIGEST, "The blob is damaged."))
    assert [FAILED] == [message.outcome for message in told if isinstance(message, UnitFinished)]
    came(worker)
    assert worker.is_killed


def test_arguments_that_were_two(bench: NodeBench) -> None:
    """A master that says of one digest that it is small and large has the attempts failed, and none hangs."""
    bench.tell(unit(1, args=Payload(1000, sha256=DIGEST)))
    sender = Sender(bench)
    worker = bench.run(2, args=WHOLE)
    result_of(sender.writes(LARGE).ends())
    assert FAILED == outcome(bench).outcome
    came(worker)


def test_a_disk_that_is_full_in_the_middle_of_arguments(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt is lost: another node may have room. Its worker never begins."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    worker = bench.run(args=WHOLE)
    sender = Sender(bench).writes(LARGE[:HALF])
    monkeypatch.setattr(Spool, "_write", full)
    with pytest.raises(WireError):
        sender.writes(LARGE[HALF:])
    assert LOST == outcome(bench).outcome
    assert LARGE[:HALF] == came(worker)


def test_a_worker_that_ends_while_arguments_come(bench: NodeBench, tmp_path: Path) -> None:
    """The attempt is lost; what still comes of its arguments harms nobody."""
    worker = bench.run(args=WHOLE)
    sender = Sender(bench).writes(LARGE[:HALF])
    worker.exits(WorkerExit(-9, "it was killed"))
    assert LOST == outcome(bench).outcome
    result_of(sender.writes(LARGE[HALF:]).ends())
    assert LARGE[:HALF] == came(worker)
    assert [] == left(tmp_path)


def test_a_stop_while_arguments_come(bench: NodeBench) -> None:
    """A task that has not begun ends at once, and is sent no more."""
    worker = bench.run(args=WHOLE)
    sender = Sender(bench).writes(LARGE[:HALF])
    [told] = bench.tell(StopUnit(FIRST))
    assert isinstance(told, UnitFinished)
    assert STOPPED == told.outcome
    result_of(sender.writes(LARGE[HALF:]).ends())
    assert LARGE[:HALF] == came(worker)


def test_a_cut_while_a_result_comes(bench: NodeBench) -> None:
    """The next link brings all of it, under its digest."""
    worker = bench.run()
    says_parts(worker)
    bench.cable.pull()
    assert bench.master.sinks[""].aborted is not None
    bench.greet()
    worker.says(frames.RESULT, b"end")
    assert UnitFinished(FIRST, COMPLETE, WHOLE) == outcome(bench)
    assert LARGE == bytes(bench.master.sinks[DIGEST].data)


def test_a_cut_after_a_result_came(bench: NodeBench) -> None:
    """What went ahead counts for the link that it went by; on a new one it is sent again."""
    worker = bench.run()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    bench.cable.pull()
    assert bench.master.sinks[""].finished
    assert UnitFinished(FIRST, COMPLETE, WHOLE) in bench.greet()
    assert LARGE == bytes(bench.master.sinks[DIGEST].data)


def first_sink(bench: NodeBench, sink: RecordingSink) -> RecordingSink:
    """The master takes the next stream into this sink."""

    def make() -> RecordingSink:
        bench.master.new_sink = RecordingSink
        return sink

    bench.master.new_sink = make
    return sink


def test_a_master_that_takes_nothing_ahead(bench: NodeBench) -> None:
    """A result that it refuses without a name is sent again with one, on the same link."""
    first_sink(bench, RecordingSink()).fault = WireError("The disk is full.")
    worker = bench.run()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    assert UnitFinished(FIRST, COMPLETE, WHOLE) == outcome(bench)
    assert [("unnamed", ""), ("blob", DIGEST)] == bench.cable.node_bulk.streams
    assert LARGE == bytes(bench.master.sinks[DIGEST].data)


def test_the_outcome_waits_for_what_went_ahead(bench: NodeBench) -> None:
    """The master is told of a result when it has taken all of it."""
    sink = first_sink(bench, RecordingSink(gated=True))
    worker = bench.run()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    assert [] == bench.settle()
    while sink.gates:
        sink.open_gate()
    assert UnitFinished(FIRST, COMPLETE, WHOLE) == outcome(bench)
    assert LARGE == bytes(sink.data)


def test_one_goes_ahead(bench: NodeBench) -> None:
    """A worker that hangs in the middle of its result holds up no other's, which goes when it is whole."""
    says_parts(bench.run(1))
    second = bench.run(2)
    says_parts(second)
    second.says(frames.RESULT, b"end")
    assert UnitFinished(SECOND, COMPLETE, WHOLE) == outcome(bench)
    assert [("unnamed", ""), ("blob", DIGEST)] == bench.cable.node_bulk.streams
    bench.tell(KillUnit(FIRST), Recorded((SECOND,)))
    assert bench.master.sinks[""].aborted is not None
    third = bench.run(3)
    says_parts(third)
    third.says(frames.RESULT, b"end")
    assert COMPLETE == outcome(bench).outcome
    assert ("unnamed", "") == bench.cable.node_bulk.streams[-1]


@pytest.mark.parametrize("rest", [b"en", b"ends"])
def test_a_result_of_another_length(bench: NodeBench, tmp_path: Path, rest: bytes) -> None:
    """The master is told to drop what came ahead of one that is shorter or longer than announced."""
    worker = bench.run()
    says_parts(worker)
    worker.says(frames.RESULT, rest)
    assert FAILED == outcome(bench).outcome
    assert bench.master.sinks[""].aborted is not None
    assert not bench.master.sinks[""].finished
    assert [] == left(tmp_path)


def test_a_worker_that_ends_in_its_result(bench: NodeBench, tmp_path: Path) -> None:
    """The attempt is lost, and the master drops what came."""
    worker = bench.run()
    says_parts(worker)
    worker.exits(WorkerExit(-9, "it was killed"))
    assert LOST == outcome(bench).outcome
    assert bench.master.sinks[""].aborted is not None
    assert [] == left(tmp_path)


def test_a_result_that_nobody_wants_any_more(bench: NodeBench, tmp_path: Path) -> None:
    """A stop while the last of it is taken ends the sending, and the end is told without it."""
    sink = first_sink(bench, RecordingSink(gated=True))
    worker = bench.run()
    says_parts(worker)
    worker.says(frames.RESULT, b"end")
    assert [] == bench.settle()
    assert [UnitFinished(FIRST, STOPPED)] == bench.tell(StopUnit(FIRST))
    while sink.gates:
        sink.open_gate()
    assert not sink.finished
    bench.tell(Recorded((FIRST,)))
    assert [] == left(tmp_path)
