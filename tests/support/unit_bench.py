# SPDX-License-Identifier: MIT
"""Words and a bench for the tests of units in the scheduler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pydra.cluster.scheduler.inputs import Input, NodeReady
from pydra.cluster.scheduler.instructions import Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.unit_values import (
    BatchHeld,
    HireWorker,
    RunUnits,
    UnitsAsked,
    UnitsDone,
    WorkerHeld,
    WorkerLost,
)
from pydra.model.ids import Attempt, InstanceId, NodeId
from tests.support.scheduler_bench import N1, A, Bench, nth, submitted

Kind = TypeVar("Kind", bound=Instruction)
ROOT = nth(1)
"""The attempt of the first root."""


def digests(indexes: Iterable[int], version: int = 0) -> bytes:
    """One for each unit."""
    return b"".join([bytes([version]) + index.to_bytes(15, "big") for index in indexes])


def asks(
    indexes: Iterable[int],
    asker: Attempt | None = ROOT,
    branch: str = "S",
    instance: InstanceId = A,
    version: int = 0,
    args: bytes = b"x",
    time_limit: float = 0.0,
) -> UnitsAsked:
    """The input; arguments are alike."""
    numbers = list(indexes)
    sums = digests(numbers, version)
    return UnitsAsked(instance, asker, branch, numbers, [args] * len(numbers), sums, {}, time_limit)


def done(batch: RunUnits, count: int = -1, start: int = 0, unit_s: float = 0.001) -> UnitsDone:
    """Results of a batch, all of them unless told."""
    number = len(batch.indexes) - start if count < 0 else count
    return UnitsDone(batch.node, batch.worker, batch.batch, start, number, unit_s * number, "told")


def dies(worker: Attempt, node: NodeId = N1, code: str = "worker_died") -> WorkerLost:
    """A hired worker ends by itself."""
    return WorkerLost(node, worker, "it died", code)


def of(kind: type[Kind], instructions: Iterable[Instruction]) -> list[Kind]:
    """Those of one kind."""
    return [each for each in instructions if isinstance(each, kind)]


def one(kind: type[Kind], instructions: Iterable[Instruction]) -> Kind:
    """The only one of a kind."""
    [found] = of(kind, instructions)
    return found


def held(batch: RunUnits, recorded: int = 0, version: int = 0) -> BatchHeld:
    """As a node names it."""
    sums = digests(batch.indexes, version) if version else batch.digests
    return BatchHeld(batch.batch, batch.worker, batch.instance, batch.branch, batch.indexes, sums, recorded)


def there(hired: HireWorker) -> WorkerHeld:
    """As a node names it."""
    return WorkerHeld(hired.worker, hired.instance, hired.slot.index)


class UnitBench(Bench):
    """One node, and instance A runs on its first slot as attempt 1."""

    def __init__(self, slots: int = 1, limits: Limits | None = None, priority: int = 5) -> None:
        super().__init__(limits)
        self.feed(NodeReady(N1, slots), submitted(A, priority))

    def asked(self, *given: Input) -> list[RunUnits]:
        """The batches that are given out then."""
        return of(RunUnits, self.feed(*given))

    def measured(self, count: int, unit_s: float) -> list[RunUnits]:
        """So many units are asked for, the first is done in so many seconds: the batches of the lent slot."""
        [first, *_] = self.asked(asks(range(count)))
        return self.asked(done(first, unit_s=unit_s))
