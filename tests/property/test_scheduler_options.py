# SPDX-License-Identifier: MIT
"""Whatever is asked for with instances, in whatever order things happen: it is kept, and all of them end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pydra.cluster.scheduler import invariants
from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    Input,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import BeginCancelling, Dispatch, Finish, Requeue, Retry
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.policies import POLICIES, make_policy
from pydra.cluster.scheduler.unit_values import Pause, PauseRequested, ResumeRequested
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status

NODES = (NodeId(1), NodeId(2), NodeId(3))
LABELS = ("a", "b")
CHOICE = st.integers(0, 2**12 - 1)


class Known:
    """An instance as the test knows it: whether it waits, runs or rests, and how it ended."""

    def __init__(self, options: RunOptions, isolation: str) -> None:
        self.options = options
        self.isolation = isolation
        self.attempt: Attempt | None = None
        self.node: NodeId | None = None
        self.retried = 0
        self.losses = 0
        self.began = 0.0
        self.not_before = 0.0
        self.status = Status.QUEUED


class OptionsMachine(RuleBasedStateMachine):
    """Nodes with labels and resources come and go, and instances want all kinds of things."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.known: dict[InstanceId, Known] = {}
        self.offers: dict[NodeId, dict[str, Any]] = {}
        self.policy, self.seed, self.epoch = "leastload", 0, 0
        self.limits = Limits()
        self.log: list[tuple[float, Sequence[Input], Sequence[object]]] = []
        """All that was fed to each master, and what it did; one that begins was fed nothing."""

    @initialize(
        policy=st.sampled_from(list(POLICIES)), seed=st.integers(0, 9), backfill=st.sampled_from([1, 2, 64])
    )
    def begin(self, policy: str, seed: int, backfill: int) -> None:
        """One of the policies, and a node that all can use some day."""
        self.policy, self.seed = policy, seed
        self.limits = Limits(loss_limit=4, backfill=backfill)
        self.start()

    @rule(
        node=st.sampled_from(NODES),
        slots=st.integers(0, 3),
        labels=st.sets(st.sampled_from(LABELS)),
        gpus=st.sampled_from([0, 0.5, 1, 2]),
        isolation=st.sampled_from(["user", "full"]),
        keeps=st.booleans(),
    )
    def ready(
        self, node: NodeId, slots: int, labels: set[str], gpus: float, isolation: str, keeps: bool
    ) -> None:
        """A node connects with other things to offer, and what it had or nothing."""
        held = tuple(one.attempt for one in self.on(node) if one.attempt is not None) if keeps else ()
        offer = {"labels": frozenset(labels), "resources": {"gpus": gpus}, "isolation": isolation}
        self.offers[node] = offer
        self.feed(NodeReady(node, slots, held, ran_s=self.ran_s(node), **offer))

    @rule(node=st.sampled_from(NODES))
    def silent(self, node: NodeId) -> None:
        """A link breaks."""
        self.feed(NodeSilent(node))

    @rule(
        priority=st.integers(1, 3),
        labels=st.sets(st.sampled_from(LABELS), max_size=1),
        gpus=st.sampled_from([0, 0, 0.5, 0.7, 1]),
        full=st.booleans(),
        retries=st.integers(0, 2),
        limit=st.sampled_from([0.0, 0.0, 5.0]),
        others=st.lists(
            st.tuples(st.booleans(), CHOICE, CHOICE, st.booleans(), st.integers(0, 2)), max_size=2
        ),
    )
    def submit(
        self,
        priority: int,
        labels: set[str],
        gpus: float,
        full: bool,
        retries: int,
        limit: float,
        others: list[tuple[bool, int, int, bool, int]],
    ) -> None:
        """An instance wants all that, and depends on up to two others, twice."""
        depends: dict[str, Dependency] = {}
        for follows, first, second, is_all, kind in others:
            if self.known:
                numbers = sorted(self.known)
                chosen = tuple({numbers[first % len(numbers)]: None, numbers[second % len(numbers)]: None})
                success, failure = ((True, False), (False, True), (True, True))[kind]
                depends["follow" if follows else "after"] = Dependency(chosen, is_all, success, failure)
        options = RunOptions(
            priority=priority,
            labels=tuple(sorted(labels)),
            resources={"gpus": gpus} if gpus else {},
            retries=retries,
            retry_delay=2.0,
            time_limit=limit,
            **depends,
        )
        instance = InstanceId(len(self.known) + 1)
        isolation = "full" if full else ""
        self.known[instance] = Known(options, isolation)
        past = self.past(options)
        self.feed(Submitted(instance, priority, self.now, options=options, isolation=isolation, ended=past))

    @precondition(lambda self: self.running())
    @rule(choice=CHOICE, outcome=st.sampled_from(Outcome))
    def answer(self, choice: int, outcome: Outcome) -> None:
        """One that runs ends, somehow."""
        running = self.running()
        one = running[choice % len(running)]
        assert one.attempt is not None
        assert one.node is not None
        self.feed(UnitFinished(one.attempt, one.node, outcome))

    @precondition(lambda self: self.known)
    @rule(choice=CHOICE, what=st.sampled_from([CancelRequested, PauseRequested, ResumeRequested]))
    def ask(self, choice: int, what: Any) -> None:
        """Somebody cancels, pauses or resumes anything."""
        numbers = sorted(self.known)
        self.feed(what(numbers[choice % len(numbers)]))

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        """Rests and limits come due."""
        self.now += seconds
        self.feed(TimePassed())

    @rule()
    def restart(self) -> None:
        """Another master takes over what the store has."""
        self.start()
        restored = []
        for instance, one in self.known.items():
            if not one.status.is_final:
                is_queued = one.status is Status.QUEUED
                restored.append(
                    Restored(
                        instance,
                        one.options.priority,
                        0.0,
                        one.status,
                        None if is_queued else one.attempt,
                        one.node,
                        losses=one.losses,
                        options=one.options,
                        isolation=one.isolation,
                        retried=one.retried,
                        rest_s=max(0.0, one.not_before - self.now) if is_queued else 0.0,
                        ended=self.past(one.options),
                    )
                )
        if restored:
            self.feed(*restored)

    def start(self) -> None:
        """A master begins, with the same seed as every other."""
        self.epoch += 1
        self.scheduler = self.master(self.epoch)
        self.log.append((self.now, (), ()))

    def master(self, epoch: int) -> Scheduler:
        """A scheduler that knows nothing."""
        return Scheduler(epoch, self.limits, make_policy(self.policy, random.Random(self.seed)))

    # What is checked

    def feed(self, *given: Input) -> None:
        """Feed, and look at everything that comes of it."""
        done = self.scheduler.feed(self.now, given)
        self.log.append((self.now, given, done))
        self.observe(done)
        invariants.check(self.scheduler.state)
        for instance, one in self.known.items():
            expected = Status.UNKNOWN if one.status.is_final else one.status
            assert self.scheduler.status(instance) is expected
            explained = self.scheduler.explain(instance)
            assert explained.text.endswith(".")
            assert explained.status is expected

    def observe(self, done: Sequence[object]) -> None:
        """What is true of each instruction."""
        for each in done:
            match each:
                case Dispatch(instance, attempt, slot):
                    one = self.known[instance]
                    assert one.status is Status.QUEUED
                    one.status, one.attempt, one.node, one.began = (
                        Status.RUNNING,
                        attempt,
                        slot.node,
                        self.now,
                    )
                    self.check_dispatch(one)
                case Retry(instance, _, retried, delay_s):
                    one = self.known[instance]
                    assert retried == one.retried + 1 <= one.options.retries
                    assert delay_s == 2.0**retried
                    one.retried, one.not_before = retried, self.now + delay_s
                    self.waits_again(one)
                case Requeue(instance, _, losses):
                    self.known[instance].losses = losses
                    self.waits_again(self.known[instance])
                case BeginCancelling(instance):
                    self.known[instance].status = Status.CANCELLING
                case Pause(instance, paused):
                    one = self.known[instance]
                    if paused and one.status is Status.QUEUED:
                        one.attempt = None
                    back = Status.QUEUED if one.attempt is None else Status.RUNNING
                    one.status = Status.PAUSED if paused else back
                    if not paused:
                        one.not_before = self.now
                case Finish(instance, _, status, _, code):
                    one = self.known[instance]
                    assert not one.status.is_final
                    one.status = status
                    assert (code == "dependency") is (
                        status is Status.FAILED and not one.began and self.verdict(one.options) == "never"
                    )
                case _:
                    pass

    def waits_again(self, one: Known) -> None:
        """Its attempt is over; what is paused stays so."""
        one.status = Status.PAUSED if one.status is Status.PAUSED else Status.QUEUED
        one.attempt = None

    def check_dispatch(self, one: Known) -> None:
        """It got what it asked for, not too early, and nobody else's share."""
        assert one.node is not None
        offer = self.offers[one.node]
        assert set(one.options.labels) <= offer["labels"]
        assert one.isolation in ("", offer["isolation"])
        held = sum(other.options.resources.get("gpus", 0) for other in self.on(one.node))
        if one.options.resources:
            assert held <= offer["resources"]["gpus"] + 1e-9
        assert self.verdict(one.options) == "met"
        assert self.now >= one.not_before
        follow = one.options.follow
        if follow is not None:
            ran = [self.known[each].node for each in follow.instances if self.is_wanted(each, follow)]
            assert one.node in ran

    def verdict(self, options: RunOptions) -> str:
        """Whether the dependencies are met, may be, or never will be."""
        verdicts = {self.verdict_of(one, False) for one in (options.after,) if one is not None}
        verdicts |= {self.verdict_of(one, True) for one in (options.follow,) if one is not None}
        if "never" in verdicts:
            return "never"
        return "open" if "open" in verdicts else "met"

    def verdict_of(self, dependency: Dependency, is_place: bool) -> str:
        """The same of one of them."""
        open_ones = [each for each in dependency.instances if not self.known[each].status.is_final]
        good = [each for each in dependency.instances if self.is_wanted(each, dependency)]
        if is_place:
            good = [each for each in good if self.known[each].node is not None]
        if not dependency.all:
            return "met" if good else "open" if open_ones else "never"
        if len(good) + len(open_ones) < len(dependency.instances):
            return "never"
        if is_place and len({self.known[each].node for each in good}) > 1:
            return "never"
        return "open" if open_ones else "met"

    def is_wanted(self, instance: InstanceId, dependency: Dependency) -> bool:
        """It ended as wanted."""
        status = self.known[instance].status
        wanted = dependency.success if status is Status.COMPLETE else dependency.failure
        return status.is_final and wanted

    def past(self, options: RunOptions) -> dict[InstanceId, Ended]:
        """What is told of those that are final."""
        named = [one.instances for one in (options.after, options.follow) if one is not None]
        ended = {each for instances in named for each in instances if self.known[each].status.is_final}
        return {each: Ended(self.known[each].status, self.known[each].node) for each in ended}

    def replay(self) -> None:
        """Other masters would have done the same."""
        epoch, again = 0, self.master(0)
        for now, given, done in self.log:
            if not given and not done:
                epoch += 1
                again = self.master(epoch)
            else:
                assert done == again.feed(now, given), "the same inputs gave other instructions"
                # Looking counts: a policy that draws lots hears of changes when somebody looks.
                invariants.check(again.state)

    def running(self) -> list[Known]:
        """What a node has."""
        return [one for one in self.known.values() if one.attempt and not one.status.is_final]

    def on(self, node: NodeId) -> list[Known]:
        """What this node has."""
        return [one for one in self.running() if one.node == node]

    def ran_s(self, node: NodeId) -> dict[Attempt, float]:
        """How long that has run, as the node tells it."""
        return {one.attempt: self.now - one.began for one in self.on(node) if one.attempt is not None}

    def teardown(self) -> None:
        """When every node offers everything and all goes well, everything ends."""
        if not hasattr(self, "scheduler"):
            return
        self.feed(
            TimePassed(),
            *(ResumeRequested(each) for each, one in self.known.items() if one.status is Status.PAUSED),
        )
        for _ in range(2 * len(self.known) + 8):
            for node in NODES:
                held = tuple(one.attempt for one in self.on(node) if one.attempt is not None)
                self.offers[node] = {
                    "labels": frozenset(LABELS),
                    "resources": {"gpus": 2},
                    "isolation": "full",
                }
                self.feed(NodeReady(node, 3, held, ran_s=self.ran_s(node), **self.offers[node]))
            for one in self.running():
                if one.attempt is not None and one.node is not None:
                    self.feed(UnitFinished(one.attempt, one.node, Outcome.COMPLETE))
            self.now += 9.0
            self.feed(TimePassed())
        self.replay()
        left = [instance for instance, one in self.known.items() if not one.status.is_final]
        assert not left, [self.scheduler.explain(each) for each in left]


TestOptions = OptionsMachine.TestCase
TestOptions.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
