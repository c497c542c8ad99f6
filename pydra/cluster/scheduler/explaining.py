# SPDX-License-Identifier: MIT
"""Why something waits, in words: dependencies, its place in the queue, and each node that was considered."""

from __future__ import annotations

from typing import assert_never

import msgspec

from pydra.cluster.scheduler import views
from pydra.cluster.scheduler.crews import Crew
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.dependencies import numbers
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.queue import Waiting
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.views import NodeRefusal
from pydra.cluster.scheduler.wishes import THOUSANDTHS, Requirement
from pydra.model.ids import InstanceId, NodeId
from pydra.model.options import Guarantee
from pydra.model.status import Status

SHOWN_NODES = 5
"""Nodes that a sentence names."""


class Needed(msgspec.Struct, frozen=True):
    """An instance that another one depends on."""

    instance: InstanceId
    kind: str
    """``after`` or ``follow``."""
    status: Status
    is_met: bool
    """It ended as it should."""


class UnitsWaiting(msgspec.Struct, frozen=True):
    """Units of an instance: those that wait, those with a hired worker; and the number of these workers."""

    queued: int
    running: int
    workers: int


class Explanation(msgspec.Struct, frozen=True):
    """
    Where an instance stands and why; ``text`` is a sentence or two for people.

    ``ahead`` and ``refusals`` are for what waits for a slot: the instance itself, or its units.
    """

    instance: InstanceId
    status: Status
    text: str
    ahead: int = 0
    """Instances that stand before it and could take the same slot."""
    refusals: tuple[NodeRefusal, ...] = ()
    needed: tuple[Needed, ...] = ()
    units: UnitsWaiting | None = None


def explain(state: State, instance: InstanceId) -> Explanation:
    """Why an instance waits; of one that is not here, that it is not."""
    if (waiting := state.queue.get(instance)) is not None:
        return _in_queue(state, waiting)
    if instance in state.blocked:
        return _blocked(state, instance)
    if (waiting := state.resting.get(instance)) is not None:
        return _resting(waiting)
    if instance in state.paused:
        return Explanation(
            instance,
            Status.PAUSED,
            "It is paused; once it is resumed, it waits for a slot.",
            needed=_needed(state, instance),
        )
    assigned = state.assigned.get(instance)
    if assigned is None:
        return Explanation(instance, Status.UNKNOWN, "It is not in the queue: it ended, or never was here.")
    return _with_node(state, assigned)


def _in_queue(state: State, waiting: Waiting) -> Explanation:
    requirement = waiting.wish.requirement
    ready = [node for node in state.nodes.values() if node.standing is Standing.READY]
    suited = [node for node in ready if node.suits(requirement)]

    def is_rival(other: Requirement) -> bool:
        return other == requirement or any(node.suits(other) for node in suited)

    ahead = state.queue.ahead_of(waiting, is_rival)
    text = f"It waits: {_shortage(state, requirement)}."
    if ahead:
        text += f" {ahead} more will run before it." if ahead > 1 else " One more will run before it."
    return Explanation(
        waiting.instance,
        Status.QUEUED,
        text,
        ahead,
        _refusals(state, requirement),
        _needed(state, waiting.instance),
    )


def _blocked(state: State, instance: InstanceId) -> Explanation:
    needed = _needed(state, instance)
    open_ones = list(dict.fromkeys(each.instance for each in needed if not each.status.is_final))
    which = f"task instance {numbers(open_ones)} ends"
    if len(open_ones) > 1:
        conditions = state.dependencies.conditions(instance)
        is_all = all(each.dependency.all for each in conditions if each.open)
        which = f"the task instances {numbers(open_ones)} end"
        if not is_all:
            which = f"enough of {which}"
    return Explanation(instance, Status.QUEUED, f"It waits until {which}.", needed=needed)


def _resting(waiting: Waiting) -> Explanation:
    retries = waiting.wish.options.retries
    text = f"It failed, and rests before retry {waiting.retried} of {retries}."
    return Explanation(waiting.instance, Status.QUEUED, text)


def _with_node(state: State, assigned: Assigned) -> Explanation:
    instance = assigned.instance
    if assigned.status is Status.CANCELLING:
        why = f"{assigned.reason} It is ended by force" if assigned.reason else "It was told to stop"
        text = f"{why}, and is still on node {assigned.node}, as attempt {assigned.attempt}."
    elif assigned.has_slot:
        text = f"It is on node {assigned.node}, slot {assigned.index}, as attempt {assigned.attempt}."
    elif assigned.status is Status.PAUSED:
        text = f"It is paused on node {assigned.node}, as attempt {assigned.attempt}."
    else:
        text = f"It waits until node {assigned.node}, where its main worker is, has a free slot."
    text += _if_away(state, assigned)
    crew = state.crews.get(instance)
    if crew is None:
        return Explanation(instance, assigned.status, text)
    units = UnitsWaiting(*views.units(state, instance), len(crew.workers))
    refusals: tuple[NodeRefusal, ...] = ()
    if assigned.status is Status.PAUSED:
        text += " What runs comes to its end, and units that others wait for still begin." * bool(
            units.running
        )
    elif units.queued:
        requirement = assigned.wish.requirement
        refusals = _refusals(state, requirement)
        why = _shortage(state, requirement)
        if crew.brisk and crew not in state.hungry and not state.expected:
            why = "they take so little time that no further one is hired"
        text += f" {_count(units.queued)} for its {_workers(units.workers)}: {why}."
    else:
        text += f" {'Its client' if crew.is_session else 'It'} has asked for no more units."
    text += _workers_away(state, crew, assigned.node)
    return Explanation(instance, assigned.status, text, refusals=refusals, units=units)


def _if_away(state: State, assigned: Assigned) -> str:
    """That its node is away, and what comes of that."""
    node = state.nodes[assigned.node]
    if node.standing is Standing.READY:
        return ""
    at = state.deadlines.get((DueKind.NODE, node.id)) or state.now
    if assigned.attempt in node.exclusive:
        at = min(at, assigned.named + state.limits.exclusive_s)
    if assigned.status is Status.CANCELLING:
        then = "it has ended"
    elif assigned.wish.guarantee & Guarantee.ONCE or assigned.losses + 1 >= state.limits.loss_limit:
        then = "it has failed"
    else:
        then = "it is lost there and run again"
    left_s = max(0.0, at - state.now)
    return f" That node {_absence(node)}: if it does not come back within {left_s:.0f} s, {then}."


def _workers_away(state: State, crew: Crew, root: NodeId) -> str:
    """On which other nodes its workers are that nothing is heard of."""
    nodes = (state.nodes[number] for number in sorted({worker.node for worker in crew.workers.values()}))
    away = [node for node in nodes if node.id != root and node.standing is not Standing.READY]
    return "".join(f" Node {node.id}, where it has workers, {_absence(node)}." for node in away)


def _absence(node: NodeRecord) -> str:
    return "is connected, but sends no heartbeat" if node.standing.is_connected else "is not connected"


def _count(units: int) -> str:
    return "One unit waits" if units == 1 else f"{units} units wait"


def _workers(workers: int) -> str:
    return "one worker" if workers == 1 else f"{workers} workers"


def _needed(state: State, instance: InstanceId) -> tuple[Needed, ...]:
    return tuple(
        Needed(
            other,
            "follow" if condition.is_place else "after",
            condition.seen.get(other) or state.status(other),
            other in condition.seen and condition.is_wanted(condition.seen[other]),
        )
        for condition in state.dependencies.conditions(instance)
        for other in condition.dependency.instances
    )


def _shortage(state: State, requirement: Requirement) -> str:
    """What there is too little of, in a few words."""
    nodes = state.nodes.values()
    ready = [node for node in nodes if node.standing is Standing.READY]
    if not nodes:
        return "no node has connected yet"
    if not ready:
        return "no node is ready"
    suited = [node for node in ready if node.suits(requirement)]
    if not suited and (only := requirement.nodes) and only <= {node.id for node in ready}:
        which = ", ".join(map(str, sorted(only)[:SHOWN_NODES]))
        return f"it can only follow to node {which}, and never run there as the cluster is"
    if not suited:
        return "no ready node meets what it asks for"
    willing = [node for node in suited if not node.refusal]
    if not willing:
        return "no ready node that meets what it asks for begins anything new at the moment"
    free = [node for node in willing if node.has_free_slot]
    if free and all(node.short_of(requirement.resources) for node in free):
        return "no node with a free slot has enough left of what it asks for"
    if free:
        return "a slot is free, and is given out in its turn"
    which = "" if len(suited) == len(ready) else " that meets what it asks for"
    which = which if willing == suited else " that begins anything new"
    return f"every slot of every ready node{which} is busy"


def _refusals(state: State, requirement: Requirement) -> tuple[NodeRefusal, ...]:
    """All nodes by id; and those that it must go to and nobody knows."""
    found = {identity: _refusal(node, requirement) for identity, node in state.nodes.items()}
    for identity in requirement.nodes or ():
        found.setdefault(identity, "is not connected since the start of the master, or was removed")
    return tuple(NodeRefusal(identity, found[identity]) for identity in sorted(found))


def _refusal(node: NodeRecord, requirement: Requirement) -> str:
    """Why a node was not taken; a phrase that goes on from its name."""
    match node.standing:
        case Standing.SILENT:
            return "is not connected"
        case Standing.GONE:
            return "is gone: nothing was heard of it for a whole lease"
        case Standing.SUSPECT:
            return "is suspect: it is connected, but sends no heartbeat"
        case Standing.READY:
            refusal = [f"begins nothing new: {node.refusal}"] if node.refusal else []
            reasons = [*refusal, *_unsuited(node, requirement), *_no_room(node, requirement)]
            return "; ".join(reasons) or "has a free slot; it will be taken at the next turn"
        case _:
            assert_never(node.standing)


def _unsuited(node: NodeRecord, requirement: Requirement) -> list[str]:
    """What would be in the way if nothing ran on it."""
    reasons = []
    if requirement.nodes is not None and node.id not in requirement.nodes:
        wanted = ", ".join(map(str, sorted(requirement.nodes)[:SHOWN_NODES]))
        reasons.append(f"is not where those ran that it follows (node {wanted})")
    if requirement.isolation not in ("", node.isolation):
        reasons.append(f"has isolation {node.isolation or 'unknown'}, not {requirement.isolation}")
    if missing := sorted(requirement.labels - node.labels):
        reasons.append(f"lacks the label{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name, amount in requirement.resources:
        offered = node.resources.get(name, 0)
        if amount > offered:
            reasons.append(f"offers {_amount(offered)} {_named(name)}, not {_amount(amount)}")
    return reasons


def _no_room(node: NodeRecord, requirement: Requirement) -> list[str]:
    """What is in the way at the moment."""
    reasons = []
    for name, amount in requirement.resources:
        offered, held = node.resources.get(name, 0), node.held.get(name, 0)
        if offered - held < amount <= offered:
            left = _amount(max(0, offered - held))
            reasons.append(f"has {left} {_named(name)} left of {_amount(offered)}, not {_amount(amount)}")
    if not node.offered:
        reasons.append("offers no slots")
    elif not node.has_free_slot:
        busy = "its only one is" if node.offered == 1 else f"all {node.offered} are"
        reasons.append(f"has no free slot: {busy} busy")
    return reasons


def _amount(thousandths: int) -> str:
    return f"{thousandths / THOUSANDTHS:.12g}"


def _named(resource: str) -> str:
    return "MB of memory" if resource == "memory" else resource
