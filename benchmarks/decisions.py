# SPDX-License-Identifier: MIT
"""
``python -m benchmarks decisions``: what the scheduler costs, by itself.

It is pure, so nothing else runs: each figure is CPU time of ``feed`` alone. What a decision costs must not
grow with the number of slots.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.rows import show
from pydra.cluster.scheduler.inputs import (
    HeartbeatReceived,
    Input,
    NodeReady,
    Outcome,
    Submitted,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import Dispatch, Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.unit_values import HireWorker, RecordUnits, RunUnits, UnitsAsked, UnitsDone
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.options import NO_OPTIONS, RunOptions
from pydra.model.unit import DIGEST_SIZE

BATCH = 500
"""Units of a batch, and of an ask."""

WINDOW = 4096
"""Units that the main worker waits for at most."""

NODES, NODE_SLOTS, HEARTBEAT_S = 200, 50, 5.0


class Bench:
    """A scheduler, and the CPU seconds that it took."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(1, Limits())
        self.now = 0.0
        self.cpu_s = 0.0

    def feed(self, *given: Input) -> list[Instruction]:
        """Feed and measure."""
        self.now += 1e-6
        begun = time.process_time()
        done = self.scheduler.feed(self.now, given)
        self.cpu_s += time.process_time() - begun
        return done


def _asks(root: Attempt, start: int, count: int) -> UnitsAsked:
    digests = bytes(DIGEST_SIZE * count)
    return UnitsAsked(InstanceId(1), root, "S", list(range(start, start + count)), [b"x"] * count, digests)


def per_unit(units: int) -> float:
    """Microseconds for a unit that is asked for, given out and recorded, in batches of 500 to two workers."""
    bench = Bench()
    [dispatched] = bench.feed(NodeReady(NodeId(1), 2), Submitted(InstanceId(1), 5, 0.0))
    assert isinstance(dispatched, Dispatch)
    asked = recorded = 0
    running: deque[RunUnits] = deque()
    while recorded < units:
        while asked < units and asked - recorded <= WINDOW - BATCH:
            out = bench.feed(_asks(dispatched.attempt, asked, BATCH))
            running += (each for each in out if isinstance(each, RunUnits))
            asked += BATCH
        batch = running.popleft()
        count = len(batch.indexes)
        out = bench.feed(UnitsDone(batch.node, batch.worker, batch.batch, 0, count, count * 0.02 / BATCH))
        running += (each for each in out if isinstance(each, RunUnits))
        recorded += sum(len(each.indexes) for each in out if isinstance(each, RecordUnits))
    return bench.cpu_s / units * 1e6


def per_root(slots: int, decisions: int, amounts: int = 0) -> float:
    """
    Microseconds from the end of one instance to the dispatch of the next, when all slots are busy.

    So many different ``amounts`` of memory are asked for by those that wait.
    """
    bench = Bench()
    nodes = max(1, slots // 10)
    offered = {"memory": 1e9}
    bench.feed(
        *(NodeReady(NodeId(number), slots // nodes, resources=offered) for number in range(1, nodes + 1))
    )
    wants = [RunOptions(resources={"memory": 100 + which / 1000}) for which in range(amounts)] or [NO_OPTIONS]
    waiting = range(1, slots + max(decisions, amounts) + 1)
    out = bench.feed(
        *(
            Submitted(InstanceId(number), 5, float(number), options=wants[number % len(wants)])
            for number in waiting
        )
    )
    running = deque(each for each in out if isinstance(each, Dispatch))
    bench.cpu_s = 0.0
    for _ in range(decisions):
        ended = running.popleft()
        out = bench.feed(UnitFinished(ended.attempt, ended.slot.node, Outcome.COMPLETE))
        running += (each for each in out if isinstance(each, Dispatch))
    return bench.cpu_s / decisions * 1e6


def per_long_unit(slots: int, decisions: int) -> float:
    """Microseconds from the end of a unit that ran for long to the next one, on all slots of one instance."""
    bench = Bench()
    nodes = max(1, slots // 10)
    bench.feed(*(NodeReady(NodeId(number), slots // nodes) for number in range(1, nodes + 1)))
    [dispatched] = bench.feed(Submitted(InstanceId(1), 5, 0.0))
    assert isinstance(dispatched, Dispatch)
    out = bench.feed(_asks(dispatched.attempt, 0, slots + decisions))
    assert slots == sum(isinstance(each, HireWorker) for each in out)
    running = deque(each for each in out if isinstance(each, RunUnits))
    bench.cpu_s = 0.0
    for _ in range(decisions):
        ended = running.popleft()
        out = bench.feed(UnitsDone(ended.node, ended.worker, ended.batch, 0, 1, 1.0))
        running += (each for each in out if isinstance(each, RunUnits))
    return bench.cpu_s / decisions * 1e6


def heartbeats(rounds: int) -> float:
    """Percent of a core for 200 nodes with 50 busy slots each, which all are heard of every 5 s."""
    bench = Bench()
    bench.feed(*(NodeReady(NodeId(number), NODE_SLOTS) for number in range(1, NODES + 1)))
    instances = range(1, NODES * NODE_SLOTS + 1)
    out = bench.feed(*(Submitted(InstanceId(number), 5, 0.0) for number in instances))
    held: dict[NodeId, list[Attempt]] = {}
    for each in out:
        if isinstance(each, Dispatch):
            held.setdefault(each.slot.node, []).append(each.attempt)
    beats = [HeartbeatReceived(node, tuple(attempts)) for node, attempts in held.items()]
    bench.cpu_s = 0.0
    for _ in range(rounds):
        bench.now += HEARTBEAT_S
        for beat in beats:
            bench.feed(beat)
    return bench.cpu_s / rounds / HEARTBEAT_S * 100


def median(measure: Callable[[], float], times: int) -> float:
    """Of several measurements."""
    return statistics.median(measure() for _ in range(times))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--decisions", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args(arguments)
    show("a unit, in batches of 500", median(partial(per_unit, given.units), given.times), "us")
    for slots in (10, 1_000, 10_000):
        cost = median(partial(per_root, slots, given.decisions), given.times)
        show(f"a root, {slots} slots", cost, "us")
    for amounts in (100, 10_000):
        cost = median(partial(per_root, 100, given.decisions, amounts), given.times)
        show(f"a root, 100 slots, {amounts} different amounts wait", cost, "us")
    for slots in (10, 1_000, 10_000):
        cost = median(partial(per_long_unit, slots, given.decisions), given.times)
        show(f"a unit that takes long, {slots} slots", cost, "us")
    show(
        f"{NODES} nodes of {NODE_SLOTS} busy slots, heartbeats",
        median(lambda: heartbeats(3), given.times),
        "%",
    )
