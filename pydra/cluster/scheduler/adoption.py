# SPDX-License-Identifier: MIT
"""What a node has of hired workers and batches when it comes back, and what of that is ours."""

from __future__ import annotations

from pydra.cluster.scheduler import branches, guarded
from pydra.cluster.scheduler.crews import Asker, Batch, Branch, Crew, Hired
from pydra.cluster.scheduler.hiring import crew_of, drop, drop_batch, enlist, go, lose, sort, stir, wait
from pydra.cluster.scheduler.inputs import NodeReady
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.strays import Stray
from pydra.cluster.scheduler.unit_values import BatchHeld, DiscardUnits, ReleaseWorker, WorkerHeld
from pydra.errors import WorkerDied
from pydra.model.ids import Attempt, InstanceId
from pydra.model.status import Status


def lose_unnamed(state: State, node: NodeRecord, given: NodeReady) -> None:
    """Hired workers that the node does not name are lost, but for results that are still to come."""
    there = {held.worker for held in given.workers}
    to_come = {(held.batch, held.worker) for held in given.batches}
    for worker in sorted(node.hired.values(), key=lambda worker: worker.attempt):
        batches = list(worker.batches)
        if worker.attempt in there and not worker.is_gone:
            worker.named = state.now
            for batch in reversed(batches):
                if (batch.attempt, worker.attempt) not in to_come:
                    drop_batch(state, batch)
        elif not any((batch.attempt, worker.attempt) in to_come for batch in batches):
            lose(state, worker, "the node came back without it", WorkerDied.code)
        else:
            worker.named = state.now
            if not worker.is_gone:
                go(state, worker)


def adopt(state: State, node: NodeRecord, given: NodeReady) -> None:
    """What an earlier master gave to the node is ours, if its instance still runs; the rest is given up."""
    for held in sorted(given.workers, key=lambda held: held.worker):
        if held.was_given and held.worker not in state.hired:
            root = _root(state, held.instance, held.worker)
            if root is not None:
                _adopt_worker(state, node, held, root)
    for held_batch in sorted(given.batches, key=lambda held: held.batch):
        batch = state.batches.get(held_batch.batch)
        if batch is None:
            is_ours = _adopt_batch(state, node, held_batch)
        else:
            is_ours = (batch.worker.attempt, batch.worker.node) == (held_batch.worker, node.id)
        if not is_ours:
            _refuse(state, node, held_batch)
    for attempt in sorted({held.worker for held in given.workers}):
        worker = state.hired.get(attempt)
        if worker is None or worker.node != node.id or worker.is_gone:
            state.out.append(ReleaseWorker(node.id, attempt))


def _root(state: State, instance: InstanceId, attempt: Attempt) -> Assigned | None:
    """The root of an instance for which an earlier master gave out this attempt; None if there is none."""
    root = state.assigned.get(instance)
    if root is None or root.status is Status.CANCELLING:
        return None
    is_ours = root.attempt < attempt and attempt.epoch < state.epoch and attempt not in state.adopted
    return root if is_ours else None


def _adopt_worker(state: State, node: NodeRecord, held: WorkerHeld, root: Assigned) -> None:
    crew = crew_of(state, root)
    worker = Hired(crew, held.worker, node.id, held.index, None, state.now, root.wish)
    lender = _lender(node, crew, held.index)
    if lender is None and sum(isinstance(each, Hired) for each in node.holders.values()) >= node.offered:
        return  # there cannot be so many on slots of their own
    state.adopted.add(worker.attempt)
    if lender is not None:
        worker.lender, lender.lendee = lender, worker
        crew.lenders.discard(lender)
    else:
        node.hold_again(worker)
        state.placement.reconsider(node)
    enlist(state, worker)
    stir(state, crew)


def _lender(node: NodeRecord, crew: Crew, index: int) -> Asker | None:
    """The last of the chain on a slot, if it is of this crew."""
    holder = node.holders.get(index)
    if holder is None or holder.instance != crew.instance:
        return None
    asker: Asker = holder if isinstance(holder, Hired) else crew.main
    while asker.lendee is not None:
        asker = asker.lendee
    return asker


def _adopt_batch(state: State, node: NodeRecord, held: BatchHeld) -> bool:
    """
    It is of its worker from now on; False if it cannot be.

    A worker that the node does not name any more is gone: of its batches only results are to come.
    """
    root = _root(state, held.instance, held.batch) if held.was_given else None
    if root is None or not root.attempt < held.worker or held.recorded >= len(held.indexes):
        return False
    stray = state.strays.get(held.batch)
    if (held.is_guarded and stray is None) or (stray is not None and not _is_of(stray, node, held)):
        return False  # it was given up: lost, or given out again
    crew = crew_of(state, root)
    worker = state.hired.get(held.worker)
    if worker is None:
        worker = Hired(crew, held.worker, node.id, -1, None, state.now, root.wish)
        worker.is_gone = True
    elif worker.node != node.id or worker.crew is not crew:
        return False
    branch = crew.branches.get(held.branch)
    if branch is None:
        branch = Branch(crew, held.branch, unit_s=crew.paces.get(held.branch))
    place = branch if stray is None else guarded.adopted_into(state, stray, crew, branch)
    batch = Batch(
        held.batch,
        worker,
        place,
        held.indexes,
        [b""] * len(held.indexes),
        held.digests,
        {},
        0.0,
        0,
        held.recorded,
        set(range(held.recorded, len(held.indexes))),
    )
    if not branches.take_out(place, batch):
        return False
    state.adopted.add(batch.attempt)
    if place is branch:
        crew.branches[held.branch] = branch
    state.batches[batch.attempt] = place.batches[batch.attempt] = batch
    worker.batches.append(batch)
    crew.idle.pop(worker, None)
    if worker.is_gone:
        state.hired[worker.attempt] = crew.workers[worker.attempt] = node.hired[worker.attempt] = worker
    if stray is not None:
        guarded.remove(state, stray)
        batch.guarantee = stray.guarantee
        if not worker.is_gone:
            guarded.begin(state, batch)
    sort(state, worker)
    if place.asker is not None:
        wait(state, place.asker)
    stir(state, crew)
    return True


def _is_of(stray: Stray, node: NodeRecord, held: BatchHeld) -> bool:
    """What the node says of a batch with a guarantee is what is stored of it."""
    told = (held.worker, node.id, held.instance, held.branch, held.indexes, held.digests)
    known = (stray.attempt, stray.node, stray.instance, stray.branch, [stray.index], stray.digest)
    return told == known


def _refuse(state: State, node: NodeRecord, held: BatchHeld) -> None:
    """Whatever it tells of this batch is not wanted, and if a worker still runs it, neither is that."""
    state.out.append(DiscardUnits(node.id, held.batch, len(held.indexes)))
    is_known = held.batch.epoch == state.epoch or held.batch in state.adopted
    is_over = is_known or held.recorded >= len(held.indexes)
    worker = state.hired.get(held.worker)
    if worker is not None and worker.node == node.id and not is_over:
        drop(state, worker)
