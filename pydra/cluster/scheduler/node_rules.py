# SPDX-License-Identifier: MIT
"""What happens to a node: it is ready, is heard of, falls silent, or was not heard of for too long."""

from __future__ import annotations

from pydra.cluster.scheduler import guarded
from pydra.cluster.scheduler.adoption import adopt, lose_unnamed
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.hiring import lose, sort, stir, wait
from pydra.cluster.scheduler.inputs import HeartbeatReceived, NodeReady
from pydra.cluster.scheduler.instructions import Discard, KillUnit, StopUnit
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.roots import lost, watch_limit, watch_stop
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.strays import Stray
from pydra.cluster.scheduler.wishes import amounts
from pydra.errors import WorkerDied
from pydra.model.ids import NodeId
from pydra.model.status import Status


def ready(state: State, given: NodeReady) -> None:
    """It is linked, and what it does not name is lost."""
    node = state.known(given.node)
    node.standing, node.heard, node.refusal = Standing.READY, state.now, given.refusal
    state.watch_node(node)
    running, finished = set(given.running), set(given.finished)
    kept = []
    for assigned in node.by_slot():
        if assigned.attempt in running or assigned.attempt in finished:
            assigned.named = state.now
            kept.append(assigned)
            if assigned.attempt.epoch < state.epoch and assigned.attempt in given.ran_s:
                # Its limit began under another master.
                watch_limit(state, assigned, given.ran_s[assigned.attempt])
        else:
            lost(state, assigned, "the node came back without it")
    lose_unnamed(state, node, given)
    guarded.node_came(state, node, given)
    node.offer(given.slots)
    node.describe(given.labels, given.isolation, amounts(given.resources))
    state.placement.reconsider(node)
    adopt(state, node, given)
    guarded.settle(state, node, given)
    _wake(state, node)
    for attempt in dict.fromkeys(given.running):
        if not state.is_held_by(attempt, node.id):
            state.out.append(KillUnit(node.id, attempt))
    for attempt in dict.fromkeys(given.finished):
        if not state.is_held_by(attempt, node.id):
            state.out.append(Discard(node.id, attempt))
    for assigned in kept:
        if assigned.status is Status.CANCELLING:
            if assigned.attempt in running:
                order = KillUnit if assigned.is_killed else StopUnit
                state.out.append(order(node.id, assigned.attempt))
            watch_stop(state, assigned, state.limits.stop_grace_s)


def silent(state: State, identity: NodeId) -> None:
    """Nothing can be sent to it."""
    node = state.nodes.get(identity)
    if node is None or not node.standing.is_connected:
        return
    node.standing = Standing.SILENT
    state.watch_node(node)
    state.placement.reconsider(node)
    for assigned in node.roots.values():
        state.deadlines.clear((DueKind.STOP, assigned.instance))


def heartbeat(state: State, given: HeartbeatReceived) -> None:
    """It lives, and names what it holds."""
    node = state.nodes.get(given.node)
    if node is None or not node.standing.is_connected:
        return
    node.heard = state.now
    if node.standing is Standing.SUSPECT or given.refusal != node.refusal:
        node.standing, node.refusal = Standing.READY, given.refusal
        state.placement.reconsider(node)
        _wake(state, node)
    state.watch_node(node)
    held = set(given.held)
    lease_s = state.limits.lease_s
    overdue = []
    for assigned in node.roots.values():
        if assigned.attempt in held:
            assigned.named = state.now
        elif assigned.named + lease_s <= state.now and assigned.attempt not in node.exclusive:
            overdue.append(assigned)
    missing = []
    for worker in node.hired.values():
        if worker.attempt in held and not worker.is_gone:
            worker.named = state.now
        elif (
            worker.named + (state.limits.linger_s if worker.is_gone else lease_s) <= state.now
            and worker.attempt not in node.exclusive
        ):
            missing.append(worker)
    if node.exclusive:
        for each in node.exclusive.values():
            if each.attempt in held:
                each.named = state.now
        state.watch_exclusive(node)
    reason = f"its node did not have it for {lease_s:g} s"
    gone = "its node came back without it"
    for assigned in sorted(overdue, key=lambda assigned: (assigned.index, assigned.attempt)):
        lost(state, assigned, reason)
    for worker in sorted(missing, key=lambda worker: worker.attempt):
        if worker.attempt in state.hired:
            lose(state, worker, gone if worker.is_gone else reason, WorkerDied.code)


def due(state: State, node: NodeRecord) -> None:
    """A node was not heard of for too long."""
    if node.standing is Standing.READY and state.now < node.heard + state.limits.lease_s:
        node.standing = Standing.SUSPECT
        state.watch_node(node)
        state.placement.reconsider(node)
        return
    exclusive_s = state.limits.exclusive_s
    kept_until = max((each.named for each in node.exclusive.values()), default=state.now) + exclusive_s
    if node.exclusive and kept_until > state.now:
        node.kept_until = kept_until
        state.deadlines.put((DueKind.NODE, node.id), kept_until)
        return
    node.standing = Standing.GONE
    state.placement.reconsider(node)
    reason = f"its node was not heard of for {state.limits.lease_s:g} s"
    for assigned in node.by_slot():
        lost(state, assigned, reason)
    for worker in sorted(node.hired.values(), key=lambda worker: worker.attempt):
        lose(state, worker, reason, WorkerDied.code)
    for stray in state.strays.on(node.id):
        guarded.free(state, stray, reason)


def exclusive_due(state: State, node: NodeRecord) -> None:
    """It did not name something exclusive for so long that it has ended it, if it is alive itself."""
    limit_s = state.limits.exclusive_s
    reason = f"its node did not have it for {limit_s:g} s"
    for each in sorted(node.exclusive.values(), key=lambda each: each.attempt):
        # One that is lost may take others with it.
        if each.named + limit_s > state.now or node.exclusive.get(each.attempt) is not each:
            continue
        if isinstance(each, Assigned):
            lost(state, each, reason)
        elif isinstance(each, Stray):
            guarded.free(state, each, reason)
        else:
            lose(state, each, reason, WorkerDied.code)
    state.watch_exclusive(node)


def expect(state: State, nodes: tuple[NodeId, ...]) -> None:
    """Units of what was restored wait until these nodes are ready, but not for long."""
    state.expected.update(node for node in nodes if node not in state.nodes or not _is_up(state, node))
    if state.expected:
        state.deadlines.put((DueKind.EXPECTED, 0), state.now + state.limits.return_s)


def expected_due(state: State) -> None:
    """Those that did not come back are not waited for any more."""
    state.expected.clear()
    for crew in state.crews.values():
        stir(state, crew)


def _is_up(state: State, node: NodeId) -> bool:
    return state.nodes[node].standing.is_connected


def _wake(state: State, node: NodeRecord) -> None:
    """It takes work again, and so do those that are on it."""
    for worker in node.hired.values():
        sort(state, worker)
        wait(state, worker)
        stir(state, worker.crew)
    for assigned in node.roots.values():
        crew = state.crews.get(assigned.instance)
        if crew is not None:
            wait(state, crew.main)
            stir(state, crew)
    if node.id in state.expected:
        state.expected.discard(node.id)
        if not state.expected:
            state.deadlines.clear((DueKind.EXPECTED, 0))
            expected_due(state)
