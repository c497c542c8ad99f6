# SPDX-License-Identifier: MIT
"""A node and workers that say of units whatever they like: only their own instance or link suffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pydra.cluster.scheduler import inputs
from pydra.cluster.wire.messages import (
    LOST,
    Heartbeat,
    HeldBatch,
    HeldBatches,
    HeldWorker,
    KillUnit,
    NodeHello,
    RunUnits,
    UnitFinished,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
    UnitsRecorded,
    WorkerLost,
)
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import INLINE_LIMIT, Failure, Payload
from pydra.model.node import SLOTS_LIMIT
from pydra.model.status import Status
from pydra.model.unit import OUTSTANDING_LIMIT
from tests.support.node_links import SEAL, hello, unit_log
from tests.support.unit_links import UnitBench, asked, digest, restarted, result_of_unit

ONE, TWO = InstanceId(1), InstanceId(2)
NOBODY = Attempt(1, 999)
OTHER_NODE = 2
OLD_WORKER, OLD_BATCH = Attempt(1, 7), Attempt(1, 9)
"""Of the master before."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[UnitBench]:
    """A node with two slots, on which instance 1 runs; instance 2 runs on an honest one."""
    bench = UnitBench(tmp_path)
    bench.begin()
    yield bench
    bench.close()


def theirs(bench: UnitBench) -> Attempt:
    """Instance 2 runs on another node; its attempt."""
    bench.dispatcher.feed(inputs.NodeSilent(bench.record.id))
    bench.dispatcher.feed(inputs.NodeReady(type(bench.record.id)(OTHER_NODE), 1))
    bench.submit(2)
    attempt = bench.dispatcher.live[TWO].attempt
    assert attempt is not None
    assert OTHER_NODE == bench.dispatcher.live[TWO].node
    bench.dispatcher.feed(inputs.NodeReady(bench.record.id, 2, (bench.root,)))
    bench.pass_time(0)
    return attempt


def failed(bench: UnitBench) -> str:
    """The root is killed as it was asked to be; why its instance failed."""
    assert any(isinstance(message, KillUnit) for message in bench.others)
    bench.say(UnitFinished(bench.root, LOST))
    stored = bench.stored(1)
    assert (Status.FAILED, "wire") == (stored.status, stored.failure and stored.failure.code)
    assert bench.cable.is_up
    assert [None, None] == list(bench.scheduler.slots(bench.record.id))
    assert stored.failure is not None
    return stored.failure.message


@pytest.mark.parametrize(
    "fields",
    [
        {"indexes": [3, 3]},
        {"indexes": [0, 2**63]},
        {"indexes": [0, 2**64 - 1]},
        {"indexes": [0, -1]},
        {"indexes": [0]},
        {"args": [b""]},
        {"digests": b"d" * 31},
        {"branch": ""},
        {"branch": "b" * 2000},
        {"branch": "Sub:0/Other"},
        {"args": [b"", bytes(INLINE_LIMIT + 1)]},
        {"blobs": {0: Payload(70_000, sha256="a" * 64)}},
        {"time_limit": float("nan")},
    ],
)
def test_an_ask_that_breaks_a_rule(bench: UnitBench, fields: dict[str, Any]) -> None:
    """The instance fails, its slots are free again, and the link stays."""
    bench.ask(7)
    bench.say(asked(bench.root, 0, 1, **fields))
    assert "refused" in failed(bench)


@pytest.mark.parametrize(
    "branch", ["Other", "Sub:8/Other", "Sub:7/Other:7/Other", "Sub:/Other", "Sub:\u0667/Other", "Other:7/Sub"]
)
def test_an_ask_for_a_unit_of_others(bench: UnitBench, branch: str) -> None:
    """A hired worker asks for units of the unit that it runs, or its instance fails."""
    bench.ask(7)
    [worker] = bench.workers
    bench.say(asked(worker, 0, branch="Sub:7/Other"))
    assert [] == bench.others
    bench.say(asked(worker, 0, branch=branch))
    assert "refused" in failed(bench)


def test_too_many_units(bench: UnitBench) -> None:
    """An asker that waits for more than it may fails."""
    for start in range(0, OUTSTANDING_LIMIT, 1_000):
        bench.ask(*range(start, start + 1_000))
    assert [] == [message for message in bench.others if isinstance(message, KillUnit)]
    bench.ask(*range(1_000))  # these are outstanding, and count once
    assert [] == [message for message in bench.others if isinstance(message, KillUnit)]
    bench.ask(OUTSTANDING_LIMIT)
    assert str(OUTSTANDING_LIMIT) in failed(bench)


def test_too_many_units_that_are_looked_up(bench: UnitBench) -> None:
    """The same holds for asks that wait for the store."""
    bench.dispatcher.units.look_first(ONE)
    bench.store.hold()
    bench.dispatcher.feed(inputs.CancelRequested(TWO))
    for start in range(0, OUTSTANDING_LIMIT + 1_000, 1_000):
        bench.ask(*range(start, start + 1_000))
    bench.store.release()
    bench.pass_time(0)
    assert any(isinstance(message, KillUnit) for message in bench.others)


def test_asks_of_nobody(bench: UnitBench) -> None:
    """Foreign, stale and invented askers are not heard."""
    attempt = theirs(bench)
    for asker in (attempt, NOBODY, Attempt(2**40, 2**63 - 1)):
        assert [] == bench.say(asked(asker, 0, 1), UnitsForgotten(asker, "Sub"))
        assert [] == bench.say(asked(asker, 0, 0))
    assert bench.cable.is_up
    assert Status.RUNNING is bench.dispatcher.live[TWO].status
    assert {} == bench.workers


def test_results_of_batches_that_are_not_there(bench: UnitBench) -> None:
    """They are to be forgotten, and nothing is recorded."""
    bench.ask(0, 1)
    first, second = bench.batches.values()
    invented = UnitsDone(first.worker, NOBODY, 0, [b"x"] * 3)
    swapped = UnitsDone(second.worker, first.batch, 0, [b"x"])
    assert [UnitsRecorded(NOBODY, 3)] == bench.say(invented)
    assert [UnitsRecorded(first.batch, 1)] == bench.say(swapped)
    assert [] == bench.complete(0, 1)
    bench.do_all()
    assert {0: result_of_unit(0), 1: result_of_unit(1)} == bench.results()


def test_results_twice(bench: UnitBench) -> None:
    """The first are recorded; the second are acknowledged and change nothing."""
    bench.ask(0)
    [batch] = bench.batches.values()
    bench.do(batch)
    said = bench.say(UnitsDone(batch.worker, batch.batch, 0, [b"other"]))
    assert [UnitsRecorded(batch.batch, 1)] == said
    assert {0: result_of_unit(0)} == bench.results()
    [row] = bench.rows(0)
    assert result_of_unit(0) == (row.result and row.result.inline)


@pytest.mark.parametrize(("start", "count"), [(1, 1), (0, 5), (2**62, 1), (0, 2)])
def test_results_out_of_order_or_too_many(bench: UnitBench, start: int, count: int) -> None:
    """The worker that told them is given up, its unit runs elsewhere, and the rest goes on."""
    bench.ask(0)
    [batch] = bench.batches.values()
    bench.batches.clear()
    bench.say(UnitsDone(batch.worker, batch.batch, start, [b"x"] * count))
    assert [batch.worker] == bench.released
    bench.do_all()
    assert {0: result_of_unit(0)} == bench.results()


@pytest.mark.parametrize(
    "fields",
    [
        {"results": []},
        {"start": -1},
        {"busy_s": float("nan")},
        {"busy_s": -5.0},
        {"failures": {7: Failure("failed", "")}},
        {"blobs": {-1: Payload(1, sha256="a" * 64)}},
    ],
)
def test_results_that_cannot_be(bench: UnitBench, fields: dict[str, Any]) -> None:
    """The link is closed."""
    bench.ask(0)
    [batch] = bench.batches.values()
    bench.say(msgspec.structs.replace(bench.done(batch), **fields))
    assert not bench.cable.is_up
    assert [] == bench.complete(0)


@pytest.mark.parametrize("number", [-1, 2**63, 2**64 - 1])
@pytest.mark.parametrize(
    "message",
    [
        lambda number: UnitsDone(NOBODY, Attempt(1, number), 0, [b"x"]),
        lambda number: UnitsDone(NOBODY, Attempt(number, 1), 0, [b"x"]),
        lambda number: UnitsDone(NOBODY, NOBODY, number, [b"x"]),
        lambda number: UnitFinished(Attempt(1, number), LOST),
        lambda number: UnitFinished(NOBODY, LOST, lines=number),
        lambda number: Heartbeat((Attempt(1, number),)),
        lambda number: unit_log(["x"], first=number),
        lambda number: HeldBatches((HeldBatch(Attempt(0, number), NOBODY, ONE, "Sub", [0], b"d" * 16),)),
    ],
)
def test_numbers_that_no_store_takes(bench: UnitBench, number: int, message: Callable[[int], Any]) -> None:
    """They are refused with their message, and with it the link; the rest goes on when the node is back."""
    bench.ask(0)
    bench.say(message(number))
    assert not bench.cable.is_up
    bench.plug()
    bench.say(*bench.held())
    bench.do_all()
    assert {0: result_of_unit(0)} == bench.results()


def test_a_result_that_was_not_sent(bench: UnitBench) -> None:
    """That unit fails, and no other."""
    bench.ask(0, 1)
    first, second = bench.batches.values()
    bench.say(bench.done(first, results=[b""], blobs={0: Payload(70_000, sha256="a" * 64)}))
    bench.say(bench.done(second, results=[bytes(INLINE_LIMIT + 1)]))
    assert ["wire", "limit"] == [row.failure and row.failure.code for row in bench.rows(0, 1)]
    assert bench.cable.is_up


def test_after_the_end(bench: UnitBench) -> None:
    """Whatever is told of a cancelled instance changes nothing."""
    bench.ask(0, 1)
    first, _ = bench.batches.values()
    bench.dispatcher.feed(inputs.CancelRequested(ONE))
    bench.say(UnitFinished(bench.root, LOST))
    assert Status.CANCELLED is bench.stored(1).status
    bench.say(bench.done(first), asked(bench.root, 5), WorkerLost(first.worker, Failure("x", "")))
    assert [] == bench.complete(0, 1, 5)
    assert Status.CANCELLED is bench.stored(1).status
    assert UnitsRecorded(first.batch, 1) in bench.recorded


def test_workers_that_are_not_theirs(bench: UnitBench) -> None:
    """The loss of a foreign worker or of a main one, told as one of a hired, is ignored."""
    attempt = theirs(bench)
    bench.ask(0)
    for worker in (attempt, NOBODY, bench.root):
        bench.say(WorkerLost(worker, Failure("worker_died", "It died.")))
    assert {Status.RUNNING} == {live.status for live in bench.dispatcher.live.values()}
    bench.do_all()
    assert {0} == bench.results().keys()


@pytest.mark.parametrize(
    "fields",
    [
        {"batches": (HeldBatch(NOBODY, NOBODY, ONE, "", [0], b"d" * 16),)},
        {"batches": (HeldBatch(NOBODY, NOBODY, ONE, "Sub", [0], b"d" * 15),)},
        {"batches": (HeldBatch(NOBODY, NOBODY, ONE, "Sub", [0], b"d" * 16, 2),)},
        {"batches": (HeldBatch(NOBODY, NOBODY, ONE, "Sub", [2**63], b"d" * 16),)},
        {"workers": (HeldWorker(NOBODY, ONE, SLOTS_LIMIT),)},
        {"workers": (HeldWorker(NOBODY, ONE, 2**62),)},
        {"workers": (HeldWorker(NOBODY, ONE, -1),)},
    ],
)
def test_a_hello_that_cannot_be(bench: UnitBench, fields: dict[str, Any]) -> None:
    """The link is closed before anything is made of it."""
    bench.cable.pull()
    bench.plug()
    bench.say(msgspec.structs.replace(hello(2, (bench.root,)), **fields))
    assert not bench.cable.is_up


def test_more_batches_than_there_can_be(bench: UnitBench) -> None:
    """A node cannot fill the memory of the master before its hello."""
    many = HeldBatches(tuple(HeldBatch(NOBODY, NOBODY, ONE, "Sub", [], b"") for _ in range(2_000)))
    bench.cable.pull()
    bench.plug()
    bench.say(*[many] * 10)
    assert bench.cable.is_up
    bench.say(many)
    assert not bench.cable.is_up


def test_foreign_workers_and_batches_in_a_hello(bench: UnitBench) -> None:
    """They are given up, and what they tell of them is forgotten."""
    theirs(bench)
    bench.cable.pull()
    bench.plug()
    foreign = Attempt(0, 5)
    said = bench.say(
        HeldBatches((HeldBatch(Attempt(0, 6), foreign, TWO, "Sub", [0, 1], digest(0) + digest(1)),)),
        msgspec.structs.replace(
            hello(2, (bench.root,)),
            workers=(HeldWorker(foreign, TWO, 0), HeldWorker(NOBODY, InstanceId(77), SLOTS_LIMIT - 1)),
        ),
    )
    assert {foreign, NOBODY} == set(bench.released)
    assert UnitsRecorded(Attempt(0, 6), 2) in said
    assert [UnitsRecorded(Attempt(0, 6), 2)] == bench.say(UnitsDone(foreign, Attempt(0, 6), 0, [b"", b""]))
    assert [] == bench.result(bench.store.units(TWO, "Sub", [0, 1]))


def claimed(worker: Attempt, instance: InstanceId, seal: bytes, index: int = 0) -> NodeHello:
    """The node says it has a worker, and a batch of it with three units."""
    units = ("Sub", [0, 1, 2], digest(0) + digest(1) + digest(2))
    return msgspec.structs.replace(
        hello(2),
        workers=(HeldWorker(worker, instance, index, seal),),
        batches=(HeldBatch(OLD_BATCH, worker, instance, *units, seal=seal),),
    )


@pytest.mark.parametrize(
    "seal",
    [
        b"",
        SEAL.make(NodeId(1), OLD_WORKER, ONE),
        SEAL.make(NodeId(1), Attempt(1, 8), TWO),
        SEAL.make(NodeId(OTHER_NODE), OLD_WORKER, TWO),
    ],
)
def test_a_restarted_master_is_told_of_workers_that_it_never_gave(
    bench: UnitBench, tmp_path: Path, seal: bytes
) -> None:
    """They get no unit of the instance that they claim, and no result of theirs is recorded."""
    main = theirs(bench)
    again = restarted(bench, tmp_path)
    again.plug()
    said = again.say(claimed(OLD_WORKER, TWO, seal))
    assert [OLD_WORKER] == again.released
    assert UnitsRecorded(OLD_BATCH, 3) in said
    assert [UnitsRecorded(OLD_BATCH, 1)] == again.say(UnitsDone(OLD_WORKER, OLD_BATCH, 0, [b"mine"]))
    again.dispatcher.feed(inputs.NodeReady(NodeId(OTHER_NODE), 1, (main,)))
    again.dispatcher.units.asked(NodeId(OTHER_NODE), asked(main, 0, 1))
    again.cable.settle()
    assert OLD_WORKER not in {each.worker for each in again.node.take() if isinstance(each, RunUnits)}
    assert [] == again.result(again.store.units(TWO, "Sub", [0, 1, 2]))
    assert again.cable.is_up
    again.close()


def test_a_restarted_master_is_told_of_workers_that_it_gave(bench: UnitBench, tmp_path: Path) -> None:
    """They go on, and what they told is recorded."""
    again = restarted(bench, tmp_path)
    again.plug()
    seal = SEAL.make(NodeId(1), OLD_WORKER, ONE)
    again.say(msgspec.structs.replace(claimed(OLD_WORKER, ONE, seal), running=(again.root,)))
    again.say(UnitsDone(OLD_WORKER, OLD_BATCH, 0, [b"mine"]))
    assert [] == again.released
    assert [0] == again.complete(0, 1, 2)
    again.close()


def test_more_workers_than_a_node_has_slots(bench: UnitBench, tmp_path: Path) -> None:
    """Of workers on slots of their own, as many are taken over as it has slots."""
    again = restarted(bench, tmp_path)
    again.plug()
    old = [Attempt(1, number) for number in range(10, 15)]
    workers = [
        HeldWorker(each, ONE, index, SEAL.make(NodeId(1), each, ONE)) for index, each in enumerate(old, 1)
    ]
    again.say(msgspec.structs.replace(hello(2, (again.root,)), workers=tuple(workers)))
    assert old[2:] == again.released
    again.close()


def test_large_columns_are_refused_by_their_first_fault(bench: UnitBench) -> None:
    """Nothing is made of an ask whose columns differ, however large one is."""
    bench.say(UnitsAsked(bench.root, "Sub", list(range(20_000)), [b""], b""))
    assert "refused" in failed(bench)
