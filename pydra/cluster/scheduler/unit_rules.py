# SPDX-License-Identifier: MIT
"""What happens to units: they are asked for, forgotten, done, or lose their worker."""

from __future__ import annotations

from math import inf

from pydra.cluster.scheduler import branches, guarded
from pydra.cluster.scheduler.crews import Asker, Batch, Branch
from pydra.cluster.scheduler.hiring import answer, begin, crew_of, forget, lose, rest, stir, wait
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_values import (
    DiscardUnits,
    RecordUnits,
    ReleaseWorker,
    UnitsAsked,
    UnitsDone,
    UnitsForgotten,
    WorkerLost,
)
from pydra.errors import WireError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.status import Status

NEWEST = 0.3
"""The part that the latest batch has in the moving average."""


def asked(state: State, given: UnitsAsked) -> None:
    """They are queued, unless they are outstanding already; what is stale is ignored."""
    asker = _asker(state, given.instance, given.asker, is_made=True)
    if asker is None or not given.indexes:
        return
    crew = asker.crew
    was_waiting = bool(asker.units)
    branch = crew.branches.get(given.branch)
    if branch is not None and branch.asker is not asker:
        branches.part(branch)
        branch = crew.branches.get(given.branch)
        if branch is not None:
            branches.part_with_others(branch, given)
            branches.join(branch, asker)
    if branch is None:
        branch = Branch(crew, given.branch, unit_s=crew.paces.get(given.branch))
        crew.branches[given.branch] = branch
        branches.join(branch, asker)
    guarantee = given.guarantee | crew.guarantee if given.guarantee else crew.guarantee
    if guarantee:
        guarded.asked(state, asker, branch, given, guarantee)
    else:
        branches.add(asker, branch, given)
    if not was_waiting:
        wait(state, asker)
    stir(state, crew)


def forgotten(state: State, given: UnitsForgotten) -> None:
    """What is queued of them never runs, and what is in batches runs for nobody."""
    asker = _asker(state, given.instance, given.asker, is_made=False)
    if asker is not None:
        forget(state, asker, given.branch)


def done(state: State, given: UnitsDone) -> None:
    """A node told results, which may be stale."""
    batch, end = state.batches.get(given.batch), given.start + given.count
    if batch is None or (batch.worker.attempt, batch.worker.node) != (given.worker, given.node):
        state.out.append(DiscardUnits(given.node, given.batch, end))
        return
    if end <= batch.done:
        # They are recorded already, or will be before this reaches the node.
        state.out.append(DiscardUnits(given.node, given.batch, batch.done))
        return
    worker, branch = batch.worker, batch.branch
    if not 0 <= given.start <= batch.done or end > len(batch.indexes) or worker.batches[0] is not batch:
        _refuse(state, given, batch)
        return
    if branch.is_stale:
        state.out.append(DiscardUnits(given.node, given.batch, end))
    else:
        _record(state, given, batch, end)
    fresh, batch.done = batch.indexes[batch.done : end], end
    answer(state, branch, fresh)
    if worker.is_gone:
        worker.named = state.now
    if 0.0 <= given.busy_s < inf:
        _measure(branch, given.busy_s / given.count)
    if end == len(batch.indexes):
        worker.batches.popleft()
        del state.batches[batch.attempt], branch.batches[batch.attempt]
        branches.shrink(branch, batch.size)
        branches.clear(branch)
        if batch.guarantee:
            guarded.leave(state, batch)
            guarded.call_back(state, batch)
        if worker.is_gone:
            if not worker.batches:
                lose(state, worker, "", "")
        elif worker.batches:
            begin(state, worker)
            wait(state, worker)  # its next unit may be nested less deep, and wait already
        else:
            rest(state, worker)
    else:
        begin(state, worker)
    stir(state, worker.crew)


def worker_lost(state: State, given: WorkerLost) -> None:
    """A hired worker ended by itself."""
    worker = state.hired.get(given.worker)
    if worker is not None and worker.node == given.node:
        lose(state, worker, given.reason, given.code)
    for stray in state.strays.on(given.node):
        if stray.attempt == given.worker:
            guarded.free(state, stray, given.reason)


def _record(state: State, given: UnitsDone, batch: Batch, end: int) -> None:
    branch = batch.branch
    if given.start == 0 and end == len(batch.indexes):
        indexes, digests = batch.indexes, batch.digests
    else:
        indexes, digests = batch.columns(given.start, end)
    state.out.append(
        RecordUnits(
            given.node,
            batch.attempt,
            branch.crew.instance,
            branch.asker.attempt if branch.asker is not None else None,
            branch.name,
            indexes,
            digests,
            end,
            given.told,
        )
    )


def _refuse(state: State, given: UnitsDone, batch: Batch) -> None:
    """These results cannot be of this batch: the worker that told them is given up."""
    worker = batch.worker
    is_alive = not worker.is_gone
    if is_alive:
        state.out.append(ReleaseWorker(worker.node, worker.attempt))
    state.out.append(DiscardUnits(given.node, given.batch, given.start + given.count))
    words = "its worker told results of units that it did not have"
    lose(state, worker, words, WireError.code, is_alive)


def _measure(branch: Branch, unit_s: float) -> None:
    old = branch.unit_s
    branch.unit_s = unit_s if old is None else old + NEWEST * (unit_s - old)


def _asker(state: State, instance: InstanceId, attempt: Attempt | None, *, is_made: bool) -> Asker | None:
    """Who this is, if it may ask for units now."""
    crew = state.crews.get(instance)
    if attempt is None:
        is_live = crew is not None and state.status(instance) is not Status.CANCELLING
        return crew.main if crew is not None and crew.is_session and is_live else None
    hired = state.hired.get(attempt)
    if hired is not None:
        # Without a batch it has no unit that could ask.
        return hired if hired.crew is crew and hired.batches and not hired.is_gone else None
    root = state.assigned.get(instance)
    if root is None or root.attempt != attempt or root.status is Status.CANCELLING:
        return None
    if crew is None and is_made:
        crew = crew_of(state, root)
    return None if crew is None or crew.is_session else crew.main
