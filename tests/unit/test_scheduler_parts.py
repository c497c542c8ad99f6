# SPDX-License-Identifier: MIT
from __future__ import annotations

import random

import pytest

from pydra.cluster.scheduler.deadlines import Deadlines, DueKind, Key
from pydra.cluster.scheduler.nodes import NodeRecord, Standing
from pydra.cluster.scheduler.placement import Placement
from pydra.cluster.scheduler.policies import LeastLoad
from pydra.cluster.scheduler.queue import Waiting, WaitingQueue
from pydra.cluster.scheduler.wishes import ANYWHERE, Requirement, Wish
from pydra.model.ids import InstanceId, NodeId
from pydra.model.options import NO_OPTIONS

NODE: Key = (DueKind.NODE, 1)
STOP: Key = (DueKind.STOP, 1)


def waiting(instance: int, priority: int = 5, queued: float = 0.0) -> Waiting:
    return Waiting(InstanceId(instance), priority, queued, losses=0)


def taken(queue: WaitingQueue) -> list[int]:
    numbers = []
    anywhere = NodeRecord(NodeId(1), Standing.READY, heard=0.0)
    anywhere.offer(1)
    placement = Placement(LeastLoad, queue.has_line)
    placement.reconsider(anywhere)
    while (found := queue.first(placement)) is not None:
        numbers.append(int(found[0].instance))
        queue.remove(found[0].instance)
    return numbers


def test_queue_order() -> None:
    """Priority comes before age, and age before number."""
    queue = WaitingQueue()
    for item in (
        waiting(4, 5, 2.0),
        waiting(3, 5, 1.0),
        waiting(2, 5, 1.0),
        waiting(1, 6, 0.0),
        waiting(9, 1, 9.0),
    ):
        queue.add(item)
    assert [9, 2, 3, 4, 1] == [int(item.instance) for item in queue.ordered()]
    assert [9, 2, 3, 4, 1] == taken(queue)


@pytest.mark.parametrize("most", [0, 1, 7, 20, 300, 10**6])
def test_the_first_of_many(most: int) -> None:
    """They are the same, in the same order, whether few or all are taken; nothing changes by looking."""
    source = random.Random(7)
    queue = WaitingQueue()
    for number in range(1000):
        wish = Wish(NO_OPTIONS, Requirement(frozenset({str(number % 3)})))
        at = InstanceId(number), source.randrange(4), source.random()
        queue.add(Waiting(*at, losses=0, wish=wish))
    for number in source.sample(range(1000), 400):
        queue.remove(InstanceId(number))
    for number in range(0, 1000, 7):
        if InstanceId(number) in queue:
            queue.add(queue.remove(InstanceId(number)))
    whole = queue.ordered()
    assert 600 == len(whole)
    assert sorted(whole, key=lambda item: item.order) == whole
    assert whole[:most] == queue.ordered(most)
    assert 600 == len(list(queue.living_entries()))


def test_queue_forgets_what_was_removed() -> None:
    """What was removed from the middle is never taken, and a mass removal leaves no dead entries behind."""
    queue = WaitingQueue()
    for number in range(1000):
        queue.add(waiting(number))
    for number in range(1000):
        if number % 100 != 7:
            queue.remove(InstanceId(number))
    assert 10 == len(queue)
    assert all(len(line.heap) < 100 for line in queue._lines.values())
    assert [7, 107, 207, 307, 407, 507, 607, 707, 807, 907] == taken(queue)


def test_queue_takes_back_what_was_removed() -> None:
    """An instance that is added again, with another priority, is taken once and at its new place."""
    queue = WaitingQueue()
    queue.add(waiting(1, 1))
    queue.add(waiting(2, 2))
    queue.remove(InstanceId(1))
    queue.add(waiting(1, 3))
    assert [2, 1] == taken(queue)


def test_queue_counts_what_is_ahead() -> None:
    """The number of those ahead is the place in the order; only what is a rival counts."""
    queue = WaitingQueue()
    items = [waiting(number, priority=9 - number) for number in range(5)]
    for item in items:
        queue.add(item)
    assert [4, 3, 2, 1, 0] == [queue.ahead_of(item, lambda _: True) for item in items]
    assert 0 == queue.ahead_of(items[0], lambda requirement: requirement != ANYWHERE)


def test_deadline_moved_later() -> None:
    """A deadline that moved later is not due at its old time."""
    deadlines = Deadlines()
    deadlines.put(NODE, 10.0)
    deadlines.put(NODE, 20.0)
    assert deadlines.take_due(19.9) is None
    assert 20.0 == deadlines.next_at()
    assert NODE == deadlines.take_due(20.0)
    assert deadlines.next_at() is None


def test_deadline_moved_earlier_and_back() -> None:
    """A deadline that moved earlier and later again is due once."""
    deadlines = Deadlines()
    for at in (20.0, 10.0, 20.0, 15.0):
        deadlines.put(NODE, at)
    assert 15.0 == deadlines.next_at()
    assert [NODE, None] == [deadlines.take_due(99.0), deadlines.take_due(99.0)]
    assert deadlines.next_at() is None


def test_deadline_cleared() -> None:
    """A cleared deadline is not due, and one set again after that is."""
    deadlines = Deadlines()
    deadlines.put(NODE, 10.0)
    deadlines.clear(NODE)
    assert deadlines.next_at() is None
    deadlines.clear(NODE)
    deadlines.put(NODE, 12.0)
    assert 12.0 == deadlines.next_at()


def test_cleared_deadlines_take_no_room() -> None:
    """Far deadlines that are cleared are not kept until they would have been due."""
    deadlines = Deadlines()
    deadlines.put(NODE, 10.0)
    for number in range(10_000):
        deadlines.put((DueKind.LIMIT, number), 86_400.0 + number)
        if number % 100:
            deadlines.clear((DueKind.LIMIT, number))
    assert len(deadlines._heap) < 500
    assert NODE == deadlines.take_due(10.0)
    assert 86_400.0 == deadlines.next_at()


def test_deadlines_at_one_instant() -> None:
    """At one instant nodes come before stops."""
    deadlines = Deadlines()
    deadlines.put(STOP, 10.0)
    deadlines.put(NODE, 10.0)
    assert [NODE, STOP] == [deadlines.take_due(10.0), deadlines.take_due(10.0)]
