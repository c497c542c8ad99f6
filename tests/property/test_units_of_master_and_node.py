# SPDX-License-Identifier: MIT
"""Units through crashes, cut links and a store that refuses: recorded once, and nobody waits in vain."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.wire import frames
from pydra.model.ids import InstanceId
from tests.support.unit_world import UnitWorld

NUMBERS = st.integers(0, 100)
DIES = WorkerExit(139, "killed by SIGSEGV")


class Units(RuleBasedStateMachine):
    """Anything may happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        self.world = UnitWorld(Path(self._directory.name))

    @initialize()
    def begin(self) -> None:
        """They are linked, and an instance runs."""
        self.world.plug()
        self.world.cable.settle()
        self.world.submit()
        self.world.cable.settle()

    @rule()
    def submit(self) -> None:
        """An instance is submitted."""
        self.world.submit()

    @precondition(lambda self: self.world.alive())
    @rule(number=NUMBERS, count=st.sampled_from([1, 3, 40]), first=st.sampled_from([0, 2, 50]))
    def ask(self, number: int, count: int, first: int) -> None:
        """A worker asks for units, perhaps for some that it had."""
        alive = self.world.alive()
        self.world.ask(alive[number % len(alive)], count, first)

    @precondition(lambda self: self.world.hired())
    @rule(number=NUMBERS, count=st.sampled_from([1, 2, 100]), fails=st.sampled_from([False, False, True]))
    def run(self, number: int, count: int, fails: bool) -> None:
        """A hired worker runs units."""
        hired = self.world.hired()
        self.world.run(hired[number % len(hired)], count, fails)

    @precondition(lambda self: self.world.alive())
    @rule(number=NUMBERS)
    def die(self, number: int) -> None:
        """A worker ends."""
        alive = self.world.alive()
        alive[number % len(alive)].exits(DIES)

    @precondition(lambda self: self.world.working())
    @rule(number=NUMBERS)
    def forget(self, number: int) -> None:
        """A root wants no more results."""
        working = self.world.working()
        worker = working[number % len(working)]
        self.world.wanted.pop(id(worker), None)
        worker.says(frames.FORGET, "Sub")

    @precondition(lambda self: self.world.working())
    @rule(number=NUMBERS)
    def complete(self, number: int) -> None:
        """A root gives its result, whatever it waits for."""
        working = self.world.working()
        self.world.complete(working[number % len(working)], 10)

    @rule(number=st.integers(1, 3))
    def cancel(self, number: int) -> None:
        """Somebody cancels an instance."""
        self.world.cancel(InstanceId(number))

    @rule()
    def settle(self) -> None:
        """Messages arrive."""
        self.world.cable.settle()

    @precondition(lambda self: self.world.cable.is_up)
    @rule()
    def settle_at_the_master(self) -> None:
        """What the node said arrives, but none of the answers yet."""
        self.world.cable.node.deliver()

    @rule(seconds=st.sampled_from([0.02, 0.1, 1.0, 6.0, 16.0, 61.0]))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.world.advance(seconds)

    @rule()
    def pull(self) -> None:
        """The link breaks."""
        self.world.cable.pull()

    @rule()
    def plug(self) -> None:
        """The link is there again."""
        self.world.plug()

    @precondition(lambda self: self.world.cable.is_up)
    @rule(arrives=st.booleans(), reads_are_slow=st.booleans())
    def link_again(self, arrives: bool, reads_are_slow: bool) -> None:
        """The link breaks, perhaps when only the answers of the master are left, and is there again."""
        if arrives:
            self.world.cable.node.deliver()
        self.world.cable.pull()
        self.world.store.release_reads()
        if reads_are_slow:
            self.world.store.hold_reads()
        self.world.plug()
        self.world.cable.settle()

    @precondition(lambda self: self.world.store._held is None)
    @rule()
    def hold(self) -> None:
        """Commits take long."""
        self.world.store.hold()

    @precondition(lambda self: self.world.store._held is not None)
    @rule()
    def release(self) -> None:
        """Commits are made."""
        self.world.store.release()

    @rule(holds=st.booleans())
    def hold_reads(self, holds: bool) -> None:
        """Answers of the store about units take long, or not any more."""
        self.world.store.release_reads()
        if holds:
            self.world.store.hold_reads()

    @rule(refuses=st.booleans())
    def refuse(self, refuses: bool) -> None:
        """The store refuses, or accepts again."""
        if refuses:
            self.world.store.refuse("The disk is full.")
        else:
            self.world.store.accept()

    @rule(lose_commits=st.booleans())
    def restart_master(self, lose_commits: bool) -> None:
        """The master is killed."""
        self.world.restart_master(lose_commits)

    @rule()
    def restart_node(self) -> None:
        """The node is killed."""
        self.world.restart_node()

    @invariant()
    def what_was_promised_holds(self) -> None:
        """At every moment."""
        self.world.check()

    def teardown(self) -> None:
        """When faults stop, everything becomes final."""
        try:
            self.world.drain()
        finally:
            self.world.close()
            self._directory.cleanup()


Units.TestCase.settings = settings(stateful_step_count=40)
TestUnits = Units.TestCase
