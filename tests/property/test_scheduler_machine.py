# SPDX-License-Identifier: MIT
"""Whatever happens, in whatever order, the scheduler does what the naive one does, and loses nothing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pydra.cluster.scheduler import invariants
from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    Input,
    NodeReady,
    NodeSilent,
    Outcome,
    Submitted,
    TerminateRequested,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import Discard, Dispatch, Finish, Instruction
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.status import Status
from tests.support.naive_scheduler import Item, NaiveScheduler
from tests.support.scheduler_bench import nodes_of

EPOCH = 3
LIMITS = Limits()
NODES = st.sampled_from([NodeId(1), NodeId(2), NodeId(3)])
OUTCOMES = st.sampled_from(Outcome)
# Bits say which of the things at hand are meant: bit i is for the i-th of them.
CHOICE = st.integers(0, 2**12 - 1)
STRANGERS = (Attempt(1, 1), Attempt(EPOCH, 10**6), Attempt(EPOCH + 1, 1))


class SchedulerMachine(RuleBasedStateMachine):
    """Nodes come and go, lie and fall silent, while instances are submitted, cancelled and answered."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(EPOCH, LIMITS)
        self.naive = NaiveScheduler(EPOCH, LIMITS)
        self.now = 0.0
        self.log: list[tuple[float, list[Input], list[Instruction]]] = []
        self.kept: list[Input] = []
        self.given: list[tuple[Attempt, NodeId]] = []
        """All attempts ever dispatched, with their nodes."""
        self.ended: dict[InstanceId, Status] = {}
        self.accepted = 0

    # What happens

    @initialize(slots=st.lists(st.integers(1, 3), max_size=3), instances=st.integers(0, 6))
    def begin(self, slots: list[int], instances: int) -> None:
        """Some nodes are there, and some work."""
        nodes = [NodeReady(NodeId(number), offered) for number, offered in enumerate(slots, start=1)]
        first, self.accepted = self.accepted + 1, self.accepted + instances
        waiting = [Submitted(InstanceId(number), 2, self.now) for number in range(first, self.accepted + 1)]
        self.happens(*nodes, *waiting)

    @rule(priority=st.integers(1, 3), late_s=st.sampled_from([0.0, 0.0, 7.0]), keep=st.booleans())
    def submit(self, priority: int, late_s: float, keep: bool) -> None:
        """An instance is submitted, perhaps one that was queued a while ago."""
        self.accepted += 1
        self.happens(Submitted(InstanceId(self.accepted), priority, self.now - late_s), keep=keep)

    @rule(node=NODES, slots=st.integers(0, 4), choice=CHOICE, lies=st.booleans(), keep=st.booleans())
    def node_ready(self, node: NodeId, slots: int, choice: int, lies: bool, keep: bool) -> None:
        """A node connects and names any part of what it has, and perhaps what it has not."""
        running: list[Attempt] = []
        finished: list[Attempt] = []
        for place, attempt in enumerate(self.on(node)):
            if choice >> (2 * place) & 1:
                (finished if choice >> (2 * place + 1) & 1 else running).append(attempt)
        if lies:
            running += self.others(node, choice)
            finished += self.others(node, choice >> 1)
        self.happens(NodeReady(node, slots, tuple(running), tuple(finished)), keep=keep)

    @rule(node=NODES, keep=st.booleans())
    def node_silent(self, node: NodeId, keep: bool) -> None:
        """A link breaks."""
        self.happens(NodeSilent(node), keep=keep)

    @rule(node=NODES, all_held=st.booleans(), choice=CHOICE, keep=st.booleans())
    def heartbeat(self, node: NodeId, all_held: bool, choice: int, keep: bool) -> None:
        """A node names all, or any part, of what it has, and perhaps what it has not."""
        held = [attempt for place, attempt in enumerate(self.on(node)) if all_held or choice >> place & 1]
        self.happens(HeartbeatReceived(node, (*held, *self.others(node, choice))), keep=keep)

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0, 14.0]), times=st.sampled_from([1, 1, 6]), choice=CHOICE)
    def all_nodes_beat(self, seconds: float, times: int, choice: int) -> None:
        """Time passes while all nodes live, and the same slots are named again and again."""
        for _ in range(times):
            self.now += seconds
            beats = []
            for node in (NodeId(1), NodeId(2), NodeId(3)):
                held = [attempt for place, attempt in enumerate(self.on(node)) if choice >> place & 1]
                beats.append(HeartbeatReceived(node, tuple(held)))
            self.happens(*beats)

    @precondition(lambda self: self.naive.running())
    @rule(choice=CHOICE, outcome=OUTCOMES, reason=st.sampled_from([None, "it said so"]), keep=st.booleans())
    def answer(self, choice: int, outcome: Outcome, reason: str | None, keep: bool) -> None:
        """The holder of an attempt tells how it ended."""
        self.happens(answer(self.pick(choice), outcome, reason), keep=keep)

    @rule(choice=CHOICE, node=NODES, outcome=OUTCOMES)
    def unwanted_answer(self, choice: int, node: NodeId, outcome: Outcome) -> None:
        """An answer is late, foreign or invented: it is discarded and changes nothing."""
        self.happens()
        attempt, holder = [*self.given, *((stranger, node) for stranger in STRANGERS)][
            choice % (len(self.given) + len(STRANGERS))
        ]
        if self.naive.current(attempt, holder) is not None:
            holder = NodeId(4)
        before = self.view()
        assert [Discard(holder, attempt)] == self.happens(UnitFinished(attempt, holder, outcome))
        assert before == self.view(), "a stale answer changed something"

    @rule(number=st.integers(0, 40), keep=st.booleans())
    def cancel(self, number: int, keep: bool) -> None:
        """Somebody cancels anything; a second time nothing happens."""
        given = CancelRequested(InstanceId(number % (self.accepted + 2)))
        self.happens(given, keep=keep)
        if not keep:
            before = self.view()
            assert not self.happens(given), "a second cancel did something"
            assert before == self.view(), "a second cancel changed something"

    @rule(number=st.integers(0, 40), kill=st.booleans(), fail=st.booleans(), keep=st.booleans())
    def terminate(self, number: int, kill: bool, fail: bool, keep: bool) -> None:
        """Somebody wants the worker of anything to end."""
        self.happens(TerminateRequested(InstanceId(number % (self.accepted + 2)), kill, fail), keep=keep)

    @rule(seconds=st.sampled_from([0.5, 5.0, 9.5, 15.0, 60.0, 500.0]))
    def time_passes(self, seconds: float) -> None:
        """Time jumps over any deadline."""
        self.now += seconds
        self.happens(TimePassed())

    @rule()
    def wakes(self) -> None:
        """Time goes on to the very next deadline."""
        at = self.scheduler.wake_at()
        if at is not None:
            self.now = max(self.now, at)
            self.happens(TimePassed())

    # What is checked

    def happens(self, *given: Input, keep: bool = False) -> list[Instruction]:
        """Feed both, and compare; what is kept happens together with the next."""
        self.kept += given
        if keep:
            return []
        fed, self.kept = self.kept, []
        expected = self.naive.feed(self.now, fed)
        done = self.scheduler.feed(self.now, fed)
        self.log.append((self.now, fed, done))
        assert expected == done
        self.observe(done)
        invariants.check(self.scheduler.state)
        assert self.naive.wake_at() == self.scheduler.wake_at()
        self.compare()
        return done

    def observe(self, done: Sequence[Instruction]) -> None:
        """What is true of each instruction, whatever led to it."""
        for item in done:
            match item:
                case Dispatch(instance, attempt, slot):
                    assert instance not in self.ended, f"{instance} runs after its end"
                    assert not self.given or self.given[-1][0] < attempt, f"attempt {attempt} does not rise"
                    self.given.append((attempt, slot.node))
                case Finish(instance, _, status):
                    assert instance not in self.ended, f"{instance} ended twice"
                    assert status.is_final
                    self.ended[instance] = status
                case _:
                    pass

    def compare(self) -> None:
        """Both know the same, no slot is used twice, and no instance is lost."""
        waiting = sorted(self.naive.queued(), key=lambda item: (item.priority, item.queued, item.id))
        assert [item.id for item in waiting] == [view.instance for view in self.scheduler.queued()]
        running = {item.id: (item.status, item.attempt, item.slot) for item in self.naive.running()}
        views = self.scheduler.running()
        assert running == {view.instance: (view.status, view.attempt, view.slot) for view in views}
        assert len({view.slot for view in views}) == len(views), "a slot has two instances"
        for node in nodes_of(self.scheduler):
            held = [instance for instance in self.scheduler.slots(node.node) if instance is not None]
            assert node.busy == len(held)
        assert self.accepted == len(self.ended) + len(waiting) + len(views), "an instance is lost"

    def view(self) -> tuple[object, ...]:
        """All that can be seen."""
        scheduler = self.scheduler
        return scheduler.queued(), scheduler.running(), nodes_of(scheduler), scheduler.wake_at()

    def on(self, node: NodeId) -> list[Attempt]:
        """The attempts that a node has, by slot."""
        return [item.attempt for item in self.naive.on(node) if item.attempt is not None]

    def others(self, node: NodeId, choice: int) -> list[Attempt]:
        """Some attempts that this node has no right to hold."""
        ours = self.on(node)
        known = [*STRANGERS, *(attempt for attempt, _ in self.given if attempt not in ours)]
        chosen = [attempt for place, attempt in enumerate(known[-6:]) if choice >> (place + 4) & 1]
        return chosen * (1 + (choice & 1))

    def pick(self, choice: int) -> Item:
        """A running instance."""
        running = self.naive.running()
        return running[choice % len(running)]

    def teardown(self) -> None:
        """When nodes heal and answer, everything ends; and a second scheduler would have done the same."""
        self.happens()
        healed = [NodeReady(NodeId(node), 2, tuple(self.on(NodeId(node))), ()) for node in (1, 2, 3)]
        self.happens(*healed)
        for _ in range(self.accepted + 1):
            running = self.naive.running()
            if not running:
                break
            self.happens(*(answer(item, Outcome.COMPLETE) for item in running))
        assert set(range(1, self.accepted + 1)) == set(self.ended), "an instance never ended"
        assert not self.scheduler.queued()
        assert not self.scheduler.running()
        assert not self.scheduler.state.attempts
        again = Scheduler(EPOCH, LIMITS)
        for now, fed, done in self.log:
            assert done == again.feed(now, fed), "the same inputs gave other instructions"


def answer(item: Item, outcome: Outcome, reason: str | None = None) -> UnitFinished:
    assert item.attempt is not None
    assert item.slot is not None
    return UnitFinished(item.attempt, item.slot.node, outcome, reason)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
