# SPDX-License-Identifier: MIT
"""From being here to standing in the queue: dependencies, and the rest before a retry; and the end of all."""

from __future__ import annotations

from collections.abc import Mapping

from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.hiring import stir
from pydra.cluster.scheduler.instructions import Finish
from pydra.cluster.scheduler.nodes import Assigned
from pydra.cluster.scheduler.queue import Waiting
from pydra.cluster.scheduler.state import State
from pydra.errors import DependencyFailed
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.status import Status


def admit(state: State, waiting: Waiting, ended: Mapping[InstanceId, Ended]) -> None:
    """
    A new instance waits for what it depends on, then for the end of its rest, then for a slot.

    What it depends on is here, or in ``ended``.
    """
    if consider(state, waiting, ended):
        _judge(state, waiting)
    else:
        rest(state, waiting)


def consider(state: State, one: Waiting | Assigned, ended: Mapping[InstanceId, Ended]) -> bool:
    """Note the dependencies of an instance and what is known of them; false if it has none."""
    options = one.wish.options
    if options.after is None and options.follow is None:
        return False
    for condition in state.dependencies.add(one.instance, options):
        for other in condition.dependency.instances:
            known = ended.get(other) or state.ended.get(other)
            if known is not None:
                condition.take(other, known)
            elif state.status(other) is Status.UNKNOWN:
                condition.miss(other)
    state.dependencies.watch(one.instance)
    _place(state, one)
    return True


def hold(state: State, waiting: Waiting, ended: Mapping[InstanceId, Ended]) -> None:
    """An instance of before waits, and is paused."""
    consider(state, waiting, ended)
    state.paused[waiting.instance] = waiting


def go_on(state: State, instance: InstanceId) -> None:
    """It is paused no more, and waits for whatever it has to wait for."""
    waiting = state.paused.pop(instance)
    if state.dependencies.conditions(instance):
        _place(state, waiting)
        _judge(state, waiting)
    else:
        rest(state, waiting)


def rest(state: State, waiting: Waiting) -> None:
    """It stands in the queue once its rest is over; that is not longer because it was paused meanwhile."""
    if waiting.rests_until > state.now:
        state.resting[waiting.instance] = waiting
        state.deadlines.put((DueKind.RETRY, waiting.instance), waiting.rests_until)
    else:
        state.queue.add(waiting)


def rested(state: State, instance: InstanceId) -> None:
    """The time to rest is over."""
    state.queue.add(state.resting.pop(instance))


def withdraw(state: State, instance: InstanceId) -> Waiting:
    """What waits, for whatever, waits no more."""
    if (waiting := state.resting.pop(instance, None)) is not None:
        state.deadlines.clear((DueKind.RETRY, instance))
        return waiting
    if (waiting := state.paused.pop(instance, None)) is not None:
        return waiting
    return state.blocked.pop(instance, None) or state.queue.remove(instance)


def finish(
    state: State,
    instance: InstanceId,
    attempt: Attempt | None,
    status: Status,
    reason: str | None = None,
    code: str = "",
    node: NodeId | None = None,
) -> None:
    """The instance is final; ``node`` is where it ran last. ``settle`` sees to what this means for others."""
    state.out.append(Finish(instance, attempt, status, reason, code))
    has_completed = instance in state.completing and status is Status.CANCELLED
    state.completing.discard(instance)
    state.ended[instance] = Ended(Status.COMPLETE if has_completed else status, node)
    state.dependencies.forget(instance)
    if state.dependencies.is_watched(instance):
        state.news.append(instance)


def settle(state: State) -> None:
    """Tell those who waited for what has ended, and go on with what ends by that."""
    while state.news:
        instance = state.news.popleft()
        for watcher in state.dependencies.take(instance, state.ended[instance]):
            if (waiting := state.blocked.get(watcher)) is not None:
                del state.blocked[watcher]
                _place(state, waiting)
                _judge(state, waiting)
            else:
                _move(state, watcher)


def _judge(state: State, waiting: Waiting) -> None:
    """It goes on, waits for others, or never can."""
    instance = waiting.instance
    if fault := state.dependencies.fault(instance):
        finish(state, instance, None, Status.FAILED, f"It cannot run: {fault}.", DependencyFailed.code)
    elif state.dependencies.are_met(instance):
        rest(state, waiting)
    else:
        state.blocked[instance] = waiting


def _place(state: State, one: Waiting | Assigned) -> None:
    """Let it go where its dependencies allow."""
    nodes = state.dependencies.nodes(one.instance)
    if nodes is not None and nodes != one.wish.requirement.nodes:
        one.wish = one.wish.only_on(nodes)


def _move(state: State, instance: InstanceId) -> None:
    """One that follows any of several may go to further nodes now."""
    if (waiting := state.queue.get(instance)) is not None:
        state.queue.remove(instance)
        _place(state, waiting)
        state.queue.add(waiting)
    elif (other := state.resting.get(instance) or state.assigned.get(instance)) is not None:
        _place(state, other)
        if (crew := state.crews.get(instance)) is not None:
            stir(state, crew)
