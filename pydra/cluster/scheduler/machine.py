# SPDX-License-Identifier: MIT
"""The scheduler: what happened in, what is to be done out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import assert_never

from pydra.cluster.scheduler import (
    admission,
    explaining,
    guarded,
    node_rules,
    pausing,
    roots,
    serving,
    unit_rules,
    views,
)
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.filling import fill
from pydra.cluster.scheduler.hiring import stir
from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    Input,
    NodeReady,
    NodeSilent,
    Restored,
    Submitted,
    TerminateRequested,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    Instruction,
)
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.policies import LeastLoad, MakePolicy
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_values import (
    NodesExpected,
    PauseRequested,
    ResumeRequested,
    UnitRestored,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
    WorkerLost,
)
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.status import Status


class Scheduler:
    """
    Decides what runs where; a machine without clock, chance or memory of what is final.

    The same inputs at the same times give the same instructions. ``epoch`` is that of the store, so that
    attempt numbers, which rise from 1, are never repeated; ``make_policy`` is how a node is chosen.
    """

    def __init__(self, epoch: int, limits: Limits, make_policy: MakePolicy = LeastLoad) -> None:
        self.state = State(epoch=epoch, limits=limits, make_policy=make_policy)

    def feed(self, now: float, inputs: Sequence[Input]) -> list[Instruction]:
        """
        Take the inputs in order, then whatever is due at ``now`` (seconds), then fill the free slots.

        Answers what is to be done, in order. `InternalError` if an input cannot be, such as a second
        submission of the same instance: then nothing that the scheduler knows can be relied on.
        """
        state = self.state
        # A clock that was set back must not undo a deadline.
        state.now = max(state.now, now)
        out = state.out = []
        state.ended.clear()
        for given in inputs:
            self._take(given)
        while (key := state.deadlines.take_due(state.now)) is not None:
            kind, number = key
            match kind:
                case DueKind.NODE:
                    node_rules.due(state, state.nodes[NodeId(number)])
                case DueKind.STOP:
                    roots.stop_due(state, state.assigned[InstanceId(number)])
                case DueKind.LIMIT:
                    roots.limit_due(state, state.assigned[InstanceId(number)])
                case DueKind.RETRY:
                    admission.rested(state, InstanceId(number))
                case DueKind.IDLE:
                    serving.idle_due(state, InstanceId(number))
                case DueKind.EXPECTED:
                    node_rules.expected_due(state)
                case DueKind.EXCLUSIVE:
                    node_rules.exclusive_due(state, state.nodes[NodeId(number)])
                case DueKind.LATE:
                    stir(state, state.crews[InstanceId(number)])
                case _:
                    assert_never(kind)
        admission.settle(state)
        fill(state)
        return out

    def wake_at(self) -> float | None:
        """When to feed ``TimePassed`` if nothing happens before; None if time alone changes nothing."""
        return self.state.deadlines.next_at()

    def queued(self, most: int = sys.maxsize) -> list[views.QueuedInstance]:
        """What waits, first one first; no more than so many, which costs less than all."""
        return views.queued(self.state, most)

    def paused(self, most: int = sys.maxsize) -> list[views.QueuedInstance]:
        """What would wait if it were not paused, in the order in which it would."""
        return views.paused(self.state, most)

    def running(self) -> list[views.RunningInstance]:
        """What is with a node, cancelling ones too, by id."""
        return views.running(self.state)

    def node(self, node: NodeId) -> views.NodeView | None:
        """One node; None if it never was ready."""
        return views.node(self.state, node)

    def slots(self, node: NodeId) -> tuple[InstanceId | None, ...]:
        """The holder of each slot of a node; empty for an unknown node."""
        return views.slots(self.state, node)

    def status(self, instance: InstanceId) -> Status:
        """Where an instance stands; UNKNOWN if it never was here or is final."""
        return self.state.status(instance)

    def holder(self, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
        """The instance and the node of the main worker that this attempt names; None if it is not current."""
        return views.holder(self.state, attempt)

    def worker(self, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
        """The instance and the node of a main worker, or of a hired one; None if it is stale or foreign."""
        return views.worker(self.state, attempt)

    def is_current_batch(self, batch: Attempt) -> bool:
        """Results of this batch are wanted."""
        return batch in self.state.batches

    def units(self, instance: InstanceId) -> tuple[int, int]:
        """How many units of an instance wait, and how many are with a hired worker."""
        return views.units(self.state, instance)

    def outstanding(self, instance: InstanceId, asker: Attempt | None) -> tuple[int, int]:
        """How many units a worker (None: the client of a session) waits for, and bytes of arguments."""
        return views.outstanding(self.state, instance, asker)

    def may_ask(self, asker: Attempt, branch: str) -> bool:
        """False if a worker has no unit that could ask for units of this branch."""
        return views.may_ask(self.state, asker, branch)

    def asks_as(self, asker: Attempt, branch: str) -> Attempt | None:
        """The attempt that asks for units of this branch: a main worker's, or the batch of the unit above."""
        return views.asks_as(self.state, asker, branch)

    def may_pause(self, instance: InstanceId) -> bool:
        """True if ``PauseRequested`` would do something, or did: it waits, or it asked for units."""
        return pausing.may_pause(self.state, instance)

    def is_connected(self, node: NodeId) -> bool:
        """True if messages can be sent to the node: it was ready, and is neither silent nor gone."""
        record = self.state.nodes.get(node)
        return record is not None and record.standing.is_connected

    def explain(self, instance: InstanceId) -> explaining.Explanation:
        """Why an instance waits, node by node."""
        return explaining.explain(self.state, instance)

    def _take(self, given: Input) -> None:
        match given:
            case UnitFinished():
                roots.finished(self.state, given)
            case Submitted():
                roots.submitted(self.state, given)
            case HeartbeatReceived():
                node_rules.heartbeat(self.state, given)
            case CancelRequested():
                roots.cancel_requested(self.state, given)
            case TerminateRequested():
                roots.terminate_requested(self.state, given)
            case NodeReady():
                node_rules.ready(self.state, given)
            case NodeSilent():
                node_rules.silent(self.state, given.node)
            case Restored():
                roots.restored(self.state, given)
            case TimePassed():
                pass
            case UnitsDone():
                unit_rules.done(self.state, given)
            case UnitsAsked():
                unit_rules.asked(self.state, given)
            case UnitsForgotten():
                unit_rules.forgotten(self.state, given)
            case WorkerLost():
                unit_rules.worker_lost(self.state, given)
            case UnitRestored():
                guarded.restored(self.state, given)
            case PauseRequested():
                pausing.pause(self.state, given.instance)
            case ResumeRequested():
                pausing.resume(self.state, given.instance)
            case NodesExpected():
                node_rules.expect(self.state, given.nodes)
            case _:
                assert_never(given)
