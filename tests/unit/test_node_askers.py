# SPDX-License-Identifier: MIT
"""Workers of a node that ask for units: what the master is told, what they get, and what ends them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.node.askers import BACKLOG_LIMIT, LOOK_S
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    BATCH_LIMIT,
    BlobWanted,
    KillUnit,
    Unavailable,
    UnitResults,
    UnitsAsked,
    UnitsForgotten,
    encode,
)
from pydra.model.ids import Attempt
from pydra.model.instance import INLINE_LIMIT, Failure, Payload
from tests.support.asking import MAIN, answer, ask, asked, given
from tests.support.cables import chunked
from tests.support.hired import hired
from tests.support.links import RecordingSink
from tests.support.nodes import NodeBench, batch
from tests.support.pumps import result_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def test_ask_and_answer(bench: NodeBench) -> None:
    """The master is told what a worker asks for, and the worker what came of it."""
    worker = bench.run()
    ask(worker, 0, 1, 2)
    assert [asked(0, 1, 2)] == bench.settle()
    failure = Failure("failed", "ValueError: x", "Traceback")
    bench.tell(UnitResults(MAIN, "Sub", [2, 0], [b"\x05", b""], {1: failure}))
    told = {1: ["failed", "ValueError: x", "Traceback"]}
    assert [frames.RESULTS, "Sub", [2, 0], [b"\x05", b""], told] == worker.sent[-1]


def test_time_limit(bench: NodeBench) -> None:
    """The time limit of units travels with them."""
    bench.run().says(frames.ASK, "Sub", [0], [b""], bytes(16), 2)
    [message] = bench.settle()
    assert isinstance(message, UnitsAsked)
    assert 2.0 == message.time_limit


def test_a_hired_worker_asks(bench: NodeBench) -> None:
    """So does one whose unit has units of its own."""
    worker = hired(bench)
    bench.tell(batch(4))
    ask(worker, 7, branch="Sub:3/Other")
    assert [asked(7, branch="Sub:3/Other", asker=Attempt(1, 50))] == bench.settle()
    bench.tell(answer(7, branch="Sub:3/Other", asker=Attempt(1, 50)))
    assert [7] == given(worker)


def test_asking_again_after_a_result(bench: NodeBench) -> None:
    """What has its result may be asked for again."""
    worker = bench.run()
    ask(worker, 0)
    bench.tell(answer(0))
    ask(worker, 0)
    assert [asked(0)] == bench.settle()[-1:]


def test_results_that_nobody_waits_for(bench: NodeBench) -> None:
    """What was not asked for, was answered already or is for others does not reach the worker."""
    worker = bench.run()
    ask(worker, 0, 1)
    bench.tell(answer(5), answer(0, branch="Other"), answer(0, asker=Attempt(1, 7)))
    assert [] == given(worker)
    failure = Failure("failed", "x")
    bench.tell(UnitResults(MAIN, "Sub", [5, 1, 6], [b"5", b"1", b"6"], {0: failure, 1: failure}))
    assert [frames.RESULTS, "Sub", [1], [b"1"], {0: ["failed", "x", ""]}] == worker.sent[-1]
    bench.tell(answer(0, 1))
    assert [1, 0] == given(worker)
    bench.tell(answer(0, 1))
    assert [1, 0] == given(worker)


def test_forget(bench: NodeBench) -> None:
    """A branch that is forgotten gets nothing more, and the master is told; then it may be asked for anew."""
    worker = bench.run()
    ask(worker, 0, 1)
    ask(worker, 0, branch="Other")
    bench.settle()
    worker.says(frames.FORGET, "Sub")
    worker.says(frames.FORGET, "Nothing")
    assert [UnitsForgotten(MAIN, "Sub")] == bench.settle()
    bench.tell(answer(0), answer(0, branch="Other"))
    assert [0] == given(worker)
    ask(worker, 0)
    assert [asked(0)] == bench.settle()


def test_a_new_link(bench: NodeBench) -> None:
    """What is outstanding is asked again, and what was forgotten meanwhile is told."""
    worker = bench.run()
    ask(worker, 0, 1, 2)
    ask(worker, 9, branch="Other")
    bench.settle()
    bench.tell(answer(1))
    bench.cable.pull()
    ask(worker, 3)
    worker.says(frames.FORGET, "Other")
    _, *messages = bench.greet()
    assert [UnitsForgotten(MAIN, "Other"), asked(0, 2, 3)] == messages
    bench.cable.pull()
    _, *messages = bench.greet()
    assert [asked(0, 2, 3)] == messages


def test_an_asker_that_is_gone(bench: NodeBench) -> None:
    """Nothing is asked for it any more, and what comes for it is dropped."""
    worker = bench.run()
    ask(worker, 0)
    bench.tell(KillUnit(MAIN))
    bench.tell(answer(0))
    assert [] == given(worker)
    bench.cable.pull()
    assert [] == [message for message in bench.greet() if isinstance(message, UnitsAsked)]


def test_many(bench: NodeBench) -> None:
    """What is too much for one message is asked in several."""
    worker = bench.run()
    ask(worker, *range(20), size=40_000)
    messages = bench.settle()
    assert 2 < len(messages)
    assert all(len(encode(message)) <= BATCH_LIMIT for message in messages)
    assert list(range(20)) == [
        index for each in messages if isinstance(each, UnitsAsked) for index in each.indexes
    ]


@pytest.mark.parametrize("size", [INLINE_LIMIT, INLINE_LIMIT + 1, frames.PART_SIZE + 5])
def test_large_arguments(bench: NodeBench, size: int) -> None:
    """They go to the master by bulk first, again on each new link, and what is asked later waits for them."""
    bench.master.new_sink = lambda: RecordingSink(gated=True)
    worker = bench.run()
    data = bytes(size)
    if size > frames.PART_SIZE:
        worker.says(frames.PART, data[: frames.PART_SIZE])
    worker.says(frames.ASK, "Sub", [0], [data[frames.PART_SIZE :] or data], bytes(16), 0.0)
    ask(worker, 1)
    digest = hashlib.sha256(data).hexdigest()
    if size <= INLINE_LIMIT:
        assert 2 == len(bench.settle())
        return
    large = UnitsAsked(MAIN, "Sub", [0], [b""], bytes(16), {0: Payload(size, sha256=digest)})
    assert [] == bench.settle()
    while bench.master.sinks[digest].gates:
        bench.master.sinks[digest].open_gate()
    assert [large, asked(1)] == bench.settle()
    assert data == bytes(bench.master.sinks[digest].data)
    bench.cable.pull()
    bench.master.new_sink = RecordingSink
    _, message = bench.greet()
    assert isinstance(message, UnitsAsked)
    assert ([0, 1], {0: Payload(size, sha256=digest)}) == (message.indexes, message.blobs)


def test_the_same_large_arguments(bench: NodeBench) -> None:
    """Those of several units of one ask go to the master once."""
    streams: list[RecordingSink] = []

    def sink() -> RecordingSink:
        streams.append(RecordingSink())
        return streams[-1]

    bench.master.new_sink = sink
    data = bytes(INLINE_LIMIT + 1)
    bench.run().says(frames.ASK, "Sub", [0, 1], [data, data], bytes(32), 0.0)
    [message] = bench.settle()
    assert isinstance(message, UnitsAsked)
    large = Payload(len(data), sha256=hashlib.sha256(data).hexdigest())
    assert {0: large, 1: large} == message.blobs
    assert [data] == [bytes(each.data) for each in streams]


def test_large_results(bench: NodeBench) -> None:
    """They are fetched, one after the other, and given alone; those beside them do not wait."""
    worker = bench.run()
    ask(worker, 0, 1, 2)
    bench.settle()
    data = bytes(range(256)) * 4096
    digest = hashlib.sha256(data).hexdigest()
    large = UnitResults(
        MAIN,
        "Sub",
        [0, 1, 2],
        [b"", b"\x05", b""],
        {1: Failure("failed", "x")},
        {0: Payload(len(data), sha256=digest), 2: Payload(9, sha256="ab" * 32)},
    )
    assert [BlobWanted(digest)] == bench.tell(large)
    assert [1] == given(worker)
    assert [] == bench.tell(large)
    result_of(Deferred.fromCoroutine(bench.cable.master_bulk.send("blob", digest, chunked(data))))
    more = b"".join(bytes(frame[1]) for frame in worker.sent if frame[0] == frames.MORE)  # type: ignore[call-overload]
    assert data == more + worker.sent[-1][3][0]  # type: ignore[index]
    assert [BlobWanted("ab" * 32)] == bench.settle()
    bench.tell(Unavailable("ab" * 32, "It is gone."))
    assert [frames.RESULTS, "Sub", [2], [b""], {0: ["load", "It is gone.", ""]}] == worker.sent[-1]
    assert [1, 0, 2] == given(worker)


def test_a_worker_that_is_behind(bench: NodeBench) -> None:
    """It gets results when it has caught up, in their order; on a new link they come again."""
    worker = bench.run()
    ask(worker, 0, 1, 2)
    worker.behind = BACKLOG_LIMIT + 1
    bench.tell(answer(0), answer(1))
    bench.advance(LOOK_S)
    assert [] == given(worker)
    worker.behind = 0
    bench.tell(answer(2))
    assert [] == given(worker)
    bench.advance(LOOK_S)
    assert [0, 1, 2] == given(worker)
    ask(worker, 3)
    worker.behind = BACKLOG_LIMIT + 1
    bench.tell(answer(3))
    bench.cable.pull()
    bench.greet()
    worker.behind = 0
    bench.advance(LOOK_S)
    assert [0, 1, 2] == given(worker)
    bench.tell(answer(3))
    assert [0, 1, 2, 3] == given(worker)


def test_a_worker_that_is_behind_and_ends(bench: NodeBench) -> None:
    """What waits for it is dropped."""
    worker = bench.run()
    ask(worker, 0, 1)
    worker.behind = BACKLOG_LIMIT + 1
    bench.tell(answer(0), UnitResults(MAIN, "Sub", [1], [b""], {}, {0: Payload(70_000, sha256="ab" * 32)}))
    bench.tell(KillUnit(MAIN))
    bench.advance(LOOK_S)
    assert [] == given(worker)


def test_large_results_for_a_worker_that_is_behind(bench: NodeBench) -> None:
    """The next is fetched when the worker has read enough of those before."""
    worker = bench.run()
    ask(worker, 0, 1)
    bench.settle()
    data = bytes(INLINE_LIMIT + 1)
    digest = hashlib.sha256(data).hexdigest()
    blobs = {0: Payload(len(data), sha256=digest), 1: Payload(70_000, sha256="ab" * 32)}
    bench.tell(UnitResults(MAIN, "Sub", [0, 1], [b"", b""], {}, blobs))
    worker.behind = BACKLOG_LIMIT + 1
    result_of(Deferred.fromCoroutine(bench.cable.master_bulk.send("blob", digest, chunked(data))))
    assert [] == bench.advance(LOOK_S)
    worker.behind = 0
    assert [BlobWanted("ab" * 32)] == bench.advance(LOOK_S)
    worker.behind = BACKLOG_LIMIT + 1
    bench.tell(KillUnit(MAIN))


def test_large_results_for_nobody(bench: NodeBench) -> None:
    """One that was forgotten while it was fetched is not given."""
    worker = bench.run()
    ask(worker, 0)
    bench.settle()
    data = bytes(INLINE_LIMIT + 1)
    digest = hashlib.sha256(data).hexdigest()
    bench.tell(UnitResults(MAIN, "Sub", [0], [b""], {}, {0: Payload(len(data), sha256=digest)}))
    worker.says(frames.FORGET, "Sub")
    ask(worker, 0)
    result_of(Deferred.fromCoroutine(bench.cable.master_bulk.send("blob", digest, chunked(data))))
    assert [] == given(worker)
    bench.tell(answer(0))
    assert [0] == given(worker)
