# SPDX-License-Identifier: MIT
"""A master's end of a link whose node runs units: what the main worker asks for, hired workers do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.task import Clock

from pydra.cluster.wire.messages import (
    HeldBatch,
    HeldWorker,
    HireWorker,
    NodeHello,
    ReleaseWorker,
    RunUnit,
    RunUnits,
    ToMaster,
    ToNode,
    UnitResults,
    UnitsAsked,
    UnitsDone,
    UnitsRecorded,
)
from pydra.model.ids import Attempt, InstanceId
from pydra.model.status import Status
from pydra.model.unit import UnitRow
from tests.support.fakes import MemoryStore
from tests.support.node_links import LinkBench, hello


def digest(index: int, kind: str = "") -> bytes:
    """The digest of the arguments of a unit."""
    return hashlib.blake2b(f"{index}{kind}".encode(), digest_size=16).digest()


def asked(asker: Attempt, *indexes: int, branch: str = "Sub", kind: str = "", **fields: Any) -> UnitsAsked:
    """An ask for units; those of another ``kind`` have other arguments."""
    args = [f"{index}{kind}".encode() for index in indexes]
    digests = b"".join(digest(index, kind) for index in indexes)
    return msgspec.structs.replace(UnitsAsked(asker, branch, list(indexes), args, digests), **fields)


def result_of_unit(index: int) -> bytes:
    """What the workers of this bench make of a unit."""
    return f"result of {index}".encode()


class UnitBench(LinkBench):
    """
    The node of the link has two slots; instance 1 runs as ``root`` after ``begin``.

    ``workers`` and ``batches`` are what it was told to have, ``given`` the results that it was given.
    """

    def __init__(self, directory: Path, store: MemoryStore | None = None, clock: Clock | None = None) -> None:
        super().__init__(directory, store, clock)
        self.root = Attempt(0, 0)
        self.workers: dict[Attempt, HireWorker] = {}
        self.released: list[Attempt] = []
        self.batches: dict[Attempt, RunUnits] = {}
        self.ran: list[int] = []
        """Indexes of units that were given to workers, in order."""
        self.recorded: list[UnitsRecorded] = []
        self.given: list[UnitResults] = []
        self.others: list[ToNode] = []

    def begin(self, slots: int = 2, **fields: Any) -> None:
        """The node is there, and instance 1 runs on it."""
        self.take_in(self.greet(slots))
        self.submit(1, **fields)
        self.cable.settle()
        self.take_in(self.node.take())

    def take_in(self, messages: list[ToNode]) -> list[ToNode]:
        """Keep what the master said; the same."""
        for message in messages:
            match message:
                case RunUnit(attempt=attempt, instance=1):
                    self.root = attempt
                case HireWorker():
                    self.workers[message.worker] = message
                case ReleaseWorker(worker):
                    self.workers.pop(worker, None)
                    self.released.append(worker)
                    for batch in [each for each in self.batches.values() if each.worker == worker]:
                        del self.batches[batch.batch]
                case RunUnits():
                    self.batches[message.batch] = message
                    self.ran += message.indexes
                case UnitResults():
                    self.given.append(message)
                case UnitsRecorded():
                    self.recorded.append(message)
                case _:
                    self.others.append(message)
        return messages

    def say(self, *messages: ToMaster) -> list[ToNode]:
        """The node says something; what the master says then."""
        return self.take_in(self.tell(*messages))

    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.cable.settle()
        self.take_in(self.node.take())

    def ask(self, *indexes: int, **fields: Any) -> list[ToNode]:
        """The main worker asks for units."""
        return self.say(asked(self.root, *indexes, **fields))

    def do(self, batch: RunUnits, *failed: int, start: int = 0, count: int | None = None) -> list[ToNode]:
        """A worker runs units of a batch."""
        return self.say(self.done(batch, start, count))

    def done(self, batch: RunUnits, start: int = 0, count: int | None = None, **fields: Any) -> UnitsDone:
        """What a worker tells of a batch."""
        end = len(batch.indexes) if count is None else start + count
        if end == len(batch.indexes):
            self.batches.pop(batch.batch, None)
        results = [result_of_unit(index) for index in batch.indexes[start:end]]
        return msgspec.structs.replace(
            UnitsDone(batch.worker, batch.batch, start, results, busy_s=0.001 * len(results)), **fields
        )

    def do_all(self) -> None:
        """The workers run all they have, and what they are given then."""
        while self.batches:
            self.do(min(self.batches.values(), key=lambda batch: batch.batch))

    def results(self) -> dict[int, bytes]:
        """What the main worker was given since the last time, without failures; nothing came twice."""
        given, self.given = self.given, []
        found: dict[int, bytes] = {}
        for message in given:
            for at, (index, result) in enumerate(zip(message.indexes, message.results, strict=True)):
                assert index not in found
                if at not in message.failures:
                    found[index] = result
        return found

    def held(self, **recorded: int) -> list[NodeHello]:
        """What the node says when it comes back with all it has."""
        workers = [
            HeldWorker(each.worker, each.instance, index, each.seal)
            for index, each in enumerate(self.workers.values())
        ]
        seals = {each.worker: each.seal for each in self.workers.values()}
        batches = [
            HeldBatch(
                each.batch,
                each.worker,
                InstanceId(1),
                each.branch,
                each.indexes,
                each.digests,
                seal=seals.get(each.worker, b""),
            )
            for each in self.batches.values()
        ]
        return [
            msgspec.structs.replace(hello(2, (self.root,)), workers=tuple(workers), batches=tuple(batches))
        ]

    def rows(self, *indexes: int, branch: str = "Sub") -> list[UnitRow]:
        """Units as they were committed."""
        return self.result(self.store.units(InstanceId(1), branch, indexes))

    def complete(self, *indexes: int, branch: str = "Sub") -> list[int]:
        """Those of them that are recorded as complete."""
        return [row.index for row in self.rows(*indexes, branch=branch) if row.status is Status.COMPLETE]


def restarted(bench: UnitBench, directory: Path) -> UnitBench:
    """The next master on the same store, whose node is not there yet, but has what it had."""
    bench.cable.pull()
    bench.dispatcher.stop()
    bench.store.epoch += 1
    again = UnitBench(directory, bench.store, bench.clock)
    again.root, again.workers, again.batches = bench.root, bench.workers, bench.batches
    begun = again.result(again.store.running_units())
    again.dispatcher.restore(again.result(again.store.unfinished()), {}, [again.record.id], begun)
    again.result(again.dispatcher.units.restore())
    return again
