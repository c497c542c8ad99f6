# SPDX-License-Identifier: MIT
"""The scheduler once more, with plain scans instead of heaps: slow, short, and easy to believe."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pydra.cluster.scheduler import inputs, instructions
from pydra.cluster.scheduler.inputs import Input
from pydra.cluster.scheduler.instructions import Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.status import Status

WITH_A_NODE = (Status.RUNNING, Status.CANCELLING)


@attrs.define(eq=False)
class Item:
    """An instance, final ones too."""

    id: InstanceId
    priority: int
    queued: float
    status: Status = Status.QUEUED
    losses: int = 0
    attempt: Attempt | None = None
    slot: WorkerSlot | None = None
    named: float = 0.0
    stop_at: float | None = None
    fails: bool = False
    no_grace: bool = False


@attrs.define(eq=False)
class Machine:
    """A node; it is ready, suspect, silent or gone."""

    id: NodeId
    standing: str
    slots: int
    heard: float


class NaiveScheduler:
    """What the real one must do, input by input."""

    def __init__(self, epoch: int, limits: Limits) -> None:
        self.epoch, self.limits = epoch, limits
        self.items: dict[InstanceId, Item] = {}
        self.machines: dict[NodeId, Machine] = {}
        self.now, self.number = 0.0, 0
        self.out: list[Instruction] = []

    def feed(self, now: float, given: Sequence[Input]) -> list[Instruction]:
        """The expected instructions."""
        self.now, self.out = now, []
        for item in given:
            self.take(item)
        while (due := self.first_due()) is not None and due[0] <= now:
            self.expire(due[1], due[2])
        while self.dispatch():
            pass
        return self.out

    def wake_at(self) -> float | None:
        """The expected next deadline."""
        due = self.first_due()
        return None if due is None else due[0]

    def on(self, node: NodeId) -> list[Item]:
        """What a node has, by slot."""
        found = [item for item in self.items.values() if item.slot is not None and item.slot.node == node]
        return sorted(found, key=lambda item: -1 if item.slot is None else item.slot.index)

    def current(self, attempt: Attempt, node: NodeId) -> Item | None:
        """The instance that runs as this attempt on this node."""
        return next((item for item in self.on(node) if item.attempt == attempt), None)

    def take(self, given: Input) -> None:
        """One input."""
        match given:
            case inputs.Submitted(instance, priority, queued):
                self.items[instance] = Item(instance, priority, queued)
            case inputs.NodeReady():
                self.ready(given)
            case inputs.NodeSilent(node):
                machine = self.machines.get(node)
                if machine is not None and machine.standing in ("ready", "suspect"):
                    machine.standing = "silent"
                    for item in self.on(node):
                        item.stop_at = None
            case inputs.HeartbeatReceived(node, held):
                machine = self.machines.get(node)
                if machine is not None and machine.standing in ("ready", "suspect"):
                    machine.standing, machine.heard = "ready", self.now
                    for item in self.on(node):
                        if item.attempt in held:
                            item.named = self.now
                    for item in self.on(node):
                        if item.named + self.limits.lease_s <= self.now:
                            self.lost(item, f"its node did not have it for {self.limits.lease_s:g} s")
            case inputs.UnitFinished(attempt, node, outcome, reason):
                found = self.current(attempt, node)
                if found is None:
                    self.out.append(instructions.Discard(node, attempt))
                elif outcome == "lost":
                    self.lost(found, reason or "its worker ended without an answer")
                elif outcome == "complete":
                    self.end(found, Status.COMPLETE, None)
                elif outcome == "failed":
                    self.end(found, Status.FAILED, reason)
                else:
                    self.end(found, Status.CANCELLED, None)
            case inputs.CancelRequested(instance):
                self.cancel(self.items.get(instance))
            case inputs.TerminateRequested():
                self.terminate(given)

    def ready(self, given: inputs.NodeReady) -> None:
        """A node says what it has."""
        self.machines[given.node] = Machine(given.node, "ready", given.slots, self.now)
        for item in self.on(given.node):
            if item.attempt in given.running or item.attempt in given.finished:
                item.named = self.now
            else:
                self.lost(item, "the node came back without it")
        for attempt in dict.fromkeys(given.running):
            if self.current(attempt, given.node) is None:
                self.out.append(instructions.KillUnit(given.node, attempt))
        for attempt in dict.fromkeys(given.finished):
            if self.current(attempt, given.node) is None:
                self.out.append(instructions.Discard(given.node, attempt))
        for item in self.on(given.node):
            if item.status is Status.CANCELLING and item.attempt is not None:
                item.stop_at = self.now + self.limits.stop_grace_s
                if item.attempt in given.running:
                    order = instructions.KillUnit if item.no_grace else instructions.StopUnit
                    self.out.append(order(given.node, item.attempt))

    def cancel(self, item: Item | None) -> None:
        """Somebody wants it to end."""
        if item is None:
            return
        if item.status is Status.QUEUED:
            item.status = Status.CANCELLED
            self.out.append(instructions.Finish(item.id, None, Status.CANCELLED))
        elif item.status is Status.RUNNING and item.attempt is not None and item.slot is not None:
            item.status = Status.CANCELLING
            self.out.append(instructions.BeginCancelling(item.id, item.attempt))
            if self.machines[item.slot.node].standing in ("ready", "suspect"):
                item.stop_at = self.now + self.limits.stop_grace_s
                self.out.append(instructions.StopUnit(item.slot.node, item.attempt))

    def terminate(self, given: inputs.TerminateRequested) -> None:
        """Somebody wants its worker to end."""
        item = self.items.get(given.instance)
        if item is None or item.attempt is None or item.slot is None:
            return
        is_connected = self.machines[item.slot.node].standing in ("ready", "suspect")
        if item.status is Status.RUNNING:
            item.status, item.fails = Status.CANCELLING, given.fail
            self.out.append(instructions.BeginCancelling(item.id, item.attempt, given.fail))
            if is_connected and not given.kill:
                item.stop_at = self.now + self.limits.stop_grace_s
                self.out.append(instructions.StopUnit(item.slot.node, item.attempt))
        if given.kill:
            item.no_grace = True
            if is_connected:
                item.stop_at = self.now + self.limits.stop_grace_s
                self.out.append(instructions.KillUnit(item.slot.node, item.attempt))

    def lost(self, item: Item, reason: str) -> None:
        """Its worker is gone."""
        item.losses += 1
        if item.status is Status.CANCELLING:
            self.end(item, Status.CANCELLED, None)
        elif item.losses >= self.limits.loss_limit:
            words = f"lost its worker {item.losses} times; the limit is {self.limits.loss_limit}: {reason}"
            words += f"; see: pydra logs {item.id}"
            self.end(item, Status.FAILED, words)
        elif item.attempt is not None:
            self.out.append(instructions.Requeue(item.id, item.attempt, item.losses))
            item.status, item.slot, item.attempt = Status.QUEUED, None, None

    def end(self, item: Item, status: Status, reason: str | None) -> None:
        """It is final."""
        code = ""
        if item.fails:
            status, reason, code = Status.FAILED, "Terminated by user", "terminated"
        elif item.status is Status.CANCELLING:
            status, reason = Status.CANCELLED, None
        self.out.append(instructions.Finish(item.id, item.attempt, status, reason, code))
        item.status, item.slot, item.attempt, item.stop_at = status, None, None, None

    def first_due(self) -> tuple[float, int, int] | None:
        """The earliest deadline: when, 0 for a node or 1 for a stop, and whose."""
        due: list[tuple[float, int, int]] = []
        for machine in self.machines.values():
            if machine.standing != "gone":
                wait_s = self.limits.suspect_s if machine.standing == "ready" else self.limits.lease_s
                due.append((machine.heard + wait_s, 0, machine.id))
        due += [(item.stop_at, 1, item.id) for item in self.items.values() if item.stop_at is not None]
        return min(due, default=None)

    def expire(self, kind: int, number: int) -> None:
        """A deadline has come."""
        if kind == 1:
            item = self.items[InstanceId(number)]
            if item.attempt is not None and item.slot is not None:
                self.out.append(instructions.KillUnit(item.slot.node, item.attempt))
                item.stop_at = self.now + self.limits.stop_grace_s
            return
        machine = self.machines[NodeId(number)]
        if machine.standing == "ready" and self.now < machine.heard + self.limits.lease_s:
            machine.standing = "suspect"
            return
        machine.standing = "gone"
        for item in self.on(machine.id):
            self.lost(item, f"its node was not heard of for {self.limits.lease_s:g} s")

    def dispatch(self) -> bool:
        """Dispatch the first that waits to the best slot; False if there is none."""
        waiting = sorted(self.queued(), key=lambda item: (item.priority, item.queued, item.id))
        places = []
        for machine in self.machines.values():
            taken = {item.slot.index for item in self.on(machine.id) if item.slot is not None}
            free = set(range(machine.slots)) - taken
            if machine.standing == "ready" and free:
                places.append((len(taken) / machine.slots, machine.id, min(free)))
        if not waiting or not places:
            return False
        item, (_, node, index) = waiting[0], min(places)
        self.number += 1
        item.status, item.named = Status.RUNNING, self.now
        item.attempt, item.slot = Attempt(self.epoch, self.number), WorkerSlot(node, index)
        self.out.append(instructions.Dispatch(item.id, item.attempt, item.slot))
        return True

    def queued(self) -> list[Item]:
        """What waits."""
        return [item for item in self.items.values() if item.status is Status.QUEUED]

    def running(self) -> list[Item]:
        """What is with a node."""
        return [item for item in self.items.values() if item.status in WITH_A_NODE]
