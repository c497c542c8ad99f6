# SPDX-License-Identifier: MIT
"""The hired worker 1.50 of a node on a bench, and its batch 1.100."""

from __future__ import annotations

from typing import Any

from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import ToMaster, UnitsDone, WorkerLost
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure
from tests.support.nodes import NodeBench, hire
from tests.support.workers import ScriptedWorker

WORKER, BATCH, ONE = Attempt(1, 50), Attempt(1, 100), InstanceId(1)


def hired(bench: NodeBench, **fields: Any) -> ScriptedWorker:
    """A worker that was hired as attempt 1.50 and has loaded its task."""
    bench.tell(hire(**fields))
    worker = bench.workers.last
    worker.says(frames.READY)
    return worker


def done(start: int, *results: bytes, **fields: Any) -> UnitsDone:
    """Results of batch 1.100."""
    return UnitsDone(WORKER, BATCH, start, list(results), **{"busy_s": 0.5, **fields})


def loss(messages: list[ToMaster]) -> Failure:
    """The one loss that was told, after all else."""
    *_, message = messages
    assert isinstance(message, WorkerLost)
    assert WORKER == message.worker
    return message.failure
