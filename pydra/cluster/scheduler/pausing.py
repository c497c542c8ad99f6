# SPDX-License-Identifier: MIT
"""Instances that pause: no unit of them is given out, and their slots are free for others."""

from __future__ import annotations

from pydra.cluster.scheduler.admission import go_on, withdraw
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.hiring import stir, vacate
from pydra.cluster.scheduler.lifecycle import Happening, status_after
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_values import Pause
from pydra.model.ids import InstanceId
from pydra.model.status import Status


def may_pause(state: State, instance: InstanceId) -> bool:
    """It waits, or asks for units: then there is something that can be withheld from it."""
    status = state.status(instance)
    if status is Status.RUNNING:
        return instance in state.crews
    return status in (Status.QUEUED, Status.PAUSED)


def pause(state: State, instance: InstanceId) -> None:
    """It pauses, if it may and does not yet."""
    status = state.status(instance)
    if status is Status.PAUSED or not may_pause(state, instance):
        return
    status_after(status, Happening.PAUSED)
    state.out.append(Pause(instance, paused=True))
    assigned = state.assigned.get(instance)
    if assigned is None:
        state.paused[instance] = withdraw(state, instance)
        return
    assigned.status = Status.PAUSED
    key = (DueKind.LIMIT, instance)
    due = state.deadlines.get(key)
    if due is not None:
        assigned.left_s = due - state.now
        state.deadlines.clear(key)
    state.resuming.pop(instance, None)
    if assigned.has_slot:
        vacate(state, assigned)
    stir(state, state.crews[instance])


def resume(state: State, instance: InstanceId) -> None:
    """It goes on, if it was paused: on a slot of its node, as soon as there is one."""
    if state.status(instance) is not Status.PAUSED:
        return
    state.out.append(Pause(instance, paused=False))
    assigned = state.assigned.get(instance)
    if assigned is None:
        go_on(state, instance)
        return
    assigned.status = status_after(assigned.status, Happening.RESUMED)
    state.resuming[instance] = assigned
    limit_s = assigned.wish.options.time_limit
    if limit_s:
        left_s = limit_s if assigned.left_s is None else assigned.left_s
        state.deadlines.put((DueKind.LIMIT, instance), state.now + left_s)
