# SPDX-License-Identifier: MIT
"""Words and a bench for the tests of at most once and of exclusive in the scheduler."""

from __future__ import annotations

from typing import Any

import msgspec

from pydra.cluster.scheduler.inputs import NodeReady, Restored, Submitted
from pydra.cluster.scheduler.instructions import Finish, Instruction
from pydra.cluster.scheduler.unit_values import FailUnits, UnitRestored, UnitsAsked
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.options import Guarantee, RunOptions
from pydra.model.status import Status
from tests.support.scheduler_bench import N1, A, Bench
from tests.support.unit_bench import asks, digests

ONCE, EXCLUSIVE = Guarantee.ONCE, Guarantee.EXCLUSIVE
NEVER, ALONE = RunOptions(retry="never"), RunOptions(exclusive=True)
OLD_ROOT, OLD_WORKER, OLD_BATCH = Attempt(1, 7), Attempt(1, 8), Attempt(1, 9)
"""Of the master before; the bench is of epoch 2."""


def guarded(
    guarantee: Guarantee, *indexes: int, started: dict[int, Attempt] | None = None, **fields: Any
) -> UnitsAsked:
    """An ask for units with a guarantee."""
    asked = asks(indexes or (0,), **fields)
    return msgspec.structs.replace(asked, guarantee=guarantee, started=started or {})


def begun(guarantee: Guarantee, index: int = 0, node: NodeId = N1, version: int = 0) -> UnitRestored:
    """A unit that the store has as RUNNING."""
    return UnitRestored(A, "S", index, digests([index], version), guarantee, OLD_BATCH, OLD_WORKER, node)


def failures(instructions: list[Instruction]) -> list[tuple[Attempt | None, list[int], str]]:
    """Who is told of which units that they failed, and by which code."""
    return [(each.asker, each.indexes, each.code) for each in instructions if isinstance(each, FailUnits)]


def ends(instructions: list[Instruction]) -> list[tuple[InstanceId, Status, str]]:
    """What became final, and by which code."""
    return [(each.instance, each.status, each.code) for each in instructions if isinstance(each, Finish)]


def running(options: RunOptions, slots: int = 1) -> Bench:
    """Instance A runs on node 1 as attempt 1."""
    bench = Bench()
    bench.feed(NodeReady(N1, slots), Submitted(A, 5, 0.0, options=options))
    return bench


def restarted(*given: UnitRestored, options: RunOptions | None = None, is_session: bool = False) -> Bench:
    """A scheduler that begins anew: instance A ran on the first slot of node 1."""
    bench = Bench()
    options = options or RunOptions()
    bench.feed(
        Restored(A, 5, 0.0, Status.RUNNING, OLD_ROOT, N1, 0, options=options, is_session=is_session), *given
    )
    return bench
