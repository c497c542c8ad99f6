# SPDX-License-Identifier: MIT
"""Who gets the free slots."""

from __future__ import annotations

from pydra.cluster.scheduler.hiring import give_back, stir, wait
from pydra.cluster.scheduler.instructions import Dispatch
from pydra.cluster.scheduler.lifecycle import Happening, status_after
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.queue import Waiting
from pydra.cluster.scheduler.roots import guard, watch_limit
from pydra.cluster.scheduler.serving import hire_more, hold, serve, spare_for
from pydra.cluster.scheduler.state import State
from pydra.model.ids import WorkerSlot
from pydra.model.status import Status


def fill(state: State) -> None:
    """
    Give out slots and units, until nothing that waits finds a place.

    Roots that were paused come first, then those of the queue, in its order; units go to the workers that
    their instance has and on the slots that these lend; what is free then goes to further workers.
    """
    is_changed = not state.placement.is_unchanged or bool(state.stirred)
    if is_changed or state.queue.has_news or state.resuming:
        _fill_roots(state)
    if state.hungry and (is_changed or state.hungry.has_news):
        hire_more(state)
    for crew in state.stirred:
        hold(state, crew)
    state.stirred.clear()


def _fill_roots(state: State) -> None:
    """Roots take slots and units go to workers, in turns, since workers that are released leave slots."""
    while True:
        for assigned in list(state.resuming.values()):
            _resume(state, assigned)
        _dispatch_all(state)
        released = [serve(state, crew) for crew in list(state.stirred)]
        if not any(released):
            return


def _dispatch_all(state: State) -> None:
    """Roots that wait take free slots, and those of hired workers that give way to them."""
    queue, placement = state.queue, state.placement
    while queue:
        found = None
        if queue.has_news or not placement.is_unchanged:
            found = queue.first(placement)
        if found is not None:
            waiting, node = found
            queue.remove(waiting.instance)
            _dispatch(state, waiting, node)
        elif not _make_room(state):
            return


def _make_room(state: State) -> bool:
    """A hired worker without a batch gives way to a root that could have its slot; False if none does."""
    if not state.spare:
        return False
    for head in sorted(state.queue.heads(), key=lambda waiting: waiting.order):
        worker = spare_for(state, head.wish.requirement, None, head.priority)
        if worker is not None:
            give_back(state, worker)
            return True
    return False


def _dispatch(state: State, waiting: Waiting, node: NodeRecord) -> None:
    """An instance that waited takes the lowest free slot of a node."""
    attempt = state.next_attempt()
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
        wish=waiting.wish,
        retried=waiting.retried,
    )
    node.take(assigned)
    watch_limit(state, assigned)
    node.roots[waiting.instance] = assigned
    state.assigned[waiting.instance] = state.attempts[attempt] = assigned
    guard(state, assigned)
    state.placement.reconsider(node)
    state.out.append(Dispatch(waiting.instance, attempt, WorkerSlot(node.id, index)))
    _begin(state, assigned)


def _resume(state: State, assigned: Assigned) -> None:
    """A root that was paused takes a slot of its node, if there is one."""
    node = state.nodes[assigned.node]
    is_free = node.standing is Standing.READY and node.has_free_slot
    if not is_free or node.short_of(assigned.wish.requirement.resources):
        return
    del state.resuming[assigned.instance]
    assigned.index, assigned.has_slot = node.next_index(), True
    node.take(assigned)
    state.placement.reconsider(node)
    _begin(state, assigned)


def _begin(state: State, assigned: Assigned) -> None:
    """The units of an instance, if it has any, may go on."""
    crew = state.crews.get(assigned.instance)
    if crew is not None:
        wait(state, crew.main)
        stir(state, crew)
