# SPDX-License-Identifier: MIT
"""A paired node that says whatever it likes harms nothing but its own work."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.scheduler import inputs, invariants
from pydra.cluster.wire.log_records import LogRecord, pack_lines
from pydra.cluster.wire.messages import (
    PROTOCOL,
    BlobWanted,
    Heartbeat,
    HeldBatch,
    HeldBatches,
    HeldWorker,
    NodeHello,
    PackageWanted,
    RunUnit,
    ToMaster,
    UnitFinished,
    UnitLog,
    UnitProgress,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
    WorkerLost,
)
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion
from pydra.model.instance import Failure, LogLine, Payload
from pydra.model.node import ISOLATIONS, NodeInformation
from tests.support.instances import queued_instance
from tests.support.masters import RESULT
from tests.support.node_links import SEAL, LinkBench, hello
from tests.support.unit_links import UnitBench, restarted

OTHER = NodeId(2)
ANY = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**64 - 1))
TEXTS = st.one_of(
    st.sampled_from(["", "complete", "failed", "stopped", "lost", "demo", "a", "none", "full", "../.."]),
    st.text(max_size=20),
)
NUMBERS = st.one_of(st.integers(0, 5), st.integers(0, 2**63 - 1))
ATTEMPTS = st.builds(Attempt, st.integers(0, 2), st.integers(0, 5)) | st.builds(Attempt, NUMBERS, NUMBERS)
NO_ATTEMPTS = st.builds(Attempt, ANY, ANY)
"""Most of these are refused with their message, and with its link."""
INSTANCES = st.one_of(st.just(1), st.integers(-1, 5), ANY).map(InstanceId)
PAYLOADS = st.builds(Payload, ANY, st.binary(max_size=20), TEXTS)
FAILURES = st.builds(Failure, TEXTS, TEXTS, TEXTS)
LINES = st.builds(LogLine, st.floats(), TEXTS, TEXTS, TEXTS)
ISOLATION = st.sampled_from(ISOLATIONS) | TEXTS
INFORMATION = st.builds(NodeInformation, ANY, ANY, ANY, ANY, ISOLATION, TEXTS, TEXTS, TEXTS)
PACKED = st.lists(LINES, max_size=3).map(pack_lines) | st.binary(max_size=20)
RECORDS = st.builds(LogRecord, ATTEMPTS, NUMBERS, st.integers(0, 3) | NUMBERS, PACKED, st.none() | TEXTS, ANY)
SEALS = st.just(SEAL.make(NodeId(1), Attempt(1, 1), InstanceId(1)))
MANY = st.lists(ATTEMPTS, max_size=4).map(tuple)
BRANCHES = st.sampled_from(["Sub", "Sub:0/Sub", ""]) | TEXTS
COUNTS = st.integers(1, 3)
INDEXES = st.integers(0, 4) | ANY.map(abs)
BLOBS = st.dictionaries(st.integers(-1, 3) | ANY, PAYLOADS, max_size=2)
UNIT_FAILURES = st.dictionaries(st.integers(-1, 3) | ANY, FAILURES, max_size=2)
NO_MAP = st.just({})  # type: ignore[var-annotated]  # for any of the maps


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[int], list[bytes], bytes]:
    """Indexes, arguments and digests, which fit together in most cases."""
    count = draw(COUNTS)
    indexes = draw(st.lists(INDEXES, min_size=count, max_size=count))
    odd = draw(st.sampled_from([0, 0, 0, 0, 1]))
    return indexes, [b"\x80"] * (count + odd), b"d" * 16 * (count + draw(st.sampled_from([0, 0, 0, odd])))


def own(worker: Attempt) -> bytes:
    """The seal that the hostile node got with a worker of its own instance."""
    return SEAL.make(NodeId(1), worker, InstanceId(1))


HELD_BATCHES = st.builds(
    lambda batch, worker, instance, branch, units, recorded: HeldBatch(
        batch, worker, instance, branch, units[0], units[2], recorded, own(worker)
    ),
    ATTEMPTS,
    ATTEMPTS,
    INSTANCES,
    BRANCHES,
    columns(),
    st.integers(0, 1) | NUMBERS,
)
SEVERAL_BATCHES = st.lists(HELD_BATCHES, max_size=2).map(tuple)
HELD_WORKERS = st.lists(
    st.builds(
        lambda worker, instance, index: HeldWorker(worker, instance, index, own(worker)),
        ATTEMPTS,
        INSTANCES,
        st.integers(0, 5) | NUMBERS,
    ),
    max_size=2,
).map(tuple)
UNIT_MESSAGES: st.SearchStrategy[ToMaster] = st.one_of(
    st.builds(
        lambda asker, branch, units, blobs, limit: UnitsAsked(asker, branch, *units, blobs, limit),
        ATTEMPTS,
        BRANCHES,
        columns(),
        NO_MAP | BLOBS,
        st.just(0.0) | st.floats(),
    ),
    st.builds(UnitsForgotten, ATTEMPTS, BRANCHES),
    st.builds(
        UnitsDone,
        ATTEMPTS,
        ATTEMPTS,
        NUMBERS,
        st.lists(st.binary(max_size=3), max_size=3),
        NO_MAP | UNIT_FAILURES,
        NO_MAP | BLOBS,
        st.floats(0.0, 1.0) | st.floats(),
    ),
    st.builds(WorkerLost, ATTEMPTS, FAILURES),
    st.builds(HeldBatches, SEVERAL_BATCHES),
)
MESSAGES: st.SearchStrategy[ToMaster] = st.one_of(
    st.builds(
        NodeHello,
        st.just(PROTOCOL) | ANY,
        TEXTS,
        st.integers(1, 3) | ANY,
        INFORMATION,
        st.just((Attempt(1, 1),)) | MANY,
        MANY,
        HELD_WORKERS,
        SEVERAL_BATCHES,
    ),
    st.builds(UnitFinished, ATTEMPTS, TEXTS, st.none() | PAYLOADS, st.none() | FAILURES, NUMBERS),
    st.builds(UnitProgress, ATTEMPTS, INSTANCES, ANY, st.none() | TEXTS),
    st.builds(UnitLog, INSTANCES, st.binary(max_size=20) | SEALS, RECORDS),
    st.builds(PackageWanted, TEXTS.map(PackageName), TEXTS.map(PackageVersion)),
    st.builds(BlobWanted, TEXTS),
    st.builds(Heartbeat, MANY),
    st.builds(UnitFinished, NO_ATTEMPTS, TEXTS),
    UNIT_MESSAGES,
)


@given(st.lists(st.lists(MESSAGES, max_size=4) | st.floats(0.0, 70.0), max_size=12))
def test_a_hostile_node(happenings: list[list[ToMaster] | float]) -> None:
    """
    Nothing is raised, the scheduler stays whole, and the instance of an honest node is not touched.

    The hostile node runs instance 1; instance 2 runs on the other one.
    """
    with TemporaryDirectory() as directory:
        bench = LinkBench(Path(directory))
        try:
            _begin(bench)
            _play(bench, happenings)
        finally:
            bench.close()


CLAIMS = st.builds(
    lambda workers, batches: msgspec.structs.replace(
        hello(2, (Attempt(1, 1),)), workers=workers, batches=batches
    ),
    HELD_WORKERS,
    SEVERAL_BATCHES,
)


@given(CLAIMS, st.lists(st.lists(MESSAGES, max_size=4) | st.floats(0.0, 70.0), max_size=12))
def test_a_hostile_node_of_a_restarted_master(
    claims: NodeHello, happenings: list[list[ToMaster] | float]
) -> None:
    """It may say that it has anything of before, and still has nothing but its own."""
    with TemporaryDirectory() as directory:
        before = UnitBench(Path(directory))
        _begin(before)
        again = restarted(before, Path(directory))
        try:
            again.dispatcher.feed(inputs.NodeReady(OTHER, 1, (Attempt(1, 2),)))
            again.plug()
            again.tell(claims)
            _play(again, happenings)
        finally:
            again.close()


def _begin(bench: LinkBench) -> None:
    bench.submit(1)
    [run] = bench.greet()
    assert isinstance(run, RunUnit)
    bench.dispatcher.feed(inputs.NodeReady(OTHER, 1))
    bench.submit(2)


def _play(bench: LinkBench, happenings: list[list[ToMaster] | float]) -> None:
    theirs = bench.dispatcher.live[InstanceId(2)]
    assert (OTHER, Attempt(1, 2)) == (theirs.node, theirs.attempt)
    for happening in happenings:
        if isinstance(happening, float):
            bench.clock.advance(happening)
        elif bench.cable.is_up:
            bench.tell(*happening)
        else:
            bench.plug()
        bench.dispatcher.feed(inputs.HeartbeatReceived(OTHER, (Attempt(1, 2),)))
        invariants.check(bench.scheduler.state)
        view = bench.scheduler.node(OTHER)
        assert view is not None
        if view.standing.is_connected:
            assert theirs == bench.dispatcher.live[InstanceId(2)]
        else:
            return  # more time than a lease passed at once
    assert [] == bench.lines(2)
    assert [] == bench.fatal
    assert [] == bench.result(bench.store.unit_page(InstanceId(2)))
    bench.finish(Attempt(1, 2), node=OTHER)
    assert RESULT == bench.stored(2).result
    assert queued_instance(2).args == bench.stored(2).args
