# SPDX-License-Identifier: MIT
"""
Units with a guarantee: those that run at most once, and those of which no two attempts are alive.

Each is a batch of its own, and stored before it is sent. One that runs at most once and is lost has failed,
whoever waits for it. An exclusive one is not given out while an attempt of it may be alive: until its batch
has ended, its node said that the worker is gone or never had it, or did not name it for
``Limits.exclusive_s``.
"""

from __future__ import annotations

from pydra.cluster.scheduler import branches
from pydra.cluster.scheduler.crews import Asker, Batch, Branch, Crew
from pydra.cluster.scheduler.inputs import NodeReady
from pydra.cluster.scheduler.nodes import NodeRecord
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.strays import Stray
from pydra.cluster.scheduler.unit_values import FailUnits, UnitRestored, UnitsAsked
from pydra.errors import LimitExceeded, TaskLost
from pydra.model.ids import InstanceId
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import digest_at

EXCLUSIVE, ONCE = Guarantee.EXCLUSIVE, Guarantee.ONCE


def restored(state: State, given: UnitRestored) -> None:
    """Its node may still have it; until that is known, it is a stray."""
    if state.status(given.instance) is Status.UNKNOWN:
        return
    place = (given.batch, given.worker, state.known(given.node).id, given.instance)
    unit = (given.branch, given.index, given.digest, given.guarantee)
    _stray(state, Stray(*place, *unit, state.now, is_released=False))


def go_astray(state: State, batch: Batch) -> None:
    """The worker of an exclusive batch was told to end, or is to be."""
    worker = batch.worker
    place = (batch.attempt, worker.attempt, worker.node, worker.crew.instance)
    unit = (batch.branch.name, batch.indexes[0], batch.digests, batch.guarantee)
    _stray(state, Stray(*place, *unit, worker.named, is_released=True))


def _stray(state: State, stray: Stray) -> None:
    state.strays.add(stray)
    if stray.guarantee & EXCLUSIVE:
        node = state.nodes[stray.node]
        node.exclusive[stray.attempt] = stray
        state.watch_exclusive(node)


def remove(state: State, stray: Stray) -> None:
    """It is known what became of it."""
    state.strays.remove(stray)
    node = state.nodes[stray.node]
    if node.exclusive.get(stray.attempt) is stray:
        del node.exclusive[stray.attempt]
        state.watch_exclusive(node)


def free(state: State, stray: Stray, reason: str, *, fails: bool = False) -> None:
    """It is not alive, and has no result: it may be run again, unless it ``fails`` or always does then."""
    remove(state, stray)
    fails = (fails or bool(stray.guarantee & ONCE)) and not stray.is_stale
    crew = state.crews.get(stray.instance)
    branch = crew.branches.get(stray.branch) if crew is not None else None
    aside = branch.aside.get(stray.index) if branch is not None else None
    waits = branch if aside is not None and aside.digests == stray.digest else None
    if fails:
        asker = waits.asker.attempt if waits is not None and waits.asker is not None else None
        about = (stray.branch, [stray.index], stray.digest, stray.batch)
        state.out.append(FailUnits(stray.instance, asker, *about, TaskLost.code, TaskLost.because(reason)))
    if crew is None or branch is None:
        return
    if fails and waits is not None:
        branches.drop_aside(branch, stray.index)
        branches.clear(branch)
    elif aside is not None:
        branches.call_back(branch, stray.index)
    state.stirred[crew] = None


def lost(state: State, batch: Batch, reason: str, code: str) -> None:
    """A batch that runs at most once has no result and will have none; it is with no worker any more."""
    if code != LimitExceeded.code:
        code, reason = TaskLost.code, TaskLost.because(reason)
    branch, instance = batch.branch, batch.branch.crew.instance
    asker = branch.asker.attempt if branch.asker is not None else None
    about = (branch.name, batch.indexes, batch.digests, batch.attempt)
    if not branch.is_stale:
        state.out.append(FailUnits(instance, asker, *about, code, reason))
    del branch.batches[batch.attempt]
    branches.shrink(branch, batch.size)
    branches.settle(branch, batch.indexes)
    call_back(state, batch)


def begin(state: State, batch: Batch) -> None:
    """A batch with a guarantee is given to its worker; that it is told is as good as being named."""
    if batch.guarantee & EXCLUSIVE:
        worker, node = batch.worker, state.nodes[batch.worker.node]
        worker.named = state.now
        node.exclusive[worker.attempt] = worker
        state.watch_exclusive(node)


def leave(state: State, batch: Batch) -> None:
    """A batch with a guarantee is with its worker no more, or that is gone."""
    node = state.nodes[batch.worker.node]
    if node.exclusive.pop(batch.worker.attempt, None) is not None:
        state.watch_exclusive(node)


def call_back(state: State, batch: Batch) -> None:
    """An exclusive batch is over: its unit may be given out again, if it was asked for meanwhile."""
    crew = batch.branch.crew
    branch = crew.branches.get(batch.branch.name)
    if batch.guarantee & EXCLUSIVE and branch is not None and branches.call_back(branch, batch.indexes[0]):
        state.stirred[crew] = None


def asked(state: State, asker: Asker, branch: Branch, given: UnitsAsked, guarantee: Guarantee) -> None:
    """Units with a guarantee are queued, or wait for an earlier attempt, or share its fate."""
    crew = branch.crew
    batches = {
        batch.indexes[0]: batch
        for worker in crew.workers.values()
        for batch in worker.batches
        if batch.guarantee and batch.branch.name == branch.name and batch.branch is not branch
    }
    strays = {stray.index: stray for stray in state.strays.of(crew.instance) if stray.branch == branch.name}
    left = []
    for place, index in enumerate(given.indexes):
        if index in branch.outstanding:
            left.append(place)
            continue
        digest = digest_at(given.digests, place)
        batch, stray, started = batches.get(index), strays.get(index), given.started.get(index)
        if batch is not None and batch.digests == digest:
            branches.retake(asker, branch, batch)
            continue
        if (batch is not None and batch.guarantee & EXCLUSIVE and not batch.worker.is_gone) or (
            stray is not None and (stray.guarantee & EXCLUSIVE or stray.digest == digest)
        ):
            branches.put_aside(asker, branch, given, place, guarantee)
            continue
        if stray is not None:
            stray.is_stale = True
        if started is not None and guarantee & ONCE:
            words = TaskLost.because("it was given out, and nobody has it")
            about = (branch.name, [index], digest, started, TaskLost.code, words)
            state.out.append(FailUnits(crew.instance, asker.attempt, *about))
        else:
            left.append(place)
    if left:
        rest = given if len(left) == len(given.indexes) else branches.part_of(given, left)
        branches.add(asker, branch, rest, guarantee)
    branches.clear(branch)


def node_came(state: State, node: NodeRecord, given: NodeReady) -> None:
    """What the node does not have is not alive there."""
    there = {held.worker for held in given.workers}
    to_come = {(held.batch, held.worker) for held in given.batches}
    for stray in state.strays.on(node.id):
        if stray.is_released and stray.attempt in there:
            stray.named = state.now
        elif stray.is_released or (stray.batch, stray.attempt) not in to_come:
            free(state, stray, "its node came back without it")
    state.watch_exclusive(node)


def settle(state: State, node: NodeRecord, given: NodeReady) -> None:
    """What the node has and was not taken over is of no use; its worker, if it has one, is told to end."""
    there = {held.worker for held in given.workers}
    for stray in state.strays.on(node.id):
        if stray.is_released:
            continue
        if stray.attempt in there and not stray.guarantee & ONCE and stray.attempt not in state.hired:
            stray.is_released = True
            stray.named = state.now
        else:
            free(state, stray, "its instance did not wait for it any more")
    state.watch_exclusive(node)


def dismiss(state: State, instance: InstanceId, is_final: bool) -> None:
    """Strays of an instance that ends, or whose root does, are wanted by nobody."""
    for stray in state.strays.of(instance):
        if is_final or stray.guarantee & ONCE:
            free(state, stray, "its instance did not wait for it any more", fails=True)
        else:
            stray.is_released = True


def adopted_into(state: State, stray: Stray, crew: Crew, branch: Branch) -> Branch:
    """Where a stray is taken over as a batch: it may have been asked for with other arguments."""
    aside = branch.aside.get(stray.index)
    if aside is not None and aside.digests == stray.digest:
        branches.call_back(branch, stray.index)
    elif stray.is_stale or stray.index in branch.outstanding:
        branch = Branch(crew, branch.name, is_stale=True)
    return branch
