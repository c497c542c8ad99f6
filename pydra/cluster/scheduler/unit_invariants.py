# SPDX-License-Identifier: MIT
"""What is true of units, batches and hired workers after every feed."""

from __future__ import annotations

from pydra.cluster.scheduler.crews import Asker, Batch, Branch, Crew, Hired
from pydra.cluster.scheduler.nodes import NodeRecord, Standing
from pydra.cluster.scheduler.serving import all_wait, least_depth, spare_for
from pydra.cluster.scheduler.state import State
from pydra.cluster.scheduler.unit_values import RunUnits
from pydra.model.ids import Attempt
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE


def check_units(state: State) -> None:
    """AssertionError, in words, if the tables of units contradict each other or the other tables."""
    assert not state.stirred, "a crew was stirred and not looked at"
    for crew in state.crews.values():
        _check_crew(state, crew)
    for attempt, worker in state.hired.items():
        assert attempt == worker.attempt
        assert attempt not in state.attempts, f"attempt {attempt} is a root and a hired worker"
        assert state.crews.get(worker.instance) is worker.crew, f"worker {attempt} is of nobody"
        assert worker.crew.workers.get(attempt) is worker, f"worker {attempt} is not of its crew"
        assert state.nodes[worker.node].hired.get(attempt) is worker, f"worker {attempt} is not on its node"
        _check_seat(state, worker)
    for attempt, batch in state.batches.items():
        assert attempt == batch.attempt
        assert state.hired.get(batch.worker.attempt) is batch.worker, f"batch {attempt} has no worker"
        assert batch in batch.worker.batches, f"batch {attempt} is not with its worker"
        assert _is_past(state, attempt)
    for node in state.nodes.values():
        _check_node(state, node)
        _check_exclusive(state, node)
    _check_strays(state)
    _check_spare(state)
    _check_given(state)


def _check_node(state: State, node: NodeRecord) -> None:
    for instance, assigned in node.roots.items():
        assert state.assigned.get(instance) is assigned
        assert assigned.node == node.id
    for attempt, worker in node.hired.items():
        assert state.hired.get(attempt) is worker, f"node {node.id} has worker {attempt}, who is nowhere"
        assert node.standing is not Standing.GONE, f"worker {attempt} is with node {node.id}, which is gone"


def _check_crew(state: State, crew: Crew) -> None:
    name = f"instance {crew.instance}"
    status = state.status(crew.instance)
    assert status not in (Status.UNKNOWN, Status.CANCELLING), f"{name} has a crew, but is {status.name}"
    root = state.assigned.get(crew.instance)
    if not crew.is_session:
        assert root is not None, f"{name} has a crew, but no root"
        assert crew.main.attempt == root.attempt, f"{name} has the crew of another attempt"
    if root is None:
        assert not crew.workers, f"{name} has hired workers, but no root"
    if status is Status.PAUSED:
        assert not crew.idle, f"{name} is paused, and has workers without a batch"
    branches = set(crew.branches.values()) | {
        batch.branch for worker in crew.workers.values() for batch in worker.batches
    }
    assert crew.queued == sum(branch.queued for branch in branches), f"{name} counts what is queued wrong"
    for branch in branches:
        _check_branch(crew, branch)
    for asker in (crew.main, *crew.workers.values()):
        _check_asker(asker)
    for worker in crew.workers.values():
        assert state.hired.get(worker.attempt) is worker
        is_of_before = worker.is_gone or worker.attempt in state.adopted
        assert len(worker.batches) <= 2 or is_of_before, f"{worker.attempt} has much to do"
        for batch in worker.batches:
            assert state.batches.get(batch.attempt) is batch
            assert batch.branch.depth <= worker.depth or batch.attempt in state.adopted, (
                f"batch {batch.attempt} stands behind a unit that may wait for it"
            )
        is_idle = not worker.batches and not worker.is_gone
        assert (worker in crew.idle) == is_idle, f"worker {worker.attempt} is wrongly idle or not"
    for times in (list(crew.idle.values()), list(crew.brisk.values())):
        assert times == sorted(times)
    for worker in crew.brisk:
        assert worker.batches, f"worker {worker.attempt} has no batch, and is to end it soon"
        assert crew.workers.get(worker.attempt) is worker
        assert not worker.is_gone
    _check_fed(state, crew)


def _check_branch(crew: Crew, branch: Branch) -> None:
    name = f"branch {branch.name} of instance {crew.instance}"
    queued = [index for chunk in branch.chunks for index in chunk.indexes[chunk.at :]]
    held = [index for batch in branch.batches.values() for index in batch.indexes[batch.done :]]
    assert branch.queued == len(queued), f"{name} counts what is queued wrong"
    everywhere = sorted([*queued, *held, *branch.aside])
    assert everywhere == sorted(branch.outstanding), f"{name} has units that are twice or nowhere"
    assert branch.outstanding or branch.asker is None or branch.batches, f"{name} has nothing, and is there"
    assert not queued or branch.asker is not None, f"{name} has queued units that nobody waits for"
    assert (branch in crew.ready) == bool(queued), f"{name} is wrongly ready or not"
    sizes = [len(one) for chunk in branch.chunks for one in chunk.args[chunk.at :]]
    sizes += [batch.size for batch in branch.batches.values()]
    sizes += [len(chunk.args[0]) for chunk in branch.aside.values()]
    assert branch.size == sum(sizes), f"{name} has arguments of {sum(sizes)} bytes, and counts {branch.size}"
    assert branch.losses.keys() <= branch.outstanding, f"{name} remembers losses of what is not there"
    if branch.asker is not None:
        assert branch.asker.branches.get(branch.name) is branch
        assert crew.branches.get(branch.name) is branch
    for chunk in branch.chunks:
        assert 0 <= chunk.at < len(chunk.indexes), f"{name} has an empty chunk"
        assert len(chunk.indexes) == len(chunk.args) == len(chunk.digests) // DIGEST_SIZE
    for batch in branch.batches.values():
        _check_batch(branch, batch)


def _check_batch(branch: Branch, batch: Batch) -> None:
    assert batch.branch is branch
    assert 0 <= batch.done < len(batch.indexes), f"batch {batch.attempt} is over"
    assert len(batch.indexes) == len(batch.args) == len(batch.digests) // DIGEST_SIZE
    assert all(0 <= place < len(batch.indexes) for place in (*batch.lacking, *batch.blobs))
    if batch.guarantee:
        assert len(batch.indexes) == 1, f"batch {batch.attempt} has a guarantee, and several units"
        assert batch.worker.batches[0] is batch, f"batch {batch.attempt} waits behind another one"
        assert len(batch.worker.batches) == 1, f"a batch waits behind {batch.attempt}, which has a guarantee"


def _check_asker(asker: Asker) -> None:
    branches = asker.branches.values()
    units = sum(len(branch.outstanding) for branch in branches)
    assert asker.units == units, f"{asker.attempt} waits for {units} units, and counts {asker.units}"
    assert asker.size == sum(branch.size for branch in branches)
    assert all(branch.asker is asker for branch in branches)
    if asker.lendee is not None:
        assert asker.lendee.lender is asker, f"{asker.attempt} lends its slot to somebody else"


def _check_seat(state: State, worker: Hired) -> None:
    name, node = f"worker {worker.attempt}", state.nodes[worker.node]
    assert _is_past(state, worker.attempt)
    lender = worker.lender
    if worker.is_gone:
        assert worker.batches, f"{name} is gone, and nothing of it is to come"
        assert lender is None, f"{name} is gone, and on the slot of another"
        assert not worker.branches
        assert worker not in node.holders.values(), f"{name} is gone, and has a slot"
    elif lender is None:
        assert node.holders.get(worker.index) is worker, f"{name} has no slot"
    else:
        assert lender.lendee is worker, f"{name} is on a slot that is not lent to it"
        assert lender.crew is worker.crew, f"{name} is on the slot of another instance"
        if isinstance(lender, Hired):
            assert state.hired.get(lender.attempt) is lender, f"{name} is on the slot of nobody"
            place = (lender.node, lender.index)
        else:
            root = state.assigned[worker.instance]
            assert root.has_slot, f"{name} is on a slot that was given up"
            place = (root.node, root.index)
        assert place == (worker.node, worker.index), f"{name} is not where its lender is"


def _check_fed(state: State, crew: Crew) -> None:
    """What could be given out was."""
    depth = crew.ready.highest()
    least = least_depth(state, crew)
    assert crew not in state.hungry or (crew.queued and least == 1), (
        f"instance {crew.instance} wants workers for nothing"
    )
    if depth is None or least is None or depth < least:
        return
    for worker in crew.workers.values():
        may_work = (
            not worker.batches
            and not worker.is_gone
            and not worker.units
            and state.nodes[worker.node].standing is Standing.READY
            and worker.level <= depth
            and all_wait(worker.lender)
            and not any(map(works, lendees(worker)))
        )
        assert not may_work, f"worker {worker.attempt} has nothing to do, though units wait that it may run"
    for asker in (crew.main, *crew.workers.values()):
        if asker.units and asker.lendee is None and asker.depth < depth and all_wait(asker.upper):
            holder = asker if isinstance(asker, Hired) else state.assigned[crew.instance]
            has_slot = isinstance(holder, Hired) or holder.has_slot
            node = state.nodes[holder.node]
            may_lend = has_slot and node.standing is Standing.READY and not node.refusal
            assert not may_lend, f"{asker.attempt} does not lend its slot"


def _check_spare(state: State) -> None:
    expected = set()
    for worker in state.hired.values():
        if worker.is_on_own_slot and not any(each.batches for each in (worker, *lendees(worker))):
            expected.add(worker)
    assert set(state.spare) == expected, "other slots could be given back than are known for it"
    for head in state.queue.heads():
        kept = spare_for(state, head.wish.requirement, None, head.priority)
        assert kept is None, f"instance {head.instance} waits, though {kept.attempt} does nothing"
    for crew in state.crews.values():
        if crew in state.hungry:
            requirement = state.assigned[crew.instance].wish.requirement
            kept = spare_for(state, requirement, crew)
            assert kept is None, f"instance {crew.instance} wants a slot, though {kept.attempt} does nothing"
            node = state.placement.choose(requirement)
            assert node is None, f"instance {crew.instance} wants a slot, though node {node.id} has one"


def _check_exclusive(state: State, node: NodeRecord) -> None:
    """What is exclusive and may be alive there is looked after, and of no unit there is more than one."""
    expected: set[Attempt] = {
        each.attempt for each in node.roots.values() if each.wish.guarantee & Guarantee.EXCLUSIVE
    }
    for worker in node.hired.values():
        if not worker.is_gone and any(batch.guarantee & Guarantee.EXCLUSIVE for batch in worker.batches):
            expected.add(worker.attempt)
    for stray in state.strays.on(node.id):
        if stray.guarantee & Guarantee.EXCLUSIVE:
            expected.add(stray.attempt)
    assert set(node.exclusive) == expected, (
        f"node {node.id} is looked after for {sorted(node.exclusive)}; exclusive there are {sorted(expected)}"
    )


def _check_strays(state: State) -> None:
    alive: set[tuple[int, str, int]] = set()
    for stray in state.strays.all():
        unit = (stray.instance, stray.branch, stray.index)
        assert state.status(stray.instance) is not Status.UNKNOWN, f"{unit} is a stray of what has ended"
        assert stray.batch not in state.batches, f"{unit} is a stray and in a batch"
        if stray.guarantee & Guarantee.EXCLUSIVE:
            assert unit not in alive, f"{unit} is exclusive, and may be alive twice"
            alive.add(unit)
    for batch in state.batches.values():
        unit = (batch.branch.crew.instance, batch.branch.name, batch.indexes[0])
        if batch.guarantee & Guarantee.EXCLUSIVE and not batch.worker.is_gone:
            assert unit not in alive, f"{unit} is exclusive, and given out twice"
            alive.add(unit)
    for crew in state.crews.values():
        for branch in crew.branches.values():
            for index in branch.aside:
                unit = (crew.instance, branch.name, index)
                is_waited_for = unit in alive or any(
                    (stray.instance, stray.branch, stray.index) == unit for stray in state.strays.all()
                )
                assert is_waited_for, f"{unit} waits for nothing"


def _check_given(state: State) -> None:
    """
    Nobody who was given something to do shares its slot with another one that works.

    A worker that has all its units goes on at once, though its lendee may still run one of somebody else: so
    this is true of what was given out just now, and not of whatever runs.
    """
    given = {each.worker for each in state.out if isinstance(each, RunUnits)}
    for attempt in given & state.hired.keys():
        first: Asker = state.hired[attempt]
        while first.upper is not None:
            first = first.upper
        chain = ([first] if isinstance(first, Hired) else []) + lendees(first)
        at_work = [each.attempt for each in chain if works(each)]
        assert at_work in ([], [attempt]), f"{attempt} was given a batch; {at_work} work on its slot"
        assert isinstance(first, Hired) or first.units, f"{attempt} was given a batch; its main worker works"


def lendees(asker: Asker) -> list[Hired]:
    """Those who are on its slot by its leave."""
    found: list[Hired] = []
    while asker.lendee is not None:
        asker = asker.lendee
        found.append(asker)
    return found


def works(worker: Hired) -> bool:
    """It has something to do, and waits for no units."""
    return bool(worker.batches) and not worker.units


def _is_past(state: State, attempt: Attempt) -> bool:
    return attempt.epoch < state.epoch or attempt.number <= state.number
