# SPDX-License-Identifier: MIT
"""A node with real workers in real sandboxes, and a master that does nothing but lend them units."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import (
    BlobWanted,
    HireWorker,
    RunUnit,
    RunUnits,
    StopUnit,
    ToMaster,
    UnitFinished,
    UnitLog,
    UnitResults,
    UnitsAsked,
    UnitsDone,
    UnitsRecorded,
    WorkerLost,
)
from pydra.model.ids import Attempt, InstanceId, PackageName, TaskKey, WorkerKey
from pydra.model.instance import Payload
from tests.support.cables import chunked
from tests.support.instances import VERSION
from tests.support.launchers import Bench, isolations, launcher
from tests.support.nodes import NodeBench, lines

BATCH = 100
"""Units in a batch."""

INSTANCE = InstanceId(1)
ROOT = Attempt(1, 1)


class SandboxedNode:
    """
    One instance on a real node: its root, and hired workers of a fixed number.

    A batch goes to the worker that has the fewest units, but to none that waits for units of its own; one
    more is hired if all do. Nothing is stored.
    """

    def __init__(self, bench: Bench, directory: Path, package: Path) -> None:
        self.bench = bench
        (directory / "packages" / package.name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(package, directory / "packages" / package.name / VERSION)
        self.node = NodeBench(directory, bench.reactor, bench.pool)  # type: ignore[arg-type]
        self.package = PackageName(package.name)
        self.task_key = TaskKey("")
        self.batches: dict[Attempt, tuple[Attempt, UnitsAsked, int]] = {}
        """Asker, what it asked, and the position of the first in that."""
        self.loads: dict[Attempt, int] = {}
        """Units that each hired worker has."""
        self.finished: list[UnitFinished] = []
        self.lost: list[WorkerLost] = []
        self.asked: list[UnitsAsked] = []
        self.lines: list[Any] = []
        self.done: list[UnitsDone] = []
        self.busy: dict[Attempt, int] = {}
        """Units that each hired worker has done."""
        self._number = 1
        self.node.greet()

    def run(self, task_key: str, workers: int, **arguments: object) -> None:
        """Begin the root, and hire so many workers."""
        self.task_key = TaskKey(task_key)
        for _ in range(workers):
            self.hire()
        packed = payload.pack(arguments)
        run = RunUnit(
            ROOT,
            INSTANCE,
            self.task_key,
            self.package,
            VERSION,
            Payload(len(packed), packed),
            WorkerKey("node:1:0"),
        )
        self._tell(run)

    def hire(self) -> Attempt:
        """One more worker."""
        worker = self._attempt()
        self.loads[worker] = self.busy[worker] = 0
        self._tell(HireWorker(worker, INSTANCE, self.task_key, self.package, VERSION, WorkerKey("node:1:1")))
        return worker

    def stop(self) -> None:
        """Set the stop flag of the root."""
        self._tell(StopUnit(ROOT))

    def result(self, limit_s: float = 60.0) -> object:
        """What the root returned, when it has; or its failure."""
        self.until(lambda: self.finished, limit_s)
        told = self.finished[0]
        if told.result is None:
            return told.failure
        return payload.unpack(told.result.inline)

    def until(self, true: Callable[[], object], limit_s: float = 30.0) -> None:
        """Go on until it is true."""

        def turned() -> object:
            self._turn()
            return true()

        self.bench.until(turned, limit_s=limit_s)

    def close(self) -> None:
        """End everything."""
        node = self.node
        node.cable.pull()
        node.link.stop()
        node.units.kill_all("The test is over.")
        node.hired.kill_all("The test is over.")
        node.logs.halt()
        node.delivery.close()
        closed: list[object] = []
        Deferred.fromCoroutine(node.outbox.close()).addBoth(closed.append)
        self.bench.until(lambda: closed)

    def _attempt(self) -> Attempt:
        self._number += 1
        return Attempt(1, self._number)

    def _tell(self, *messages: Any) -> None:
        for message in messages:
            self.node.cable.master.send(message)

    def _turn(self) -> None:
        self.node.cable.settle()
        for message in self.node.master.take():
            self._take(message)
        self.node.cable.settle()

    def _take(self, message: ToMaster) -> None:
        match message:
            case UnitsAsked():
                self.asked.append(message)
                self.feed(message)
            case UnitsDone():
                self.done.append(message)
                self._done(message)
            case UnitFinished():
                self.finished.append(message)
            case BlobWanted():
                data = bytes(self.node.master.sinks[message.sha256].data)
                sent = self.node.cable.master_bulk.send("blob", message.sha256, chunked(data))
                Deferred.fromCoroutine(sent)
            case WorkerLost():
                self.lost.append(message)
                self.loads.pop(message.worker, None)
            case UnitLog():
                self.lines += lines([message])

    def feed(self, asked: UnitsAsked) -> None:
        """Give units to workers."""
        for start in range(0, len(asked.indexes), BATCH):
            end = min(start + BATCH, len(asked.indexes))
            busy = {asker for asker, *_ in self.batches.values()} | {asked.asker}
            idle = [worker for worker in self.loads if worker not in busy]
            worker = min(idle, key=self.loads.__getitem__) if idle else self.hire()
            batch = self._attempt()
            self.batches[batch] = (asked.asker, asked, start)
            self.loads[worker] += end - start
            blobs = {place - start: blob for place, blob in asked.blobs.items() if start <= place < end}
            self._tell(
                RunUnits(
                    worker,
                    batch,
                    asked.branch,
                    asked.indexes[start:end],
                    asked.args[start:end],
                    asked.digests[16 * start : 16 * end],
                    blobs,
                    asked.time_limit,
                )
            )

    def _done(self, done: UnitsDone) -> None:
        asker, asked, start = self.batches[done.batch]
        count = len(done.results)
        self.loads[done.worker] -= count
        self.busy[done.worker] += count
        first = start + done.start
        indexes = asked.indexes[first : first + count]
        self._tell(
            UnitsRecorded(done.batch, done.start + count),
            UnitResults(asker, asked.branch, indexes, done.results, done.failures, done.blobs),
        )


@contextmanager
def sandboxed_node(directory: Path, package: Path) -> Iterator[SandboxedNode]:
    """A node in the best isolation that can be had here; all of it is gone at the end."""
    isolation = isolations()[0]
    with launcher(directory, isolation, worker="pydra.cluster.worker.main") as started:
        bench = Bench(started, isolation, 2)
        try:
            node = SandboxedNode(bench, started.runtime, package)
            try:
                yield node
            finally:
                node.close()
        finally:
            bench.close()
