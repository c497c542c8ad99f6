# SPDX-License-Identifier: MIT
"""What is true of the tables after every feed, whatever happened."""

from __future__ import annotations

from pydra.cluster.scheduler.deadlines import DueKind, Key
from pydra.cluster.scheduler.nodes import NodeRecord, Standing
from pydra.cluster.scheduler.serving import LATE_S
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_invariants import check_units
from pydra.model.ids import InstanceId
from pydra.model.status import Status


def check(state: State) -> None:
    """AssertionError, in words, if the tables contradict each other or a decision was left undone."""
    _check_instances(state)
    for node in state.nodes.values():
        _check_slots(state, node)
        _check_resources(node)
    _check_placement(state)
    _check_lines(state)
    _check_deadlines(state)
    _check_dependencies(state)
    check_units(state)


def _check_instances(state: State) -> None:
    both = [
        instance
        for instance in (*state.assigned, *state.paused)
        if instance in state.queue or (instance in state.assigned and instance in state.paused)
    ]
    assert not both, f"instances {both} wait and run at once"
    entries = sorted(state.queue.living_entries())
    waiting = sorted(item.instance for item in state.queue.ordered())
    assert entries == waiting, f"the queue has entries for {entries}, but {waiting} wait"
    for item in state.queue.ordered():
        assert item.losses < state.limits.loss_limit or not item.losses, (
            f"instance {item.instance} waits after {item.losses} losses"
        )
    waits = [*entries, *state.blocked, *state.resting]
    assert len(set(waits)) == len(waits), f"an instance waits in two ways: {sorted(waits)}"
    assert not set(waits) & set(state.assigned), "an instance waits for others and runs at once"
    for instance in state.blocked:
        assert not state.dependencies.fault(instance), f"instance {instance} waits for what cannot be"
        assert not state.dependencies.are_met(instance), f"instance {instance} waits for nothing"
    assert len(state.attempts) == len(state.assigned), "there are more or fewer attempts than assignments"
    for instance, assigned in state.assigned.items():
        assert assigned.instance == instance, f"instance {instance} has the record of {assigned.instance}"
        assert assigned.status in (Status.RUNNING, Status.CANCELLING, Status.PAUSED), (
            f"instance {instance} is with a node, but {assigned.status.name}"
        )
        attempt = assigned.attempt
        assert state.attempts.get(attempt) is assigned, f"attempt {attempt} leads to another instance"
        assert attempt.epoch < state.epoch or attempt.number <= state.number, (
            f"attempt {attempt} is of the future"
        )
        node = state.nodes.get(assigned.node)
        assert node is not None, f"instance {instance} is with node {assigned.node}, which is not known"
        assert node.roots.get(instance) is assigned, f"instance {instance} is not with node {node.id}"
        assert (node.holders.get(assigned.index) is assigned) == assigned.has_slot, (
            f"instance {instance} does not hold slot {assigned.index} of node {node.id}, or does"
        )
        if assigned.status is Status.RUNNING:
            assert assigned.has_slot != (instance in state.resuming), f"instance {instance} has no slot"
        else:
            assert instance not in state.resuming, f"instance {instance} wants a slot for nothing"
        assert node.standing is not Standing.GONE, (
            f"instance {instance} is with node {node.id}, which is gone"
        )


def _check_slots(state: State, node: NodeRecord) -> None:
    name = f"node {node.id}"
    for index, holder in node.holders.items():
        known = (state.assigned.get(holder.instance), state.hired.get(holder.attempt))
        assert holder in known, f"slot {index} of {name} is held by {holder.attempt}, which is not there"
    returned = set(node.returned)
    assert len(returned) == len(node.returned), f"a slot of {name} is free twice"
    assert 0 <= node.unused <= node.offered, f"{name} has used {node.unused} of {node.offered} slots"
    assert not returned & set(node.holders), f"a slot of {name} is free and held"
    assert all(0 <= index < node.unused for index in returned), f"a free slot of {name} is out of range"
    within = sum(index < node.offered for index in node.holders)
    assert node.free >= 0, f"{name} has {node.free} free slots"
    assert node.free + within == node.offered, (
        f"{name} offers {node.offered} slots, but has {node.free} free and {within} held"
    )


def _check_placement(state: State) -> None:
    for requirement, known in state.placement.known():
        expected = {node.id for node in state.nodes.values() if node.is_placeable and node.meets(requirement)}
        assert known == expected, f"placement knows {known}; {expected} are ready and meet {requirement}"
    for head in state.queue.heads():
        node = state.placement.choose(head.wish.requirement)
        assert node is None, (
            f"instance {head.instance} waits although node {node.id} is free and meets what it needs"
        )


def _check_lines(state: State) -> None:
    for opened, closed in state.queue.open_lines():
        most = state.limits.backfill
        assert len(opened) <= most, f"a place is looked for for {len(opened)} amounts"
        assert not closed or (len(opened) == most and opened[-1] < closed[0]), (
            f"no place is looked for for {closed[0]}, which is one of the first"
        )


def _check_resources(node: NodeRecord) -> None:
    held: dict[str, int] = {}
    for assigned in node.holders.values():
        for name, amount in assigned.wish.requirement.resources:
            held[name] = held.get(name, 0) + amount
    assert node.held == held, f"node {node.id} counts {node.held} as held; its workers hold {held}"


def _check_dependencies(state: State) -> None:
    expected: dict[InstanceId, set[InstanceId]] = {}
    for instance in state.dependencies.holders():
        assert state.status(instance) is not Status.UNKNOWN, f"instance {instance} is not here"
        for condition in state.dependencies.conditions(instance):
            for other in condition.open:
                assert state.status(other) is not Status.UNKNOWN, f"instance {other} ended unnoticed"
                expected.setdefault(other, set()).add(instance)
    watched = state.dependencies.watched()
    assert watched == expected, f"watched are {watched}; needed is {expected}"
    assert not state.news, "somebody was not told of an end"


def _check_deadlines(state: State) -> None:
    limits = state.limits
    expected: set[Key] = set()
    for node in state.nodes.values():
        if node.standing is not Standing.GONE:
            wait_s = limits.suspect_s if node.standing is Standing.READY else limits.lease_s
            key = (DueKind.NODE, node.id)
            expected.add(key)
            at = state.deadlines.get(key)
            due = max(node.heard + wait_s, node.kept_until)
            assert at == due, f"node {node.id} is {node.standing.value} and due at {at}"
        if node.exclusive:
            expected.add((DueKind.EXCLUSIVE, node.id))
            due = min(each.named for each in node.exclusive.values()) + limits.exclusive_s
            at = state.deadlines.get((DueKind.EXCLUSIVE, node.id))
            assert at == due, f"what is exclusive on node {node.id} is given up at {at}, not at {due}"
    for instance, assigned in state.assigned.items():
        connected = state.nodes[assigned.node].standing.is_connected
        if assigned.status is Status.CANCELLING and connected:
            expected.add((DueKind.STOP, instance))
        if assigned.status is Status.RUNNING and assigned.wish.options.time_limit:
            expected.add((DueKind.LIMIT, instance))
    expected |= {(DueKind.RETRY, instance) for instance in state.resting}
    for instance, crew in state.crews.items():
        if crew.idle:
            expected.add((DueKind.IDLE, instance))
            due = min(crew.idle.values()) + limits.hold_s
            at = state.deadlines.get((DueKind.IDLE, instance))
            assert at == due, f"workers of instance {instance} are released at {at}, not at {due}"
        if crew.queued and crew.brisk:
            expected.add((DueKind.LATE, instance))
            at = state.deadlines.get((DueKind.LATE, instance))
            due = next(iter(crew.brisk.values())) + LATE_S
            assert at is not None, f"nobody sees if units of instance {instance} are not quick"
            assert at <= due, f"nobody sees that units of instance {instance} are not quick before {at}"
    if state.expected:
        expected.add((DueKind.EXPECTED, 0))
    keys = state.deadlines.keys()
    assert keys == expected, f"deadlines are kept for {sorted(keys)}; needed are {sorted(expected)}"
    earliest = min((at for key in keys if (at := state.deadlines.get(key)) is not None), default=None)
    assert state.deadlines.next_at() == earliest, f"the next deadline is not {earliest}"
    assert earliest is None or earliest > state.now, f"what was due at {earliest} was not done at {state.now}"
