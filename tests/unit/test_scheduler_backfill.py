# SPDX-License-Identifier: MIT
"""What waits with different amounts of the same resources: places are looked for for the first of them."""

from __future__ import annotations

import random

from pydra.cluster.scheduler.inputs import CancelRequested, NodeReady, NodeSilent, Outcome, Submitted
from pydra.cluster.scheduler.instructions import Dispatch, Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.model.ids import InstanceId
from pydra.model.options import RunOptions
from tests.support.scheduler_bench import N1, N2, Bench, finished

HUGE = 1e9
"""MB that no node has."""


def wants(instance: int, memory: float, priority: int = 5, **other: float) -> Submitted:
    """An instance that needs so many MB; the lower its number, the longer it waits."""
    options = RunOptions(resources={"memory": memory, **other})
    return Submitted(InstanceId(instance), priority, float(instance), options=options)


def begun(done: list[Instruction]) -> list[int]:
    """The instances that were dispatched."""
    return [int(each.instance) for each in done if isinstance(each, Dispatch)]


def two() -> Bench:
    """Places are looked for for two amounts; instance 1 has all memory of the node but 50 MB."""
    bench = Bench(Limits(backfill=2))
    bench.feed(NodeReady(N1, 9, resources={"memory": 100.0}))
    assert [1] == begun(bench.feed(wants(1, 50.0)))
    return bench


def test_over_the_heads_of_a_few() -> None:
    """A small one passes larger ones that wait longer, but no more of these than that."""
    bench = two()
    assert [3] == begun(bench.feed(wants(2, 60.0), wants(3, 10.0)))
    assert [] == begun(bench.feed(wants(4, 70.0), wants(5, 20.0)))
    assert [5] == begun(bench.feed(CancelRequested(InstanceId(4))))


def test_other_resources_are_counted_apart() -> None:
    """What needs other resources, or none, is not held up."""
    bench = two()
    bench.feed(NodeReady(N2, 1, resources={"gpus": 1.0}))
    bench.feed(wants(2, 60.0), wants(3, 70.0))
    gpu = Submitted(InstanceId(4), 5, 4.0, options=RunOptions(resources={"gpus": 1.0}))
    assert [4, 5] == begun(bench.feed(gpu, Submitted(InstanceId(5), 5, 5.0)))


def test_a_higher_priority_is_looked_at_at_once() -> None:
    """Whoever comes to be among the first takes the place of one that is not any more."""
    bench = two()
    bench.feed(wants(2, 60.0), wants(3, 70.0))
    assert [] == begun(bench.feed(wants(4, 20.0)))
    assert [5] == begun(bench.feed(wants(5, 30.0, priority=1)))


def test_what_can_run_nowhere_holds_up_nobody() -> None:
    """Amounts that no ready node offers are not counted, until one does."""
    bench = two()
    assert [] == begun(bench.feed(*(wants(number, HUGE + number) for number in range(2, 9))))
    assert [9] == begun(bench.feed(wants(9, 20.0)))
    assert [2, 3] == begun(bench.feed(NodeReady(N2, 2, resources={"memory": 3 * HUGE})))
    bench.feed(NodeSilent(N2))
    assert [10] == begun(bench.feed(wants(10, 25.0)))


def test_what_can_run_nowhere_any_more_holds_up_nobody() -> None:
    """Amounts that were looked at while a node offered them are not counted when it is gone."""
    bench = two()
    bench.feed(NodeReady(N2, 0, resources={"memory": 3 * HUGE}))
    assert [] == begun(bench.feed(wants(2, HUGE), wants(3, 2 * HUGE)))
    bench.feed(NodeSilent(N2))
    assert [4] == begun(bench.feed(wants(4, 20.0)))


def test_all_in_their_turn() -> None:
    """However many amounts there are, those that fit one at a time run in the order in which they came."""
    bench = Bench(Limits(backfill=3))
    source = random.Random(5)
    order = list(range(1, 60))
    source.shuffle(order)
    bench.feed(*(wants(number, 60.0 + number / 1000) for number in order))
    ran = begun(bench.feed(NodeReady(N1, 9, resources={"memory": 100.0})))
    while len(ran) < len(order):
        [following] = begun(bench.feed(finished(Outcome.COMPLETE, number=len(ran))))
        ran.append(following)
    assert sorted(order) == ran


def test_as_many_amounts_as_there_are_instances() -> None:
    """Few of them are looked at: what is known of nodes does not grow with the number of amounts."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1, resources={"memory": 100.0}))
    for number in range(1, 400):
        bench.scheduler.feed(0.0, [wants(number, 50.0 + number / 1000)])
    for number in range(2, 300):
        bench.scheduler.feed(0.0, [CancelRequested(InstanceId(number))])
    assert [300] == begun(bench.feed(finished(Outcome.COMPLETE)))
    known = list(bench.scheduler.state.placement.known())
    assert len(known) <= 3 * bench.scheduler.state.limits.backfill
