# SPDX-License-Identifier: MIT
"""Whatever waits and whatever becomes of nodes, the queue chooses whom one who looks at everything would."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from pydra.cluster.scheduler.nodes import Assigned, NodeRecord, Standing
from pydra.cluster.scheduler.placement import Placement
from pydra.cluster.scheduler.policies import LeastLoad
from pydra.cluster.scheduler.queue import Waiting, WaitingQueue
from pydra.cluster.scheduler.wishes import Requirement, Wish, amounts
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.options import NO_OPTIONS
from pydra.model.status import Status

RUNS, STEPS = 1000, 40
LABELS = [frozenset[str](), frozenset[str](), frozenset({"a"})]


class Play:
    """Instances with different amounts wait for nodes, of which each takes work only now and then."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)
        self.backfill = self.source.randint(1, 3)
        self.most_waiting = self.source.randint(2, 12)
        self.asks = self.source.choice([1.0, 0.3])
        """How likely the queue is asked after a step."""
        self.queue = WaitingQueue(self.backfill)
        self.placement = Placement(LeastLoad, self.queue.has_line)
        self.nodes = [NodeRecord(NodeId(number), Standing.SILENT, 0.0) for number in (1, 2)]
        self.waiting: dict[InstanceId, Waiting] = {}
        self.number = 0

    def go(self) -> None:
        """Step after step."""
        steps = [
            self.add,
            self.add,
            self.add,
            self.remove,
            self.ready,
            self.stand,
            self.release,
            self.release,
        ]
        for _ in range(STEPS):
            self.source.choice(steps if len(self.waiting) < self.most_waiting else steps[3:])()
            if self.source.random() < self.asks:
                while self.has_dispatched():
                    pass

    def add(self) -> None:
        """One more waits."""
        self.number += 1
        wanted = amounts({"memory": self.source.randint(0, 9), "gpus": self.source.choice([0, 0, 0, 1])})
        wish = Wish(NO_OPTIONS, Requirement(self.source.choice(LABELS), wanted))
        priority, queued = self.source.randint(1, 2), float(self.source.randint(0, 5))
        self.wait(Waiting(InstanceId(self.number), priority, queued, 0, wish))

    def remove(self) -> None:
        """One is cancelled."""
        if self.waiting:
            instance = self.source.choice(sorted(self.waiting))
            assert self.queue.remove(instance) is self.waiting.pop(instance)

    def ready(self) -> None:
        """A node has other things to offer."""
        node = self.source.choice(self.nodes)
        node.standing = Standing.READY
        offered = amounts({"memory": self.source.randint(0, 9), "gpus": self.source.randint(0, 2)})
        node.describe(self.source.choice(LABELS), "", offered)
        node.offer(self.source.randint(0, 2))
        self.placement.reconsider(node)

    def stand(self) -> None:
        """A node takes work, or does not."""
        node = self.source.choice(self.nodes)
        node.standing = self.source.choice([Standing.READY, Standing.SILENT])
        node.refusal = self.source.choice(["", "", "Its disk is full."])
        self.placement.reconsider(node)

    def release(self) -> None:
        """One that runs ends, or waits again."""
        held = [(node, index) for node in self.nodes for index in sorted(node.holders)]
        if held:
            node, index = self.source.choice(held)
            over = node.holders[index]
            assert isinstance(over, Assigned)
            node.release(index)
            self.placement.reconsider(node)
            if self.source.random() < 0.3:
                self.wait(Waiting(over.instance, over.priority, over.queued, 0, over.wish))

    def wait(self, waiting: Waiting) -> None:
        """It stands in the queue."""
        self.waiting[waiting.instance] = waiting
        self.queue.add(waiting)

    def has_dispatched(self) -> bool:
        """The first one begins, if there is one; and where nothing is new, there is none."""
        is_news = self.queue.has_news or not self.placement.is_unchanged
        expected = self.by_looking_at_all()
        found = self.queue.first(self.placement)
        if found is None:
            assert expected is None
            return False
        waiting, node = found
        assert waiting is expected
        assert is_news
        assert node.is_placeable
        assert node.meets(waiting.wish.requirement)
        self.queue.remove(waiting.instance)
        del self.waiting[waiting.instance]
        self.number += 1
        about = waiting.instance, waiting.priority, waiting.queued, 0, Attempt(1, self.number), node.id
        node.take(Assigned(*about, node.next_index(), Status.RUNNING, 0.0, wish=waiting.wish))
        self.placement.reconsider(node)
        return True

    def by_looking_at_all(self) -> Waiting | None:
        """
        Of those that differ in amounts alone, the first few amounts that could run at all count; of these the
        first that can run now.
        """
        counted: dict[object, set[Requirement]] = defaultdict(set)
        willing = [node for node in self.nodes if node.standing is Standing.READY and not node.refusal]
        for waiting in sorted(self.waiting.values(), key=lambda waiting: waiting.order):
            requirement = waiting.wish.requirement
            if any(node.suits(requirement) for node in willing):
                alike = counted[requirement.labels, tuple(name for name, _ in requirement.resources)]
                if requirement in alike or len(alike) < self.backfill:
                    alike.add(requirement)
                    if any(node.is_placeable and node.meets(requirement) for node in willing):
                        return waiting
        return None


@pytest.mark.parametrize("part", range(4))
def test_the_queue_chooses_as_one_who_looks_at_all(part: int) -> None:
    """However many amounts are waited for, and whatever becomes of nodes, nobody is passed over."""
    for seed in range(part * RUNS, (part + 1) * RUNS):
        try:
            Play(seed).go()
        except Exception as fault:
            raise AssertionError(f"seed {seed}") from fault
