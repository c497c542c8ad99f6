# SPDX-License-Identifier: MIT
"""Policies, and which of the nodes can take what."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.placement import Placement
from pydra.cluster.scheduler.policies import POLICIES, LeastLoad, MakePolicy, Policy, Weighted, make_policy
from pydra.cluster.scheduler.queue import Waiting, WaitingQueue
from pydra.cluster.scheduler.wishes import ANYWHERE, NO_WISH, Requirement, amounts, wish_of
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.options import NO_OPTIONS, RunOptions
from pydra.model.status import Status

GPU = Requirement(resources=(("gpus", 1000),))
FAST = Requirement(labels=frozenset({"fast"}))
FULL = Requirement(isolation="full")
SECOND = Requirement(nodes=frozenset({NodeId(2)}))
REQUIREMENTS = (ANYWHERE, GPU, FAST, FULL, SECOND)


def ready_node(number: int, slots: int) -> NodeRecord:
    """A node that is ready and idle."""
    node = NodeRecord(NodeId(number), Standing.READY, heard=0.0)
    node.offer(slots)
    return node


def occupy(node: NodeRecord, number: int, requirement: Requirement = ANYWHERE) -> int:
    """An instance takes the next slot."""
    index = node.next_index()
    wish = wish_of(NO_OPTIONS)
    if requirement is not ANYWHERE:
        wish = type(NO_WISH)(RunOptions(), requirement)
    place = (Attempt(1, number), node.id, index, Status.RUNNING, 0.0)
    node.take(Assigned(InstanceId(number), 5, 0.0, 0, *place, wish=wish))
    return index


def placement_of(name: str, *nodes: NodeRecord, seed: int = 1) -> Placement:
    """A placement that knows these nodes."""
    placement = Placement(make_policy(name, random.Random(seed)), lambda _: False)
    for node in nodes:
        placement.reconsider(node)
    return placement


def fill(placement: Placement) -> list[tuple[int, int]]:
    """Place until nothing is free; node and slot of each."""
    chosen = []
    while (node := placement.choose(ANYWHERE)) is not None:
        chosen.append((int(node.id), occupy(node, len(chosen) + 1)))
        placement.reconsider(node)
    return chosen


def test_least_load() -> None:
    """The smallest share of busy slots wins, and among equals the lowest id."""
    placement = placement_of("leastload", ready_node(3, 4), ready_node(2, 2), ready_node(1, 1))
    assert [(1, 0), (2, 0), (3, 0), (3, 1), (2, 1), (3, 2), (3, 3)] == fill(placement)


def test_least_recently_used() -> None:
    """Nodes take turns whatever their size, and a new one comes first."""
    placement = placement_of("lru", ready_node(1, 3), ready_node(2, 1), ready_node(3, 2))
    order = [node for node, _ in fill(placement)]
    assert [1, 2, 3, 1, 3, 1] == order
    new = ready_node(9, 1)
    placement.reconsider(new)
    assert new is placement.choose(ANYWHERE)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_fills_every_slot(name: str) -> None:
    """None is left free, none is used twice, and the same seed chooses the same."""
    nodes = [(1, 3), (2, 0), (3, 1), (4, 5)]
    first = fill(placement_of(name, *(ready_node(*node) for node in nodes)))
    again = fill(placement_of(name, *(ready_node(*node) for node in nodes)))
    assert [(node, slot) for node, slots in nodes for slot in range(slots)] == sorted(first)
    assert first == again


def shares(name: str, busy: dict[int, int], draws: int = 3000) -> dict[int, int]:
    """How often each of some nodes of ten slots, with so many busy, is chosen."""
    nodes = [ready_node(number, 10) for number in busy]
    for node in nodes:
        for number in range(busy[node.id]):
            occupy(node, number + 1)
    placement = placement_of(name, *nodes)
    counts = dict.fromkeys(busy, 0)
    for _ in range(draws):
        node = placement.choose(ANYWHERE)
        assert node is not None
        counts[node.id] += 1
    return counts


def test_plain_random_does_not_look_at_loads() -> None:
    """All nodes are chosen equally often, the busy one too."""
    counts = shares("plainrandom", {1: 0, 2: 9, 3: 0})
    assert all(900 < count < 1100 for count in counts.values())


def test_two_bins_take_the_better_of_two() -> None:
    """The busiest of three is chosen only if chance names it twice, the idle one in five of nine cases."""
    counts = shares("twobin", {1: 9, 2: 5, 3: 0})
    assert 0.06 < counts[1] / 3000 < 0.16
    assert 0.5 < counts[3] / 3000 < 0.62


def test_weights_prefer_what_is_idle() -> None:
    """A node with less load is chosen more often; beside an idle one a busy one is hardly ever."""
    counts = shares("weighted", {1: 2, 2: 4, 3: 8})
    assert counts[1] > counts[2] > counts[3] > 0
    assert 0 == shares("weighted", {1: 0, 2: 1})[2]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[int, int]]:
    """What happens: (node, new load in tenths; 10 means that it takes nothing)."""
    return draw(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 10)), max_size=60))


@pytest.mark.parametrize("name", POLICIES)
@given(changes=changes(), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=60)
def test_policies_choose_what_naive_ones_do(name: str, changes: list[tuple[int, int]], seed: int) -> None:
    """Whatever comes and goes, the choice is that of a scan over all nodes with the same generator."""
    policy = make_policy(name, random.Random(seed))()
    naive = random.Random(seed)
    known = {number: ready_node(number, 10) for number in range(1, 13)}
    here: list[NodeRecord] = []
    for step, (number, load) in enumerate(changes):
        node = known[number]
        if load == 10:
            if node in here:
                place = here.index(node)
                last = here.pop()
                if last is not node:
                    here[place] = last
            policy.drop(node)
        else:
            if node not in here:
                here.append(node)
            node.latest = step * 7 % 23
            node.holders = dict.fromkeys(range(load))
            policy.put(node)
        assert {node.id for node in here} == set(policy.nodes())
        chosen = policy.choose()
        if name == "weighted":
            assert isinstance(policy, Weighted)
            assert (chosen is None) is not bool(here)
            assert chosen is None or chosen in here
            assert policy._total == policy._before(len(policy._nodes)) == sum(policy._weight.values())
        else:
            assert chosen is naive_choice(name, here, naive)


def naive_choice(name: str, here: list[NodeRecord], chance: random.Random) -> NodeRecord | None:
    """What each policy is to choose."""
    if not here:
        return None
    match name:
        case "leastload":
            return min(here, key=lambda node: (node.load, node.id))
        case "lru":
            return min(here, key=lambda node: (node.latest, node.id))
        case "plainrandom":
            return here[chance.randrange(len(here))]
    return min(here[chance.randrange(len(here))], here[chance.randrange(len(here))], key=lambda n: n.load)


@given(loads=st.lists(st.integers(0, 9), min_size=1, max_size=9), number=st.floats(0, 0.999999))
@settings(deadline=None)
def test_the_tree_of_weights_finds_what_a_scan_finds(loads: list[int], number: float) -> None:
    """A number below the sum of all weights names the first place whose sum exceeds it."""

    class Fixed:
        """Always the same number."""

        def randrange(self, stop: int) -> int:
            return int(stop * number)

    policy = Weighted(Fixed())
    nodes = []
    for place, load in enumerate(loads):
        node = ready_node(place + 1, 10)
        node.holders = dict.fromkeys(range(load))
        policy.put(node)
        nodes.append(node)
    left = int(policy._total * number)
    for node in nodes:
        left -= policy._weight[node.id]
        if left < 0:
            assert node is policy.choose()
            return
    pytest.fail("the number is not below the sum")


def test_heaps_stay_small() -> None:
    """Any number of changes leaves a heap in proportion to the nodes."""
    policy = LeastLoad()
    node = ready_node(1, 2)
    for _ in range(1000):
        policy.put(node)
    assert len(policy._heap) < 100
    assert node is policy.choose()


def test_requirements_are_met_or_not() -> None:
    """Labels, isolation, resources and the node itself each keep a requirement away from a node."""
    plain, other = ready_node(1, 2), ready_node(2, 2)
    other.labels, other.isolation = frozenset({"fast", "big"}), "full"
    other.resources = dict(amounts({"gpus": 1}))
    placement = placement_of("leastload", plain, other)
    assert [plain, other, other, other, other] == [placement.choose(one) for one in REQUIREMENTS]
    occupy(other, 1, GPU)
    placement.reconsider(other)
    assert placement.choose(GPU) is None
    assert other is placement.choose(FAST)
    other.release(0)
    placement.reconsider(other)
    assert other is placement.choose(GPU)


@given(
    parts=st.lists(st.integers(1, 700), max_size=12),
    offered=st.integers(0, 1000),
)
def test_resources_never_run_over(parts: list[int], offered: int) -> None:
    """What is held never exceeds what is offered, and giving all of it back leaves nothing held."""
    node = ready_node(1, 99)
    node.resources = dict(amounts({"gpus": offered / 1000}))
    taken: list[int] = []
    for part in parts:
        requirement = Requirement(resources=amounts({"gpus": part / 1000}))
        if node.meets(requirement):
            taken.append(occupy(node, part, requirement))
        assert node.held.get("gpus", 0) <= offered
    for index in taken:
        node.release(index)
    assert {} == node.held


def test_what_cannot_be_placed_blocks_nobody() -> None:
    """The first in order that finds a place is taken; those before it keep their place."""
    queue = WaitingQueue()
    wish = wish_of(RunOptions(labels=("fast",)))
    queue.add(Waiting(InstanceId(1), 1, 0.0, 0, wish))
    queue.add(Waiting(InstanceId(2), 5, 1.0, 0, wish))
    queue.add(Waiting(InstanceId(3), 5, 0.5, 0))
    plain, fast = ready_node(1, 5), ready_node(2, 5)
    fast.labels = frozenset({"fast"})
    placement = placement_of("leastload", plain)

    found = queue.first(placement)
    assert found is not None
    assert (InstanceId(3), plain) == (found[0].instance, found[1])
    placement.reconsider(fast)
    order = []
    while (found := queue.first(placement)) is not None:
        queue.remove(found[0].instance)
        order.append((int(found[0].instance), int(found[1].id)))
    assert [(1, 2), (3, 1), (2, 2)] == order


def test_requirements_that_nobody_has_any_more_are_forgotten() -> None:
    """However many there were, few are kept."""
    made = []

    def make() -> Policy:
        made.append(LeastLoad())
        return made[-1]

    wanted = Requirement(labels=frozenset({"kept"}))
    maker: MakePolicy = make
    placement = Placement(maker, lambda one: one == wanted)
    node = ready_node(1, 5)
    node.labels = frozenset({"kept"})
    placement.reconsider(node)
    placement.choose(wanted)
    for number in range(1000):
        assert placement.choose(Requirement(labels=frozenset({f"l{number}"}))) is None
    known = dict(placement.known())
    assert wanted in known
    assert len(known) < 200
    count = len(made)
    assert node is placement.choose(wanted)
    assert count == len(made)


def test_what_a_node_offers_may_change() -> None:
    """It is no more where it does not suit, and is where it does; whoever asks."""
    placement = placement_of("leastload", ready_node(1, 2))
    node = ready_node(2, 2)
    placement.reconsider(node)
    assert [placement.choose(one) is node for one in (GPU, FAST, FULL)] == [False] * 3
    node.describe(frozenset({"fast"}), "full", amounts({"gpus": 1}))
    placement.reconsider(node)
    assert [placement.choose(one) is node for one in (GPU, FAST, FULL)] == [True] * 3
    assert {GPU, FAST, FULL} <= set(placement.met())
    node.describe(frozenset(), "full", ())
    placement.reconsider(node)
    assert [placement.choose(one) is node for one in (GPU, FAST, FULL)] == [False, False, True]
    assert {GPU, FAST} & set(placement.met()) == set()


def test_forgetting_leaves_the_wanted_ones_as_they_are() -> None:
    """Their nodes are still known, and still told of changes."""
    wanted = Requirement(labels=frozenset({"kept"}))
    placement = Placement(LeastLoad, lambda one: one == wanted)
    nodes = [ready_node(1, 1), ready_node(2, 1)]
    for node in nodes:
        node.describe(frozenset({"kept"}), "", ())
        placement.reconsider(node)
    assert nodes[0] is placement.choose(wanted)
    for number in range(200):
        placement.choose(Requirement(labels=frozenset({f"l{number}"})))
    assert nodes[0] is placement.choose(wanted)
    assert wanted in placement.met()
    occupy(nodes[0], 1)
    placement.reconsider(nodes[0])
    assert nodes[1] is placement.choose(wanted)
    occupy(nodes[1], 2)
    placement.reconsider(nodes[1])
    assert placement.choose(wanted) is None
    assert wanted not in placement.met()
