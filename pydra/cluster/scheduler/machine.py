# SPDX-License-Identifier: MIT
"""The scheduler: what happened in, what is to be done out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from pydra.cluster.scheduler import views
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    Input,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TerminateRequested,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    BeginCancelling,
    Discard,
    Dispatch,
    Finish,
    Instruction,
    KillUnit,
    Requeue,
    StopUnit,
)
from pydra.cluster.scheduler.lifecycle import HAPPENINGS, Happening, status_after
from pydra.cluster.scheduler.limits import SHORTEST_REPEAT_S, Limits
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.queue import Waiting
from pydra.cluster.scheduler.state import State
from pydra.errors import InternalError, TaskTerminated
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.status import Status


class Scheduler:
    """
    Decides what runs where; a machine without clock, chance or memory of what is final.

    The same inputs at the same times give the same instructions. ``epoch`` is that of the store, so that
    attempt numbers, which rise from 1, are never repeated.
    """

    def __init__(self, epoch: int, limits: Limits) -> None:
        self.state = State(epoch=epoch, limits=limits)
        self._out: list[Instruction] = []

    def feed(self, now: float, inputs: Sequence[Input]) -> list[Instruction]:
        """
        Take the inputs in order, then whatever is due at ``now`` (seconds), then fill the free slots.

        Answers what is to be done, in order. `InternalError` if an input cannot be, such as a second
        submission of the same instance: then nothing that the scheduler knows can be relied on.
        """
        state = self.state
        # A clock that was set back must not undo a deadline.
        state.now = max(state.now, now)
        out = self._out = []
        for given in inputs:
            self._take(given)
        while (key := state.deadlines.take_due(state.now)) is not None:
            kind, number = key
            if kind is DueKind.NODE:
                self._node_due(state.nodes[NodeId(number)])
            else:
                self._stop_due(state.assigned[InstanceId(number)])
        self._fill()
        return out

    def wake_at(self) -> float | None:
        """When to feed ``TimePassed`` if nothing happens before; None if time alone changes nothing."""
        return self.state.deadlines.next_at()

    def queued(self) -> list[views.QueuedInstance]:
        """What waits, first one first."""
        return views.queued(self.state)

    def running(self) -> list[views.RunningInstance]:
        """What is with a node, cancelling ones too, by id."""
        return views.running(self.state)

    def nodes(self) -> list[views.NodeView]:
        """All nodes that were ever ready or hold something, by id."""
        return views.nodes(self.state)

    def node(self, node: NodeId) -> views.NodeView | None:
        """One node; None if it never was ready."""
        return views.node(self.state, node)

    def slots(self, node: NodeId) -> tuple[InstanceId | None, ...]:
        """The holder of each slot of a node; empty for an unknown node."""
        return views.slots(self.state, node)

    def status(self, instance: InstanceId) -> Status:
        """Where an instance stands; UNKNOWN if it never was here or is final."""
        return self.state.status(instance)

    def assignment(self, instance: InstanceId) -> tuple[Attempt, WorkerSlot] | None:
        """The current attempt of an instance and its slot; None if it is not with a node."""
        return views.assignment(self.state, instance)

    def holder(self, attempt: Attempt) -> tuple[InstanceId, NodeId] | None:
        """The instance and the node of a current attempt; None if it is stale or was never ours."""
        return views.holder(self.state, attempt)

    def is_connected(self, node: NodeId) -> bool:
        """True if messages can be sent to the node: it was ready, and is neither silent nor gone."""
        record = self.state.nodes.get(node)
        return record is not None and record.standing.is_connected

    def explain(self, instance: InstanceId) -> views.Explanation:
        """Why an instance waits, node by node."""
        return views.explain(self.state, instance)

    def _take(self, given: Input) -> None:
        match given:
            case UnitFinished():
                self._unit_finished(given)
            case Submitted():
                self._submitted(given)
            case HeartbeatReceived():
                self._heartbeat_received(given)
            case CancelRequested():
                self._cancel_requested(given.instance)
            case TerminateRequested():
                self._terminate_requested(given)
            case NodeReady():
                self._node_ready(given)
            case NodeSilent():
                self._node_silent(given.node)
            case Restored():
                self._restored(given)
            case TimePassed():
                pass
            case _:
                assert_never(given)

    def _submitted(self, given: Submitted) -> None:
        state = self.state
        status_after(state.status(given.instance), Happening.SUBMITTED)
        state.queue.add(Waiting(given.instance, given.priority, given.queued, losses=0))

    def _restored(self, given: Restored) -> None:
        state = self.state
        if state.status(given.instance) is not Status.UNKNOWN:
            raise InternalError(f"Instance {given.instance} was restored twice.")
        if given.status is Status.QUEUED:
            state.queue.add(Waiting(given.instance, given.priority, given.queued, given.losses))
            return
        if given.status not in (Status.RUNNING, Status.CANCELLING):
            raise InternalError(f"Instance {given.instance} cannot be restored as {given.status.name}.")
        attempt = given.attempt
        if attempt is None or given.node is None:
            raise InternalError(f"Instance {given.instance} is {given.status.name} without attempt or node.")
        if attempt.epoch > state.epoch or attempt in state.attempts:
            raise InternalError(f"Attempt {attempt} of instance {given.instance} cannot be of the past.")
        if attempt.epoch == state.epoch:
            state.number = max(state.number, attempt.number)
        node = self._known(given.node)
        if node.standing is Standing.GONE:
            node.standing, node.heard = Standing.SILENT, state.now
            self._watch_node(node)
        assigned = Assigned(
            instance=given.instance,
            priority=given.priority,
            queued=given.queued,
            losses=given.losses,
            attempt=attempt,
            node=given.node,
            index=-1 if given.index is None else given.index,
            status=given.status,
            named=state.now,
            fails=given.fails,
        )
        node.hold_again(assigned)
        state.assigned[given.instance] = state.attempts[attempt] = assigned
        state.placement.reconsider(node)
        if node.standing.is_connected and assigned.status is Status.CANCELLING:
            self._ask_to_stop(assigned)

    def _node_ready(self, given: NodeReady) -> None:
        state = self.state
        node = self._known(given.node)
        node.standing, node.heard = Standing.READY, state.now
        self._watch_node(node)
        running, finished = set(given.running), set(given.finished)
        kept = []
        for assigned in node.by_slot():
            if assigned.attempt in running or assigned.attempt in finished:
                assigned.named = state.now
                kept.append(assigned)
            else:
                self._lost(assigned, "the node came back without it")
        node.offer(given.slots)
        state.placement.reconsider(node)
        for attempt in dict.fromkeys(given.running):
            if not state.is_held_by(attempt, node.id):
                self._out.append(KillUnit(node.id, attempt))
        for attempt in dict.fromkeys(given.finished):
            if not state.is_held_by(attempt, node.id):
                self._out.append(Discard(node.id, attempt))
        for assigned in kept:
            if assigned.status is Status.CANCELLING:
                if assigned.attempt in running:
                    order = KillUnit if assigned.is_killed else StopUnit
                    self._out.append(order(node.id, assigned.attempt))
                self._watch_stop(assigned, state.limits.stop_grace_s)

    def _node_silent(self, identity: NodeId) -> None:
        state = self.state
        node = state.nodes.get(identity)
        if node is None or not node.standing.is_connected:
            return
        node.standing = Standing.SILENT
        self._watch_node(node)
        state.placement.reconsider(node)
        for assigned in node.holders.values():
            state.deadlines.clear((DueKind.STOP, assigned.instance))

    def _heartbeat_received(self, given: HeartbeatReceived) -> None:
        state = self.state
        node = state.nodes.get(given.node)
        if node is None or not node.standing.is_connected:
            return
        node.heard = state.now
        if node.standing is Standing.SUSPECT:
            node.standing = Standing.READY
            state.placement.reconsider(node)
        self._watch_node(node)
        held = set(given.held)
        lease_s = state.limits.lease_s
        overdue = []
        for assigned in node.holders.values():
            if assigned.attempt in held:
                assigned.named = state.now
            elif assigned.named + lease_s <= state.now:
                overdue.append(assigned)
        for assigned in sorted(overdue, key=lambda assigned: assigned.index):
            self._lost(assigned, f"its node did not have it for {lease_s:g} s")

    def _unit_finished(self, given: UnitFinished) -> None:
        assigned = self.state.attempts.get(given.attempt)
        if assigned is None or assigned.node != given.node:
            self._out.append(Discard(given.node, given.attempt))
            return
        happening = HAPPENINGS[given.outcome]
        reason = given.reason
        if happening is Happening.LOST:
            self._lost(assigned, reason or "its worker ended without an answer")
            return
        if given.outcome == Outcome.STOPPED and reason is None:
            reason = "the task stopped without being asked to"
        self._end(assigned, happening, reason)

    def _cancel_requested(self, instance: InstanceId) -> None:
        state = self.state
        before = state.status(instance)
        after = status_after(before, Happening.CANCEL_REQUESTED)
        if after is before:
            return
        if before is Status.QUEUED:
            state.queue.remove(instance)
            self._out.append(Finish(instance, None, after))
            return
        assigned = state.assigned[instance]
        assigned.status = after
        self._out.append(BeginCancelling(instance, assigned.attempt))
        if state.nodes[assigned.node].standing.is_connected:
            self._ask_to_stop(assigned)

    def _terminate_requested(self, given: TerminateRequested) -> None:
        state = self.state
        assigned = state.assigned.get(given.instance)
        if assigned is None:
            return
        is_connected = state.nodes[assigned.node].standing.is_connected
        if assigned.status is Status.RUNNING:
            assigned.status = status_after(assigned.status, Happening.CANCEL_REQUESTED)
            assigned.fails = given.fail
            self._out.append(BeginCancelling(given.instance, assigned.attempt, given.fail))
            if is_connected and not given.kill:
                self._ask_to_stop(assigned)
        if given.kill:
            assigned.is_killed = True
            if is_connected:
                self._stop_due(assigned)

    def _node_due(self, node: NodeRecord) -> None:
        """A node was not heard of for too long."""
        state = self.state
        if node.standing is Standing.READY and state.now < node.heard + state.limits.lease_s:
            node.standing = Standing.SUSPECT
            self._watch_node(node)
            state.placement.reconsider(node)
            return
        node.standing = Standing.GONE
        state.placement.reconsider(node)
        for assigned in node.by_slot():
            self._lost(assigned, f"its node was not heard of for {state.limits.lease_s:g} s")

    def _stop_due(self, assigned: Assigned) -> None:
        """An instance did not stop within its grace, or gets none."""
        self._out.append(KillUnit(assigned.node, assigned.attempt))
        self._watch_stop(assigned, max(self.state.limits.stop_grace_s, SHORTEST_REPEAT_S))

    def _fill(self) -> None:
        """Dispatch from the queue until it is empty or no ready node has a free slot."""
        state = self.state
        queue, placement = state.queue, state.placement
        while queue and (node := placement.choose()) is not None:
            waiting = queue.take()
            if waiting is None:
                return
            state.number += 1
            attempt = Attempt(state.epoch, state.number)
            index = node.next_index()
            assigned = Assigned(
                waiting.instance,
                waiting.priority,
                waiting.queued,
                waiting.losses,
                attempt,
                node.id,
                index,
                status_after(Status.QUEUED, Happening.DISPATCHED),
                state.now,
            )
            node.holders[index] = assigned
            state.assigned[waiting.instance] = state.attempts[attempt] = assigned
            placement.reconsider(node)
            self._out.append(Dispatch(waiting.instance, attempt, WorkerSlot(node.id, index)))

    def _lost(self, assigned: Assigned, reason: str) -> None:
        """The attempt is gone; its instance waits again, unless it is cancelling or lost too many."""
        limit = self.state.limits.loss_limit
        losses = assigned.losses + 1
        if losses < limit:
            self._end(assigned, Happening.LOST, None)
            return
        times = "1 time" if losses == 1 else f"{losses} times"
        self._end(
            assigned, Happening.LOST_TOO_OFTEN, f"lost its worker {times}; the limit is {limit}: {reason}"
        )

    def _end(self, assigned: Assigned, happening: Happening, reason: str | None) -> None:
        """The attempt is over: its slot is free, and its instance final or waiting again."""
        state = self.state
        if assigned.fails:
            happening = Happening.TERMINATED
        after = status_after(assigned.status, happening)
        node = state.nodes[assigned.node]
        del state.assigned[assigned.instance], state.attempts[assigned.attempt]
        node.release(assigned.index)
        state.placement.reconsider(node)
        if assigned.status is Status.CANCELLING:
            state.deadlines.clear((DueKind.STOP, assigned.instance))
        if after is Status.QUEUED:
            losses = assigned.losses + 1
            state.queue.add(Waiting(assigned.instance, assigned.priority, assigned.queued, losses))
            self._out.append(Requeue(assigned.instance, assigned.attempt, losses))
        elif assigned.fails:
            cause = TaskTerminated()
            self._out.append(Finish(assigned.instance, assigned.attempt, after, str(cause), cause.code))
        else:
            told = reason if after is Status.FAILED else None
            self._out.append(Finish(assigned.instance, assigned.attempt, after, told))

    def _ask_to_stop(self, assigned: Assigned) -> None:
        """Set the stop flag now, and kill after the grace."""
        self._out.append(StopUnit(assigned.node, assigned.attempt))
        self._watch_stop(assigned, self.state.limits.stop_grace_s)

    def _watch_stop(self, assigned: Assigned, grace_s: float) -> None:
        self.state.deadlines.put((DueKind.STOP, assigned.instance), self.state.now + grace_s)

    def _watch_node(self, node: NodeRecord) -> None:
        """Set the deadline that belongs to the node's standing."""
        limits = self.state.limits
        wait_s = limits.suspect_s if node.standing is Standing.READY else limits.lease_s
        self.state.deadlines.put((DueKind.NODE, node.id), node.heard + wait_s)

    def _known(self, identity: NodeId) -> NodeRecord:
        """The record of a node, made if there is none: silent, with its lease beginning now."""
        node = self.state.nodes.get(identity)
        if node is None:
            node = NodeRecord(identity, Standing.SILENT, heard=self.state.now)
            self.state.nodes[identity] = node
            self._watch_node(node)
        return node
