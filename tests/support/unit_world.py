# SPDX-License-Identifier: MIT
"""A master and a node whose workers ask for units and run them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import ToNode, UnitResults, UnitsRecorded
from pydra.model.ids import InstanceId, NodeId
from pydra.model.status import Status
from pydra.model.unit import UnitRow
from tests.support.fakes import MemoryStore
from tests.support.workers import ScriptedWorker
from tests.support.world import World

Unit = tuple[InstanceId, str, int]


class SlowStore(MemoryStore):
    """A store whose answers about units may take long: from ``hold_reads`` to ``release_reads``."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Deferred[None]] | None = None

    def hold_reads(self) -> None:
        """Later answers wait."""
        self.reads = []

    def release_reads(self) -> None:
        """They are given, and later ones at once."""
        reads, self.reads = self.reads or [], None
        for waiting in reads:
            waiting.callback(None)

    async def units(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there were when this was asked."""
        found = await super().units(instance, branch, indexes)
        if self.reads is not None:
            waiting: Deferred[None] = Deferred()
            self.reads.append(waiting)
            await waiting
        return found


class UnitWorld(World):
    """
    ``ran`` are the results that workers gave for each unit, ``rows`` the units as they were recorded first.

    Results are different each time that a unit is run, so that it is seen which one was recorded.
    """

    def __init__(self, directory: Path) -> None:
        self.ran: dict[Unit, list[bytes]] = {}
        self.rows: dict[Unit, UnitRow] = {}
        self.done: dict[int, int] = {}
        """How many units each hired worker has run."""
        self.wanted: dict[int, dict[tuple[str, int], int]] = {}
        """What each worker asked for, and how many frames it had been sent then."""
        super().__init__(directory)

    store: SlowStore

    def make_store(self) -> SlowStore:
        """The store of all masters."""
        return SlowStore()

    # What may happen.

    def hired(self) -> list[ScriptedWorker]:
        """The hired workers."""
        return [worker for worker in self.alive() if worker.sent[0][0] == frames.SERVE]

    def current(self, worker: ScriptedWorker) -> tuple[str, str, int, list[int]] | None:
        """The units that a hired worker has before it: name, branch, position of the first, indexes."""
        left = self.done.get(id(worker), 0)
        for frame in worker.sent:
            if frame[0] == frames.UNITS:
                name, branch, indexes = frame[1:4]
                assert isinstance(indexes, list)
                if left < len(indexes):
                    return str(name), str(branch), left, indexes[left:]
                left -= len(indexes)
        return None

    def ask(self, worker: ScriptedWorker, count: int, first: int = 0) -> None:
        """A worker asks for units, of whom it may have the results."""
        branch = "Sub"
        if worker.sent[0][0] == frames.SERVE:
            current = self.current(worker)
            if current is None or current[1].count("/") > 1:
                return
            branch = f"{current[1]}:{current[3][0]}/Sub"
        waiting = self.unanswered(worker)
        indexes = [index for index in range(first, first + count) if (branch, index) not in waiting]
        if not indexes:
            return
        args = [b"%d" % index for index in indexes]
        digests = b"".join(hashlib.blake2b(each, digest_size=16).digest() for each in args)
        wanted = self.wanted.setdefault(id(worker), {})
        wanted.update({(branch, index): len(worker.sent) for index in indexes})
        worker.says(frames.ASK, branch, indexes, args, digests, 0.0)

    def unanswered(self, worker: ScriptedWorker) -> set[tuple[str, int]]:
        """What a worker asked for and has no answer to."""
        wanted = dict(self.wanted.get(id(worker), {}))
        for number, frame in enumerate(worker.sent):
            if frame[0] == frames.RESULTS:
                branch, indexes = frame[1:3]
                assert isinstance(indexes, list)
                for index in indexes:
                    if wanted.get((str(branch), index), number + 1) <= number:
                        del wanted[str(branch), index]
        return set(wanted)

    def run(self, worker: ScriptedWorker, count: int, fails: bool = False) -> None:
        """A hired worker runs units, unless it waits for units of its own."""
        current = self.current(worker)
        if current is None or self.unanswered(worker):
            return
        name, branch, start, indexes = current
        indexes = indexes[:count]
        instance = worker.sent[0][2]
        assert isinstance(instance, int)
        results = []
        for index in indexes:
            ran = self.ran.setdefault((InstanceId(instance), branch, index), [])
            ran.append(f"{branch} {index} {len(ran)}".encode())
            results.append(ran[-1])
        failures: dict[int, Any] = {0: ["failed", "ValueError: no", ""]} if fails else {}
        self.done[id(worker)] = self.done.get(id(worker), 0) + len(indexes)
        worker.says(frames.DONE, name, start, results, failures, 0.001 * len(indexes))

    def go_on(self, worker: ScriptedWorker) -> None:
        """Hired workers run what they have; the root ends when it has all it asked for."""
        for hired in self.hired():
            self.run(hired, 1_000)
        if not self.unanswered(worker):
            self.complete(worker, 10)

    # What must be true.

    def send(self, node: NodeId, message: ToNode) -> None:
        """No result is given before it is recorded, nor another one than that."""
        if isinstance(message, UnitResults):
            held = self.master.scheduler.worker(message.asker)
            if held is None:
                self.faults.append(f"{message.asker} was given results, and is not there")
            else:
                self._check_given(held[0], message)
        if isinstance(message, UnitsRecorded):
            batch = self.master.scheduler.state.batches.get(message.batch)
            if batch is not None and message.count > batch.done:
                self.faults.append(f"{message.batch} was acknowledged before its results were told")
        super().send(node, message)

    def _check_given(self, instance: InstanceId, message: UnitResults) -> None:
        rows = self.stored(instance).get(message.branch, {})
        for at, (index, result) in enumerate(zip(message.indexes, message.results, strict=True)):
            row = rows.get(index)
            if row is None:
                self.faults.append(f"{instance}/{message.branch}:{index} was given before it was stored")
            elif at not in message.failures and (row.result is None or row.result.inline != result):
                self.faults.append(f"{instance}/{message.branch}:{index} is not what was stored")

    def stored(self, instance: InstanceId) -> dict[str, dict[int, UnitRow]]:
        """The units of an instance that are committed."""
        return self.store._units._rows.get(instance, {})

    def check(self) -> None:
        """What is complete has the result of a run, and never changes."""
        super().check()
        for instance, branches in self.store._units._rows.items():
            for branch, rows in branches.items():
                for index, row in rows.items():
                    if row.status is Status.COMPLETE:
                        unit = (instance, branch, index)
                        assert row == self.rows.setdefault(unit, row), "what is complete has changed"
                        assert row.result is not None
                        assert row.result.inline in self.ran[unit]

    def drain(self) -> None:
        """Faults stop: who asked gets all of it, and no worker or result is left."""
        self.store.release_reads()
        super().drain()
        assert () == self.node.hired.held()
        assert [] == self.node.outbox.batches()
        assert {} == self.master.dispatcher.units._look_ups._active
