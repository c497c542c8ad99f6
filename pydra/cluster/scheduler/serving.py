# SPDX-License-Identifier: MIT
"""Which units go to which hired worker, and how many at once."""

from __future__ import annotations

from pydra.cluster.scheduler import branches, guarded
from pydra.cluster.scheduler.crews import Asker, Batch, Branch, Crew, Hired
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.hiring import begin, give_back, hire, is_quick, release, sort, stir
from pydra.cluster.scheduler.nodes import NodeRecord, Standing
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_values import RunUnits
from pydra.cluster.scheduler.wishes import Requirement
from pydra.model.ids import InstanceId, WorkerSlot
from pydra.model.status import Status

BATCH_S = 0.02
"""Seconds of work that a batch is to have."""

BATCH_UNITS, BATCH_BYTES = 1000, 224 * 1024
"""No batch has more."""

LATE_S = 0.5
"""What a batch of quick units may take before nobody counts on its worker: far more than it should."""


def serve(state: State, crew: Crew) -> bool:
    """
    Give out what is queued, to those who may run it; on its own slots and lent ones only.

    True if workers of it were released instead, since it is paused.
    """
    _note_late(state, crew)
    least = least_depth(state, crew)
    while least is not None and (depth := crew.ready.highest()) is not None and depth >= least:
        branch = crew.ready.first(depth)
        worker = crew.able.find(depth, lambda one: _may_work(state, one))
        if worker is None:
            worker = _with_one(state, branch)
        if worker is None:
            lender = crew.lenders.find(depth, lambda asker: _may_lend(state, asker))
            if lender is None:
                break
            slot = _slot(state, lender)
            worker = hire(state, crew, state.nodes[slot.node], lender, slot.index)
        _give(state, branch, worker)
    if least == 1 and crew.queued and _wants_more(crew):
        state.hungry.put(crew, state.assigned[crew.instance].wish.requirement)
    else:
        state.hungry.drop(crew)
    if state.status(crew.instance) is not Status.PAUSED:
        return False
    resting = list(crew.idle)
    for each in resting:
        release(state, each)
    return bool(resting)


def least_depth(state: State, crew: Crew) -> int | None:
    """
    The least depth of units that may be given out; None if none may.

    While the root is paused, or waits for a slot after that, those that other units wait for still run: so
    what runs can end, and leaves its slots.
    """
    root = state.assigned.get(crew.instance)
    if root is None or (state.expected and root.attempt.epoch < state.epoch):
        return None
    return 1 if root.status is Status.RUNNING and root.has_slot else 2


def hire_more(state: State) -> None:
    """Further workers on free slots, or on those of workers of others that have nothing to do."""

    def has_place(crew: Crew, requirement: Requirement) -> bool:
        return (
            state.placement.choose(requirement) is not None or spare_for(state, requirement, crew) is not None
        )

    while (crew := state.hungry.first(has_place)) is not None:
        stir(state, crew)
        requirement = state.assigned[crew.instance].wish.requirement
        node = state.placement.choose(requirement)
        if node is None:
            worker = spare_for(state, requirement, crew)
            if worker is not None:
                give_back(state, worker)
            continue
        depth = crew.ready.highest()
        worker = hire(state, crew, node, None)
        if depth is not None:
            _give(state, crew.ready.first(depth), worker)
        serve(state, crew)


def spare_for(
    state: State, requirement: Requirement, crew: Crew | None, priority: int | None = None
) -> Hired | None:
    """
    A worker without a batch whose slot would do, and which has nothing to do or must give way.

    It gives way to a root with a ``priority`` that is not behind its own.
    """
    for worker in state.spare:
        other = worker.crew
        gives_way = not other.queued or (priority is not None and priority <= other.priority)
        if other is not crew and gives_way and _would_do(state, worker, requirement):
            return worker
    return None


def hold(state: State, crew: Crew) -> None:
    """Its workers without a batch are kept for a while; those with quick units should have done them soon."""
    late = (DueKind.LATE, crew.instance)
    if not crew.queued or not crew.brisk:
        state.deadlines.clear(late)
    elif state.deadlines.get(late) is None:
        # It stays when that worker goes on: so it costs nothing while all goes well.
        state.deadlines.put(late, next(iter(crew.brisk.values())) + LATE_S)
    key = (DueKind.IDLE, crew.instance)
    if not crew.idle:
        state.deadlines.clear(key)
        return
    at = next(iter(crew.idle.values())) + state.limits.hold_s
    if state.deadlines.get(key) != at:
        state.deadlines.put(key, at)


def idle_due(state: State, instance: InstanceId) -> None:
    """Some workers had nothing to do for long enough."""
    crew = state.crews[instance]
    for worker, since in list(crew.idle.items()):
        if since + state.limits.hold_s > state.now:
            break
        release(state, worker)
    stir(state, crew)


def _give(state: State, branch: Branch, worker: Hired) -> None:
    """A batch goes to a worker."""
    crew = branch.crew
    cut = branches.cut(branch, _count(branch), BATCH_BYTES)
    if branch.queued:
        crew.ready.put_last(branch)
    batch = Batch(
        state.next_attempt(),
        worker,
        branch,
        cut.indexes,
        cut.args,
        cut.digests,
        cut.blobs,
        cut.time_limit,
        cut.size,
        guarantee=cut.guarantee,
    )
    if batch.guarantee:
        guarded.begin(state, batch)
    worker.batches.append(batch)
    state.batches[batch.attempt] = branch.batches[batch.attempt] = batch
    if crew.idle.pop(worker, None) is not None:
        begin(state, worker)
    sort(state, worker)
    state.out.append(
        RunUnits(
            worker.node,
            worker.attempt,
            batch.attempt,
            crew.instance,
            branch.name,
            cut.indexes,
            cut.args,
            cut.digests,
            cut.blobs,
            cut.time_limit,
            cut.guarantee,
        )
    )


def _count(branch: Branch) -> int:
    """How many units the next batch has, if they are not too large."""
    if branch.unit_s is None:
        return 1
    fair = branch.queued // (2 * len(branch.crew.workers))
    wanted = BATCH_UNITS if branch.unit_s <= BATCH_S / BATCH_UNITS else int(BATCH_S / branch.unit_s)
    return max(1, min(wanted, fair))


def _wants_more(crew: Crew) -> bool:
    """A further worker would be done with more than one batch before the others could begin with it."""
    depth = crew.ready.highest()
    if depth is None:
        return False
    unit_s, soon_free = crew.ready.first(depth).unit_s, len(crew.brisk) + len(crew.idle)
    if unit_s is None or not unit_s < BATCH_S or not soon_free:
        return True
    return crew.queued * unit_s > BATCH_S * soon_free


def _note_late(state: State, crew: Crew) -> None:
    """Nobody counts on workers that should have done their quick units by now: one of these was not quick."""
    while crew.brisk:
        worker, since = next(iter(crew.brisk.items()))
        if since + LATE_S > state.now:
            return
        del crew.brisk[worker]


def _may_work(state: State, worker: Hired) -> bool:
    """Nobody else works on its slot: all who lend it wait, those that it lends it to too, and it does not."""
    return (
        not worker.units
        and state.nodes[worker.node].standing is Standing.READY
        and all_wait(worker.lender)
        and not _works(worker.lendee)
    )


def _with_one(state: State, branch: Branch) -> Hired | None:
    """A worker of quick units which is given a batch of them ahead."""
    if not is_quick(branch) or branch.chunks[0].guarantee:
        return None
    return branch.crew.short.find(branch.depth, lambda worker: _may_have_two(state, worker, branch.depth))


def _may_have_two(state: State, worker: Hired, depth: int) -> bool:
    """
    If it has a slot of its own, no root waits for that; and nobody else works on it.

    No unit stands behind one that is nested less deep: that may come to wait for it, and then none of the two
    would ever go on. Nor behind one that takes longer than was thought.
    """
    if depth > worker.depth or worker not in worker.crew.brisk or not _may_work(state, worker):
        return False
    return worker.lender is not None or not _is_claimed(state, worker)


def _may_lend(state: State, asker: Asker) -> bool:
    """It has a slot and waits, and so do all who lend that to it."""
    if not isinstance(asker, Hired) and not state.assigned[asker.crew.instance].has_slot:
        return False
    if not asker.units or asker.lendee is not None or not all_wait(asker.upper):
        return False
    node = state.nodes[_slot(state, asker).node]
    return node.standing is Standing.READY and not node.refusal


def all_wait(asker: Asker | None) -> bool:
    """True if all who lend a slot wait for units."""
    while asker is not None:
        if not asker.units:
            return False
        asker = asker.upper
    return True


def _works(lendee: Hired | None) -> bool:
    """A worker on this lent slot has a batch, and waits for no units."""
    while lendee is not None:
        if lendee.batches and not lendee.units:
            return True
        lendee = lendee.lendee
    return False


def _slot(state: State, asker: Asker) -> WorkerSlot:
    """Where the worker of an asker is; that of an instance has its slot."""
    holder = asker if isinstance(asker, Hired) else state.assigned[asker.crew.instance]
    return WorkerSlot(holder.node, holder.index)


def _is_claimed(state: State, worker: Hired) -> bool:
    """An instance waits that could have the slot of this worker, and is not behind its instance."""
    return any(
        head.priority <= worker.crew.priority and _would_do(state, worker, head.wish.requirement)
        for head in state.queue.heads()
    )


def _would_do(state: State, worker: Hired, requirement: Requirement) -> bool:
    """A root with this requirement could have its slot."""
    node: NodeRecord = state.nodes[worker.node]
    return (
        node.standing is Standing.READY
        and worker.index < node.offered
        and node.would_meet(requirement, worker.wish.requirement.resources)
    )
