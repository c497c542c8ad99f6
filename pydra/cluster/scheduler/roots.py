# SPDX-License-Identifier: MIT
"""What happens to an instance itself: it comes, is asked to end, ends, or loses its worker."""

from __future__ import annotations

from pydra.cluster.scheduler import admission
from pydra.cluster.scheduler.crews import Crew
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.hiring import dismiss, vacate
from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    Restored,
    Submitted,
    TerminateRequested,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    BeginCancelling,
    Discard,
    KillUnit,
    Requeue,
    Retry,
    StopUnit,
)
from pydra.cluster.scheduler.lifecycle import HAPPENINGS, Happening, status_after
from pydra.cluster.scheduler.limits import SHORTEST_REPEAT_S
from pydra.cluster.scheduler.nodes import Assigned, Standing
from pydra.cluster.scheduler.queue import Waiting
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.wishes import wish_of
from pydra.errors import (
    InternalError,
    LimitExceeded,
    TaskLost,
    TaskTerminated,
    WorkerDied,
    WorkersUnavailable,
)
from pydra.model.options import Guarantee
from pydra.model.status import Status


def submitted(state: State, given: Submitted) -> None:
    """It waits."""
    status_after(state.status(given.instance), Happening.SUBMITTED)
    wish = wish_of(given.options, given.isolation, is_session=given.is_session)
    waiting = Waiting(given.instance, given.priority, given.queued, losses=0, wish=wish)
    if given.is_session:
        _open(state, given)
    admission.admit(state, waiting, given.ended)


def restored(state: State, given: Restored) -> None:
    """It waits, or has its slot again."""
    if state.status(given.instance) is not Status.UNKNOWN:
        raise InternalError(f"Instance {given.instance} was restored twice.")
    wish = wish_of(given.options, given.isolation, is_session=given.is_session)
    if given.is_session and given.status is not Status.CANCELLING:
        _open(state, given)
    if given.status is Status.QUEUED or (given.status is Status.PAUSED and given.attempt is None):
        place = (given.instance, given.priority, given.queued)
        waiting = Waiting(*place, given.losses, wish, given.retried, given.node, state.now + given.rest_s)
        if given.status is Status.PAUSED:
            admission.hold(state, waiting, given.ended)
        else:
            admission.admit(state, waiting, given.ended)
        return
    if given.status not in (Status.RUNNING, Status.CANCELLING, Status.PAUSED):
        raise InternalError(f"Instance {given.instance} cannot be restored as {given.status.name}.")
    attempt = given.attempt
    if attempt is None or given.node is None:
        raise InternalError(f"Instance {given.instance} is {given.status.name} without attempt or node.")
    if attempt.epoch > state.epoch or attempt in state.attempts:
        raise InternalError(f"Attempt {attempt} of instance {given.instance} cannot be of the past.")
    if attempt.epoch == state.epoch:
        state.number = max(state.number, attempt.number)
    node = state.known(given.node)
    if node.standing is Standing.GONE:
        node.standing, node.heard = Standing.SILENT, state.now
        state.watch_node(node)
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
        reason=given.reason,
        code=given.code,
        wish=wish,
        retried=given.retried,
    )
    admission.consider(state, assigned, given.ended)
    if given.completes:
        state.completing.add(given.instance)
    if given.status is Status.PAUSED:
        assigned.has_slot = False
    else:
        node.hold_again(assigned)
    node.roots[given.instance] = assigned
    state.assigned[given.instance] = state.attempts[attempt] = assigned
    guard(state, assigned)
    state.placement.reconsider(node)
    if node.standing.is_connected and assigned.status is Status.CANCELLING:
        _ask_to_stop(state, assigned)
    watch_limit(state, assigned)


def finished(state: State, given: UnitFinished) -> None:
    """A node told how an attempt ended, which may be stale."""
    assigned = state.attempts.get(given.attempt)
    if assigned is None or assigned.node != given.node:
        state.out.append(Discard(given.node, given.attempt))
        return
    happening = HAPPENINGS[given.outcome]
    reason = given.reason
    if happening is Happening.LOST:
        has_begun = given.code != WorkersUnavailable.code
        lost(state, assigned, reason or "its worker ended without an answer", has_begun=has_begun)
        return
    if happening is Happening.FAILED and _may_be_retried(assigned, given.code):
        happening = Happening.RETRIED
    _end(state, assigned, happening, reason)


def cancel_requested(state: State, given: CancelRequested) -> None:
    """It is cancelled, or asked to stop if a node has it."""
    instance = given.instance
    before = state.status(instance)
    after = status_after(before, Happening.CANCEL_REQUESTED)
    if after is before:
        return
    if given.completes:
        state.completing.add(instance)
    if instance not in state.assigned:
        dismiss(state, instance, is_final=True)
        node = admission.withdraw(state, instance).node
        admission.finish(state, instance, None, Status.CANCELLED, node=node)
        return
    assigned = state.assigned[instance]
    _begin_to_end(state, assigned)
    state.out.append(BeginCancelling(instance, assigned.attempt))
    if state.nodes[assigned.node].standing.is_connected:
        _ask_to_stop(state, assigned)


def terminate_requested(state: State, given: TerminateRequested) -> None:
    """It is asked to stop, or killed, if a node has it."""
    assigned = state.assigned.get(given.instance)
    if assigned is None:
        return
    is_connected = state.nodes[assigned.node].standing.is_connected
    if assigned.status is not Status.CANCELLING:
        _begin_to_end(state, assigned)
        assigned.fails = given.fail
        state.out.append(BeginCancelling(given.instance, assigned.attempt, given.fail))
        if is_connected and not given.kill:
            _ask_to_stop(state, assigned)
    if given.kill:
        assigned.is_killed = True
        if is_connected:
            stop_due(state, assigned)


def stop_due(state: State, assigned: Assigned) -> None:
    """An instance did not stop within its grace, or gets none."""
    state.out.append(KillUnit(assigned.node, assigned.attempt))
    watch_stop(state, assigned, max(state.limits.stop_grace_s, SHORTEST_REPEAT_S))


def limit_due(state: State, assigned: Assigned) -> None:
    """An instance ran for as long as it may: it is ended by force, and has failed."""
    _begin_to_end(state, assigned)
    assigned.fails = assigned.is_killed = True
    assigned.code = LimitExceeded.code
    assigned.reason = f"It ran for longer than its time limit of {assigned.wish.options.time_limit:g} s."
    state.out.append(
        BeginCancelling(assigned.instance, assigned.attempt, True, assigned.reason, assigned.code)
    )
    if state.nodes[assigned.node].standing.is_connected:
        stop_due(state, assigned)


def watch_limit(state: State, assigned: Assigned, ran_s: float = 0.0) -> None:
    """The time limit of an attempt that runs or is paused, and has run for ``ran_s``, if it has one."""
    limit_s = assigned.wish.options.time_limit
    left_s = max(0.0, limit_s - ran_s)
    if limit_s and assigned.status is Status.RUNNING:
        state.deadlines.put((DueKind.LIMIT, assigned.instance), state.now + left_s)
    elif limit_s and assigned.status is Status.PAUSED:
        assigned.left_s = left_s


def guard(state: State, assigned: Assigned) -> None:
    """If it is exclusive, its node is looked after for that."""
    if assigned.wish.guarantee & Guarantee.EXCLUSIVE:
        node = state.nodes[assigned.node]
        node.exclusive[assigned.attempt] = assigned
        state.watch_exclusive(node)


def watch_stop(state: State, assigned: Assigned, grace_s: float) -> None:
    """Force comes after ``grace_s``."""
    state.deadlines.put((DueKind.STOP, assigned.instance), state.now + grace_s)


def lost(state: State, assigned: Assigned, reason: str, *, has_begun: bool = True) -> None:
    """The attempt is gone; its instance waits again, unless it is cancelling, lost too many or may not."""
    if not has_begun:
        _end(state, assigned, Happening.LOST, None)
        return
    assigned.losses += 1
    if assigned.wish.guarantee & Guarantee.ONCE:
        _end(state, assigned, Happening.LOST_TOO_OFTEN, TaskLost.because(reason), TaskLost.code)
        return
    losses, limit = assigned.losses, state.limits.loss_limit
    if losses < limit:
        _end(state, assigned, Happening.LOST, None)
        return
    words = WorkerDied.too_often(losses, limit, reason, str(assigned.instance))
    _end(state, assigned, Happening.LOST_TOO_OFTEN, words)


def _end(state: State, assigned: Assigned, happening: Happening, reason: str | None, code: str = "") -> None:
    """The attempt is over: its slot is free, and its instance final or waiting again."""
    if assigned.fails:
        happening = Happening.TERMINATED
    after = status_after(assigned.status, happening)
    dismiss(state, assigned.instance, after.is_final)
    if assigned.has_slot:
        vacate(state, assigned)
    del state.assigned[assigned.instance], state.attempts[assigned.attempt]
    node = state.nodes[assigned.node]
    del node.roots[assigned.instance]
    if node.exclusive.pop(assigned.attempt, None) is not None:
        state.watch_exclusive(node)
    state.resuming.pop(assigned.instance, None)
    if assigned.status is Status.CANCELLING:
        state.deadlines.clear((DueKind.STOP, assigned.instance))
    state.deadlines.clear((DueKind.LIMIT, assigned.instance))
    if happening is Happening.RETRIED and after is Status.QUEUED:
        _retry(state, assigned)
    elif after is Status.QUEUED:
        waiting = _again(assigned, assigned.losses, assigned.retried)
        state.out.append(Requeue(assigned.instance, assigned.attempt, assigned.losses))
        if assigned.status is Status.PAUSED:
            state.paused[assigned.instance] = waiting
        else:
            state.queue.add(waiting)
    elif assigned.fails:
        cause = TaskTerminated()
        why, code = assigned.reason or str(cause), assigned.code or cause.code
        admission.finish(state, assigned.instance, assigned.attempt, after, why, code, assigned.node)
    else:
        told = (reason, code) if after is Status.FAILED else (None, "")
        admission.finish(state, assigned.instance, assigned.attempt, after, *told, assigned.node)


def _may_be_retried(assigned: Assigned, code: str) -> bool:
    """There is a retry left, nobody asked for the end, and it reached no limit, which it would again."""
    is_wanted = assigned.status is not Status.CANCELLING and code != LimitExceeded.code
    return is_wanted and assigned.retried < assigned.wish.options.retries


def _retry(state: State, assigned: Assigned) -> None:
    """It is run again after its delay."""
    delay_s = assigned.wish.options.delay_s(assigned.retried)
    waiting = _again(assigned, assigned.losses, assigned.retried + 1)
    waiting.rests_until = state.now + delay_s
    state.out.append(Retry(assigned.instance, assigned.attempt, waiting.retried, delay_s))
    if assigned.status is Status.PAUSED:
        state.paused[assigned.instance] = waiting
    else:
        admission.rest(state, waiting)


def _again(assigned: Assigned, losses: int, retried: int) -> Waiting:
    """What ran waits once more, in its place."""
    place = (assigned.instance, assigned.priority, assigned.queued)
    return Waiting(*place, losses, assigned.wish, retried, assigned.node)


def _begin_to_end(state: State, assigned: Assigned) -> None:
    """It is asked to end: nothing of it goes on but its root."""
    assigned.status = status_after(assigned.status, Happening.CANCEL_REQUESTED)
    state.resuming.pop(assigned.instance, None)
    state.deadlines.clear((DueKind.LIMIT, assigned.instance))
    dismiss(state, assigned.instance, is_final=True)


def _open(state: State, given: Submitted | Restored) -> None:
    """The client of a session may ask for units from now on."""
    crew = Crew(given.instance, given.priority, given.queued, is_session=True)
    crew.guarantee = given.options.guarantee
    state.crews[given.instance] = crew


def _ask_to_stop(state: State, assigned: Assigned) -> None:
    """Set the stop flag now, and kill after the grace."""
    state.out.append(StopUnit(assigned.node, assigned.attempt))
    watch_stop(state, assigned, state.limits.stop_grace_s)
