# SPDX-License-Identifier: MIT
"""Master and node through crashes, cut links and a store that refuses: what was promised holds."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.wire import frames
from pydra.model.ids import InstanceId
from tests.support.workers import ScriptedWorker
from tests.support.world import World

NUMBERS = st.integers(0, 100)


class MasterAndNode(RuleBasedStateMachine):
    """Anything may happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        self.world = World(Path(self._directory.name))

    @initialize()
    def begin(self) -> None:
        """They are linked."""
        self.world.plug()
        self.world.cable.settle()

    @rule()
    def submit(self) -> None:
        """An instance is submitted."""
        self.world.submit()

    @rule(key=st.sampled_from("abc"))
    def submit_with_key(self, key: str) -> None:
        """An instance is submitted, perhaps for the second time."""
        self.world.submit(key)

    @precondition(lambda self: self.world.master.dispatcher.live)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """One that lives is cancelled."""
        live = list(self.world.master.dispatcher.live)
        self.world.cancel(live[number % len(live)])

    @rule(number=st.integers(0, 8))
    def cancel_any(self, number: int) -> None:
        """Somebody cancels what may not be there, or is final."""
        self.world.cancel(InstanceId(number))

    @precondition(lambda self: self.world.working())
    @rule(number=NUMBERS, size=st.sampled_from([5, 70_000]))
    def complete(self, number: int, size: int) -> None:
        """A worker gives its result."""
        self.world.complete(self._worker(number), size)

    @precondition(lambda self: self.world.working())
    @rule(number=NUMBERS)
    def fail(self, number: int) -> None:
        """A task raises."""
        self._worker(number).says(frames.FAILED, "failed", "ValueError: x", "")

    @precondition(lambda self: self.world.working())
    @rule(number=NUMBERS)
    def die(self, number: int) -> None:
        """A worker ends."""
        self._worker(number).exits(WorkerExit(139, "killed by SIGSEGV"))

    @precondition(lambda self: self.world.working())
    @rule(number=NUMBERS)
    def talk(self, number: int) -> None:
        """A worker tells progress and writes."""
        self._worker(number).says(frames.PROGRESS, number % 101, None)
        self.world.write(self._worker(number))

    @precondition(lambda self: any([frames.STOP] in worker.sent for worker in self.world.working()))
    @rule()
    def stop(self) -> None:
        """The tasks that were asked to stop do."""
        for worker in self.world.working():
            if [frames.STOP] in worker.sent:
                worker.says(frames.STOPPED)

    @rule()
    def settle(self) -> None:
        """Messages arrive."""
        self.world.cable.settle()

    @precondition(lambda self: self.world.cable.is_up)
    @rule()
    def settle_at_the_master(self) -> None:
        """What the node said arrives, but none of the answers yet."""
        self.world.cable.node.deliver()

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 16.0, 61.0]))
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

    def _worker(self, number: int) -> ScriptedWorker:
        working = self.world.working()
        return working[number % len(working)]


MasterAndNode.TestCase.settings = settings(stateful_step_count=30)
TestMasterAndNode = MasterAndNode.TestCase
