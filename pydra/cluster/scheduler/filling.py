# SPDX-License-Identifier: MIT
"""Who gets the free slots."""

from __future__ import annotations

from pydra.cluster.scheduler.instructions import Dispatch
from pydra.cluster.scheduler.lifecycle import Happening, status_after
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord
from pydra.cluster.scheduler.queue import Waiting
from pydra.cluster.scheduler.roots import watch_limit
from pydra.cluster.scheduler.state import State
from pydra.model.ids import WorkerSlot
from pydra.model.status import Status


def fill(state: State) -> None:
    """Dispatch from the queue, in its order, until nothing that waits finds a place."""
    queue, placement = state.queue, state.placement
    if placement.is_unchanged and not queue.has_news:
        return
    while (found := queue.first(placement.choose)) is not None:
        waiting, node = found
        queue.remove(waiting.instance)
        _dispatch(state, waiting, node)


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
    state.assigned[waiting.instance] = state.attempts[attempt] = assigned
    state.placement.reconsider(node)
    state.out.append(Dispatch(waiting.instance, attempt, WorkerSlot(node.id, index)))
