# SPDX-License-Identifier: MIT
"""
Hired workers: how they come, how they go, and on whose slot they are.

On one slot there is a chain of workers of one instance, each lending it to the next while it waits for units.
If one of them goes, the next takes its place.
"""

from __future__ import annotations

from pydra.cluster.scheduler import branches, guarded
from pydra.cluster.scheduler.crews import Asker, Batch, Branch, Crew, Hired
from pydra.cluster.scheduler.deadlines import DueKind
from pydra.cluster.scheduler.nodes import Assigned, NodeRecord
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_values import FailUnits, HireWorker, ReleaseWorker
from pydra.errors import LimitExceeded, WorkerDied, WorkersUnavailable
from pydra.model.ids import InstanceId, WorkerSlot
from pydra.model.options import Guarantee
from pydra.model.unit import digest_at

QUICK_S = 0.05
"""A worker with a batch of units that take less is given another one ahead."""


def crew_of(state: State, root: Assigned) -> Crew:
    """The crew of an instance that runs; made, if it asked for nothing before."""
    crew = state.crews.get(root.instance)
    if crew is None:
        crew = state.crews[root.instance] = Crew(root.instance, root.priority, root.queued)
        crew.guarantee = root.wish.options.guarantee
        crew.main.attempt = root.attempt
    return crew


def stir(state: State, crew: Crew) -> None:
    """Something happened to it: it is looked at before this feed ends."""
    state.stirred[crew] = None


def hire(state: State, crew: Crew, node: NodeRecord, lender: Asker | None, lent_index: int = -1) -> Hired:
    """A further worker begins on a lent slot, or on the lowest free slot of the node."""
    root = state.assigned[crew.instance]
    index = node.next_index() if lender is None else lent_index
    worker = Hired(
        crew=crew,
        attempt=state.next_attempt(),
        node=node.id,
        index=index,
        lender=lender,
        named=state.now,
        wish=root.wish,
    )
    if lender is None:
        node.take(worker)
        state.placement.reconsider(node)
    else:
        lender.lendee = worker
        crew.lenders.discard(lender)
    enlist(state, worker)
    state.out.append(HireWorker(worker.attempt, crew.instance, WorkerSlot(node.id, index)))
    return worker


def enlist(state: State, worker: Hired) -> None:
    """A worker, which has its slot, is there from now on."""
    crew = worker.crew
    state.hired[worker.attempt] = crew.workers[worker.attempt] = worker
    state.nodes[worker.node].hired[worker.attempt] = worker
    rest(state, worker)


def rest(state: State, worker: Hired) -> None:
    """It has no batch."""
    worker.crew.idle[worker] = state.now
    worker.crew.brisk.pop(worker, None)
    for name in list(worker.branches):
        # Whatever it asked for, the unit that wanted it has ended.
        forget(state, worker, name)
    sort(state, worker)


def sort(state: State, worker: Hired) -> None:
    """Its batches or its place changed: keep it where it is looked for, and those who lend it its slot."""
    lender: Asker | None = worker
    while isinstance(lender, Hired):
        _sort(state, lender)
        lender = lender.lender


def _sort(state: State, worker: Hired) -> None:
    crew = worker.crew
    if worker.is_gone:
        crew.able.discard(worker)
        crew.short.discard(worker)
    elif not worker.batches:
        crew.able.add(worker.level, worker)
        crew.short.discard(worker)
    else:
        crew.able.discard(worker)
        batch = worker.batches[0]
        if len(worker.batches) == 1 and is_quick(batch.branch) and not batch.guarantee:
            crew.short.add(worker.level, worker)
        else:
            crew.short.discard(worker)
    _count_spare(state, worker)


def is_quick(branch: Branch) -> bool:
    """Its units are known to take so little that a worker may have two batches of them."""
    return branch.unit_s is not None and branch.unit_s < QUICK_S


def begin(state: State, worker: Hired) -> None:
    """It goes on with its first batch now."""
    crew = worker.crew
    crew.brisk.pop(worker, None)
    if is_quick(worker.batches[0].branch) and not worker.is_gone:
        crew.brisk[worker] = state.now


def wait(state: State, asker: Asker) -> None:
    """It waits for units or waits no more: that decides who may work on its slot."""
    crew = asker.crew
    if isinstance(asker, Hired):
        sort(state, asker)
    if not asker.units:
        crew.lenders.discard(asker)
        return
    if asker.lendee is None:
        crew.lenders.add(asker.depth + 1, asker)
    lendee = asker.lendee
    while lendee is not None:
        sort(state, lendee)
        if lendee.units and lendee.lendee is None:
            crew.lenders.add(lendee.depth + 1, lendee)
        lendee = lendee.lendee


def forget(state: State, asker: Asker, name: str) -> None:
    """It wants no more of a branch: what is queued never runs, what is in batches runs for nobody."""
    branch = asker.branches.get(name)
    if branch is not None:
        branches.part(branch)
        wait(state, asker)
        stir(state, asker.crew)


def release(state: State, worker: Hired, is_final: bool = False) -> None:
    """It is wanted no more; whatever it has, it has for nothing. ``is_final``: so has its instance."""
    if state.nodes[worker.node].standing.is_connected and not worker.is_gone:
        state.out.append(ReleaseWorker(worker.node, worker.attempt))
    drop(state, worker, is_final)


def drop(state: State, worker: Hired, is_final: bool = False) -> None:
    """It is ours no more, and what it had is queued again; that may be alive for a while."""
    is_alive = not worker.is_gone
    for batch in _remove(state, worker):
        if is_final and batch.guarantee:
            guarded.lost(state, batch, "its instance has ended", "")
            branches.clear(batch.branch)
        else:
            _take_back(state, batch, "its worker was given up", "", is_solo=False, is_alive=is_alive)


def _take_back(
    state: State, batch: Batch, reason: str, code: str, *, is_solo: bool, is_alive: bool = False
) -> None:
    """A batch, which is with no worker any more, is queued again, but for what its guarantee forbids."""
    if batch.guarantee & Guarantee.ONCE:
        guarded.lost(state, batch, reason, code)
    elif is_alive and batch.guarantee:
        guarded.go_astray(state, batch)
        branches.put_back(batch.branch, batch, is_solo, is_aside=True)
    else:
        branches.put_back(batch.branch, batch, is_solo)
        guarded.call_back(state, batch)
    branches.clear(batch.branch)


def give_back(state: State, worker: Hired) -> None:
    """A spare worker, and all that are on its slot, are wanted no more."""
    chain = [worker]
    while chain[-1].lendee is not None:
        chain.append(chain[-1].lendee)
    for each in reversed(chain):
        release(state, each)


def lose(state: State, worker: Hired, reason: str, code: str, is_alive: bool = False) -> None:
    """It is gone, and the unit that it ran may be to blame; what it had is queued again, unit by unit."""
    held = _remove(state, worker)
    has_begun = code != WorkersUnavailable.code
    if held and has_begun and not held[0].guarantee & Guarantee.ONCE:
        _charge(state, held[0], reason, code)
    for batch in reversed(held):
        _take_back(state, batch, reason, code, is_solo=True, is_alive=is_alive)


def drop_batch(state: State, batch: Batch) -> None:
    """The node does not have it, though it has the worker: it never came there."""
    worker = batch.worker
    worker.batches.remove(batch)
    del state.batches[batch.attempt]
    if batch.guarantee:
        guarded.leave(state, batch)
    _take_back(state, batch, "its node never had it", "", is_solo=False)
    if not worker.batches:
        rest(state, worker)
    else:
        begin(state, worker)
        wait(state, worker)
    stir(state, worker.crew)


def dismiss(state: State, instance: InstanceId, is_final: bool) -> None:
    """
    Nobody works for the instance any more: it ends, or its root does.

    What the client of a session asked for stays queued, unless the instance is ``is_final``.
    """
    if state.strays:
        guarded.dismiss(state, instance, is_final)
    crew = state.crews.get(instance)
    if crew is None:
        return
    is_kept = crew.is_session and not is_final
    if not is_kept:
        for branch in list(crew.branches.values()):
            branches.part(branch)
    for worker in sorted(crew.workers.values(), key=lambda worker: worker.attempt, reverse=True):
        release(state, worker, is_final)
    state.hungry.drop(crew)
    if is_kept:
        stir(state, crew)
        return
    state.stirred.pop(crew, None)
    state.deadlines.clear((DueKind.IDLE, instance))
    state.deadlines.clear((DueKind.LATE, instance))
    del state.crews[instance]


def go(state: State, worker: Hired) -> None:
    """Its process is gone, and results of it are still to come: it has no slot any more."""
    for name in list(worker.branches):
        branches.part(worker.branches[name])
    _leave(state, worker)
    worker.is_gone = True
    for batch in worker.batches:
        if batch.guarantee:
            guarded.leave(state, batch)
    worker.crew.idle.pop(worker, None)
    worker.crew.brisk.pop(worker, None)
    worker.crew.lenders.discard(worker)
    sort(state, worker)
    stir(state, worker.crew)


def vacate(state: State, assigned: Assigned) -> None:
    """A main worker has no slot any more; if it lent it, it is its lendee's until that is released."""
    assigned.has_slot = False
    node = state.nodes[assigned.node]
    crew = state.crews.get(assigned.instance)
    heir = crew.main.lendee if crew is not None else None
    if crew is not None and heir is not None:
        crew.main.lendee = None
        _inherit(state, node, assigned.index, heir)
    else:
        node.release(assigned.index)
        state.placement.reconsider(node)


def _leave(state: State, worker: Hired) -> None:
    """It is not on its slot any more; who was on it by its leave takes its place."""
    node, heir, lender = state.nodes[worker.node], worker.lendee, worker.lender
    state.spare.pop(worker, None)
    worker.lendee = worker.lender = None
    if lender is not None:
        lender.lendee = heir
        if heir is not None:
            heir.lender = lender
            sort(state, heir)
        wait(state, lender)
        _count_spare(state, lender)
    elif worker.is_gone:
        return
    elif heir is not None:
        _inherit(state, node, worker.index, heir)
    else:
        node.release(worker.index)
        state.placement.reconsider(node)


def _inherit(state: State, node: NodeRecord, index: int, heir: Hired) -> None:
    heir.lender = None
    node.hand_over(index, heir)
    sort(state, heir)
    wait(state, heir)


def _remove(state: State, worker: Hired) -> list[Batch]:
    """It is nowhere any more; these are the batches that it had, which are not among the living ones."""
    crew = worker.crew
    held = list(worker.batches)
    for name in list(worker.branches):
        # Another worker will run its unit, and ask for the same.
        branches.part(worker.branches[name])
    _leave(state, worker)
    worker.batches.clear()
    worker.is_gone = True
    for batch in held:
        del state.batches[batch.attempt]
        if batch.guarantee:
            guarded.leave(state, batch)
    del state.hired[worker.attempt], crew.workers[worker.attempt]
    del state.nodes[worker.node].hired[worker.attempt]
    crew.idle.pop(worker, None)
    crew.brisk.pop(worker, None)
    crew.lenders.discard(worker)
    sort(state, worker)
    stir(state, crew)
    return held


def _charge(state: State, batch: Batch, reason: str, code: str) -> None:
    """The first unit without a result was running: it is to blame, and fails after too many of these."""
    place, branch = batch.done, batch.branch
    if branch.asker is None:
        return
    index = batch.indexes[place]
    losses = branch.losses.get(index, 0) + 1
    is_over_time = code == LimitExceeded.code and len(batch.indexes) == 1
    if losses < state.limits.loss_limit and not is_over_time:
        branch.losses[index] = losses
        return
    if not is_over_time:
        log = f"{branch.crew.instance} --unit {branch.name}:{index}"
        reason = WorkerDied.too_often(losses, state.limits.loss_limit, reason, log)
    state.out.append(
        FailUnits(
            branch.crew.instance,
            branch.asker.attempt,
            branch.name,
            [index],
            digest_at(batch.digests, place),
            batch.attempt,
            code,
            reason,
        )
    )
    answer(state, branch, [index])


def answer(state: State, branch: Branch, indexes: list[int]) -> None:
    """These have results; their asker waits for them no more."""
    asker = branch.asker
    branches.settle(branch, indexes)
    if asker is not None and not asker.units:
        wait(state, asker)


def _count_spare(state: State, asker: Asker) -> None:
    """Whether the slot of a chain could be given back at once, now that something changed in it."""
    first: Asker = asker
    while first.upper is not None:
        first = first.upper
    if not isinstance(first, Hired):
        return
    worker: Hired | None = first
    while worker is not None and not worker.batches:
        worker = worker.lendee
    if worker is None and first.is_on_own_slot:
        state.spare[first] = None
    else:
        state.spare.pop(first, None)
