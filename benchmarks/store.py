# SPDX-License-Identifier: MIT
"""
``python -m benchmarks store``: what it costs to keep work units.

Units are committed to a store on a disk, durably, in changes of so many units, eight of them under way at a
time. Told are units a second, the CPU time of the writing thread and of the reactor's for each, and how long
a lone commit takes beside that. The last rows are measured while the reactor computes without a pause, which
is the worst that can happen to a thread that shares its interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import reactor, task  # noqa: TID251 - this is a program of its own
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorThreads, IReactorTime

from pydra.cluster.store.database import SWITCH_S
from pydra.cluster.store.store import DjangoStore
from pydra.model.changes import Change, InsertInstance, InsertUnits, PutNode, RecordUnits
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Instance, Payload
from pydra.model.node import Node
from pydra.model.status import Status

UNDER_WAY = 8
"""Commits that are not answered yet."""

PROBE_S = 0.02
"""Seconds between two lone commits."""

BUSY_S = 0.002
"""Seconds that one call of a busy reactor takes."""

ONE = InstanceId(1)


class Measured(NamedTuple):
    """Of one run, for each unit, in microseconds; and the median and the longest lone commit, in seconds."""

    wall: float
    writer: float
    reactor: float
    lone: float
    longest: float


def batches(units: int, batch: int) -> Iterator[tuple[range, list[bytes], bytes]]:
    """Indexes, payloads and digests of one change after another."""
    for first in range(0, units, batch):
        indexes = range(first, min(units, first + batch))
        digests = (hashlib.blake2b(b"%d" % index, digest_size=16).digest() for index in indexes)
        yield indexes, [bytes([0xC0]) for _ in indexes], b"".join(digests)


def inserts(units: int, batch: int) -> list[Change]:
    """What the client of a session submits."""
    return [
        InsertUnits(ONE, "Sub", list(each), args, digests) for each, args, digests in batches(units, batch)
    ]


def records(units: int, batch: int) -> list[Change]:
    """What workers did."""
    return [
        RecordUnits(
            *(ONE, "Sub", list(indexes), digests, results, {}, {}),
            *(Attempt(1, number), NodeId(1), 1_700_000_000.5),
        )
        for number, (indexes, results, digests) in enumerate(batches(units, batch))
    ]


def writer_seconds() -> float:
    """CPU time of the thread that writes."""
    (thread,) = (each for each in threading.enumerate() if each.name == "pydra-store-writer")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


async def feed(store: DjangoStore, changes: Sequence[Change]) -> None:
    """Commit the changes, one a call, so many under way at a time."""
    following = iter(changes)

    async def feed_some() -> None:
        for change in following:
            await store.commit([change])

    await gatherResults([Deferred.fromCoroutine(feed_some()) for _ in range(UNDER_WAY)])


async def probe(store: DjangoStore, clock: IReactorTime, until: Callable[[], bool]) -> list[float]:
    """Seconds that lone commits take meanwhile."""
    found = []
    while not until():
        begun = time.perf_counter()
        await store.commit([PutNode(Node(NodeId(1), "host", 1, "F", 1))])
        found.append(time.perf_counter() - begun)
        await task.deferLater(clock, PROBE_S)
    return found


async def measure(directory: Path, changes: Sequence[Change], units: int, busy: bool) -> Measured:
    """One run on a new store."""
    assert IReactorThreads.providedBy(reactor)
    assert IReactorTime.providedBy(reactor)
    store = await DjangoStore.open(directory / "store.sqlite3", reactor, print)
    await store.commit([InsertInstance(instance())])
    computing = task.LoopingCall(spin)
    computing.clock = reactor
    done = False
    lone = Deferred.fromCoroutine(probe(store, reactor, lambda: done))
    if busy:
        computing.start(0).addErrback(print)
    begun = time.perf_counter(), writer_seconds(), time.thread_time()
    await feed(store, changes)
    ended = time.perf_counter(), writer_seconds(), time.thread_time()
    if busy:
        computing.stop()
    done = True
    waits = await lone
    assert (await store.unit_counts(ONE)).complete == units
    await store.close()
    for file in directory.iterdir():
        file.unlink()
    each = [(after - before) / units * 1e6 for before, after in zip(begun, ended, strict=True)]
    return Measured(*each, lone=statistics.median(waits), longest=max(waits))


def spin() -> None:
    """Compute for a moment."""
    end = time.perf_counter() + BUSY_S
    while time.perf_counter() < end:
        pass


def instance() -> Instance:
    """The one that the units are of."""
    key, package, version = TaskKey("p.m.T"), PackageName("p"), PackageVersion("00")
    return Instance(ONE, key, package, version, Payload(0), Status.QUEUED, 0.0)


async def figures(units: int, repetitions: int) -> None:
    """Measure and print; of each case the run in which the writer had least to do."""
    columns = f"{'units/s':>9} {'wall':>7} {'writer':>7} {'reactor':>8} {'a lone commit':>14} {'longest':>8}"
    print(f"{'for each unit, in microseconds':46} {columns}")
    with tempfile.TemporaryDirectory() as name:
        for batch, busy in ((500, False), (500, True), (50, False), (50, True), (1, False), (1, True)):
            some = units if batch > 1 else units // 10
            both = [*inserts(some, batch), *records(some, batch)]
            for words, changes in (("one write", records(some, batch)), ("two writes", both)):
                found = [await measure(Path(name), changes, some, busy) for _ in range(repetitions)]
                told = f"{words}, {batch} a change{', the reactor is busy' if busy else ''}"
                show(told, min(found, key=lambda each: each.writer))


def show(name: str, figure: Measured) -> None:
    """One row."""
    print(
        f"{name:46} {1e6 / figure.wall:9.0f} {figure.wall:7.2f} {figure.writer:7.2f} {figure.reactor:8.2f}"
        f" {figure.lone * 1e3:11.2f} ms {figure.longest * 1e3:5.0f} ms"
    )


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run the reactor until this has ended."""
    failures: list[object] = []
    ended = Deferred.fromCoroutine(coroutine)
    ended.addErrback(failures.append)
    ended.addBoth(lambda _: reactor.callLater(0, reactor.stop))  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    for failure in failures:
        print(failure)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks store", description=__doc__)
    parser.add_argument(
        "--units", type=int, default=100_000, help="units of each run; of single ones a tenth"
    )
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each case")
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    run(figures(options.units, options.repetitions))
