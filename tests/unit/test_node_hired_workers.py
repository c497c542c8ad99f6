# SPDX-License-Identifier: MIT
"""The hired workers of a node over broken links: what is told again, and what is held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.surroundings import PAUSES_S
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    Heartbeat,
    HeldBatch,
    HeldWorker,
    NodeHello,
    UnitsRecorded,
)
from pydra.model.ids import Attempt, PackageName, PackageVersion
from tests.support.hired import BATCH, ONE, WORKER, done, hired, loss
from tests.support.nodes import HEARTBEAT_S, ORPHAN_GRACE_S, NodeBench, batch, hire, unit


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def test_what_it_holds(bench: NodeBench) -> None:
    """On a new link the node names its hired workers and all batches that are not done with."""
    worker = hired(bench)
    bench.tell(batch(3), batch(2, number=101))
    worker.says(frames.DONE, "1.100", 0, [b"\x05", b"\x06"], {}, 0.5)
    worker.says(frames.DONE, "1.100", 2, [b"\x07"], {}, 0.5)
    bench.tell(UnitsRecorded(BATCH, 2))
    bench.cable.pull()
    hello, *told = bench.greet()
    assert isinstance(hello, NodeHello)
    assert (HeldWorker(WORKER, ONE, 0),) == hello.workers
    first = HeldBatch(BATCH, WORKER, ONE, "Sub", [0, 1, 2], bytes(48), 2)
    assert (first, HeldBatch(Attempt(1, 101), WORKER, ONE, "Sub", [0, 1], bytes(32))) == hello.batches
    assert [done(2, b"\x07")] == told
    bench.tell(UnitsRecorded(BATCH, 3), UnitsRecorded(BATCH, 3), UnitsRecorded(Attempt(1, 7), 1))
    assert [Heartbeat((WORKER,), 1)] == bench.advance(HEARTBEAT_S)
    worker.says(frames.DONE, "1.101", 0, [b"\x08"], {}, 0.5)
    assert 1 == len(bench.settle())


def test_a_loss_without_a_link(bench: NodeBench) -> None:
    """It is told on the next one, after its results, as if the worker were there until then."""
    worker = hired(bench)
    bench.tell(batch(2))
    bench.cable.pull()
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    worker.exits(WorkerExit(139, "killed by SIGSEGV"))
    hello, told, lost = bench.greet()
    assert isinstance(hello, NodeHello)
    assert (HeldWorker(WORKER, ONE, 0),) == hello.workers
    assert (HeldBatch(BATCH, WORKER, ONE, "Sub", [0, 1], bytes(32)),) == hello.batches
    assert done(0, b"\x05") == told
    assert "worker_died" == loss([lost]).code
    bench.cable.pull()
    hello, _ = bench.greet()
    assert isinstance(hello, NodeHello)
    assert ((), (HeldBatch(BATCH, WORKER, ONE, "Sub", [0], bytes(16)),)) == (hello.workers, hello.batches)


def test_units_for_a_worker_that_has_just_ended(bench: NodeBench) -> None:
    """Its loss is told once, with its reason and after its results, however slow the disk is."""
    worker = hired(bench)
    bench.tell(batch(2))
    bench.hold_disk()
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    worker.exits(WorkerExit(139, "killed by SIGSEGV"))
    assert [] == bench.tell(batch(1, number=101))
    bench.release_disk()
    told, lost = bench.settle()
    assert done(0, b"\x05") == told
    assert "The worker ended before its units: killed by SIGSEGV." == loss([lost]).message


def test_a_node_that_was_killed(tmp_path: Path) -> None:
    """The next one has no workers, and the results of those before: it tells them, and runs nothing again."""
    bench = NodeBench(tmp_path)
    bench.greet()
    worker = hired(bench)
    bench.tell(batch(3))
    bench.cable.pull()
    worker.says(frames.DONE, "1.100", 0, [b"\x05", b"\x06"], {}, 0.5)
    bench.kill()
    again = NodeBench(tmp_path, bench.clock)
    hello, told = again.greet()
    assert isinstance(hello, NodeHello)
    assert () == hello.workers
    assert (HeldBatch(BATCH, WORKER, ONE, "Sub", [0, 1], bytes(32)),) == hello.batches
    assert done(0, b"\x05", b"\x06") == told
    assert [] == again.tell(batch(3))
    assert [] == again.workers.taken
    again.tell(UnitsRecorded(BATCH, 2))
    assert [] == again.outbox.batches()
    again.close()


def test_a_full_outbox(bench: NodeBench) -> None:
    """No units go in until the master has taken results, and no worker is begun; those that run end."""
    worker = hired(bench)
    bench.tell(batch(1))
    bench.outbox._limit = 0
    bench.tell(batch(1, number=101), hire(51), unit(2))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    assert [done(0, b"\x05")] == bench.settle()
    assert ["1.100"] == [frame[1] for frame in worker.sent if frame[0] == frames.UNITS]
    assert 1 == len(bench.workers.taken)
    bench.outbox._limit = 10**9
    bench.tell(UnitsRecorded(BATCH, 1))
    assert ["1.100", "1.101"] == [frame[1] for frame in worker.sent if frame[0] == frames.UNITS]
    bench.advance(PAUSES_S[0])
    assert 3 == len(bench.workers.taken)


def test_a_fault_of_ours(bench: NodeBench) -> None:
    """Whatever keeps a worker from being started ends it: nobody waits for it."""

    def broken(package: PackageName, version: PackageVersion) -> bool:
        raise OSError("Input/output error")

    bench.packages._versions._sizes.clear()
    bench.packages._repository.has = broken  # type: ignore[method-assign]
    assert "failed to start it" in loss(bench.tell(hire())).message
    assert () == bench.hired.attempts()


def test_orphan_grace(bench: NodeBench) -> None:
    """Without a master hired workers are ended after the grace too."""
    worker = hired(bench)
    bench.cable.pull()
    bench.clock.advance(ORPHAN_GRACE_S)
    assert worker.is_killed
    assert "no master for 600 s" in loss(bench.greet()).message


def test_a_large_hello(bench: NodeBench) -> None:
    """Batches that have no room in the hello come before it."""
    hired(bench)
    indexes = list(range(1000))
    for number in range(100, 120):
        bench.tell(batch(1000, number=number, indexes=indexes))
    bench.cable.pull()
    *earlier, hello = bench.greet()
    assert isinstance(hello, NodeHello)
    held = [each for message in earlier for each in message.batches] + list(hello.batches)  # type: ignore[union-attr]
    assert list(range(100, 120)) == [each.batch.number for each in held]
