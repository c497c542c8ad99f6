# SPDX-License-Identifier: MIT
"""Words and a bench for the tests of the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from pydra.cluster.scheduler import invariants
from pydra.cluster.scheduler.inputs import HeartbeatReceived, Input, Outcome, Submitted, UnitFinished
from pydra.cluster.scheduler.instructions import Dispatch, Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.views import NodeView
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot

A, B, C = InstanceId(1), InstanceId(2), InstanceId(3)
N1, N2 = NodeId(1), NodeId(2)
OLD, ELDER = Attempt(1, 7), Attempt(1, 8)
"""Attempts of the epoch before."""


def nth(number: int) -> Attempt:
    """An attempt of this epoch."""
    return Attempt(2, number)


def dispatch(instance: InstanceId, number: int, node: NodeId = N1, index: int = 0) -> Dispatch:
    """The instruction; slot 0 of node 1 unless told."""
    return Dispatch(instance, nth(number), WorkerSlot(node, index))


def submitted(instance: InstanceId, priority: int = 5, queued: float = 0.0) -> Submitted:
    """The input."""
    return Submitted(instance, priority, queued)


def nodes_of(scheduler: Scheduler) -> list[NodeView]:
    """All nodes that were ever ready or hold something, by id."""
    return [view for node in sorted(scheduler.state.nodes) if (view := scheduler.node(node)) is not None]


class Bench:
    """A scheduler whose invariants are checked after each step."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.scheduler = Scheduler(2, limits or Limits())
        self.now = 0.0

    def feed(self, *inputs: Input) -> list[Instruction]:
        """What the inputs lead to at the present time."""
        done = self.scheduler.feed(self.now, inputs)
        invariants.check(self.scheduler.state)
        return done

    def at(self, now: float, *inputs: Input) -> list[Instruction]:
        """What the inputs lead to at a later time."""
        self.now = now
        return self.feed(*inputs)

    def beats(self, until: float, node: NodeId = N1, held: Sequence[Attempt] = ()) -> list[Instruction]:
        """Heartbeats every 5 s; what they all led to."""
        done = []
        while self.now < until:
            done += self.at(self.now + 5.0, HeartbeatReceived(node, tuple(held)))
        return done


def finished(outcome: Outcome, number: int = 1, node: NodeId = N1, reason: str | None = None) -> UnitFinished:
    """The answer of node 1 unless told."""
    return UnitFinished(nth(number), node, outcome, reason)


def assignment(scheduler: Scheduler, instance: InstanceId) -> tuple[Attempt, WorkerSlot]:
    """The current attempt of an instance that runs, and its slot."""
    [found] = [each for each in scheduler.running() if each.instance == instance]
    return found.attempt, found.slot
