# SPDX-License-Identifier: MIT
"""Nodes, leases and restored instances: a state, an input, and exactly the expected instructions."""

from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import (
    HeartbeatReceived,
    Input,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    Discard,
    Finish,
    KillUnit,
    Requeue,
    StopUnit,
)
from pydra.errors import InternalError, WorkersUnavailable
from pydra.model.ids import Attempt, InstanceId, WorkerSlot
from pydra.model.options import RunOptions
from pydra.model.status import Status
from tests.support.scheduler_bench import (
    ELDER,
    N1,
    N2,
    OLD,
    A,
    B,
    Bench,
    C,
    assignment,
    dispatch,
    finished,
    nth,
    submitted,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def running() -> Bench:
    """Instance A runs as attempt 1 on the only slot of node 1."""
    bench = Bench()
    assert [dispatch(A, 1)] == bench.feed(NodeReady(N1, 1), submitted(A))
    return bench


# Nodes, leases


def test_silent_node_keeps_its_lease(running: Bench) -> None:
    """A silent node gets no work, and loses its assignments one lease after it was last heard of."""
    running.at(5.0, HeartbeatReceived(N1, (nth(1),)))
    assert [] == running.at(6.0, NodeSilent(N1), submitted(B))
    assert not running.scheduler.is_connected(N1)
    assert 65.0 == running.scheduler.wake_at()
    assert [] == running.at(64.9, TimePassed())
    assert [Requeue(A, nth(1), 1)] == running.at(65.0, TimePassed())
    assert running.scheduler.wake_at() is None
    assert [A, B] == [view.instance for view in running.scheduler.queued()]


NO_MEMORY = "No worker can be started: no memory."


def test_a_node_that_begins_nothing_gets_nothing(bench: Bench) -> None:
    """Not even if all others are busy, until it says otherwise or comes anew."""
    bench.feed(NodeReady(N1, 1), HeartbeatReceived(N1, (), NO_MEMORY), NodeReady(N2, 1))
    assert [dispatch(A, 1, N2)] == bench.feed(submitted(A), submitted(B))
    why = bench.scheduler.explain(B)
    assert "It waits: every slot of every ready node that begins anything new is busy." == why.text
    assert f"begins nothing new: {NO_MEMORY}" == why.refusals[0].reason
    assert [] == bench.at(5.0, HeartbeatReceived(N1, (), "The outbox of the node has reached its limit."))
    assert [dispatch(B, 2)] == bench.at(10.0, HeartbeatReceived(N1))
    bench.at(15.0, HeartbeatReceived(N1, (nth(2),), NO_MEMORY), submitted(C))
    assert [] == bench.feed(finished(Outcome.COMPLETE, 2))[1:]
    assert [dispatch(C, 3)] == bench.feed(NodeReady(N1, 1))


def test_a_node_that_comes_and_begins_nothing(bench: Bench) -> None:
    """Its first word says it already."""
    assert [] == bench.feed(NodeReady(N1, 1, refusal=NO_MEMORY), submitted(A))
    assert [dispatch(A, 1)] == bench.at(5.0, HeartbeatReceived(N1))


def test_no_node_begins_anything(bench: Bench) -> None:
    """That is said first."""
    bench.feed(NodeReady(N1, 1), HeartbeatReceived(N1, (), NO_MEMORY), submitted(A))
    words = "It waits: no ready node that meets what it asks for begins anything new at the moment."
    assert words == bench.scheduler.explain(A).text


def test_what_never_began_is_given_again_however_often(bench: Bench) -> None:
    """A node that could start no worker for it costs it no attempt; and at most once means once begun."""
    never = Submitted(A, 5, 0.0, options=RunOptions(retry="never"))
    bench.feed(NodeReady(N1, 1), never)
    for number in range(1, 6):
        given = UnitFinished(nth(number), N1, Outcome.LOST, NO_MEMORY, WorkersUnavailable.code)
        assert [Requeue(A, nth(number), 0), dispatch(A, number + 1)] == bench.feed(given)


def test_no_heartbeat_is_suspect(bench: Bench) -> None:
    """A node without heartbeat gets no new work from 15 s on, until there is one."""
    bench.feed(NodeReady(N1, 1))
    assert 15.0 == bench.scheduler.wake_at()
    assert [] == bench.at(15.0, submitted(A))
    assert bench.scheduler.is_connected(N1)
    assert 60.0 == bench.scheduler.wake_at()
    assert [dispatch(A, 1)] == bench.at(16.0, HeartbeatReceived(N1))
    assert 31.0 == bench.scheduler.wake_at()


def test_no_heartbeat_for_a_lease(running: Bench) -> None:
    """A linked node without heartbeat for a whole lease is gone, and only being ready brings it back."""
    assert [] == running.at(15.0, TimePassed())
    assert [Requeue(A, nth(1), 1)] == running.at(60.0, TimePassed())
    assert not running.scheduler.is_connected(N1)
    assert [] == running.at(61.0, HeartbeatReceived(N1, (nth(1),)))
    assert [KillUnit(N1, nth(1)), dispatch(A, 2)] == running.at(62.0, NodeReady(N1, 1, running=(nth(1),)))


def test_long_pause(running: Bench) -> None:
    """A clock that jumps over both deadlines makes the node gone at once."""
    assert [Requeue(A, nth(1), 1)] == running.at(1000.0, TimePassed())


def test_clock_that_goes_back(running: Bench) -> None:
    """A clock that goes back is held, so no deadline moves."""
    running.at(14.0, TimePassed())
    assert [] == running.at(3.0, HeartbeatReceived(N1))
    assert 29.0 == running.scheduler.wake_at()


def test_lease_is_renewed(running: Bench) -> None:
    """An attempt that is named in the heartbeats stays for any time."""
    assert [] == running.beats(until=500.0, held=(nth(1),))


def test_attempt_that_never_arrived(running: Bench) -> None:
    """An attempt that its node did not name for a lease is lost, though the node lives."""
    running.beats(until=30.0, held=(nth(1),))
    assert [] == running.beats(until=85.0)
    assert [Requeue(A, nth(1), 1), dispatch(A, 2)] == running.beats(until=90.0)


def test_named_again_by_a_ready_node(running: Bench) -> None:
    """What a ready node names has a new lease, as if a heartbeat had named it."""
    running.at(50.0, NodeReady(N1, 1, running=(nth(1),)))
    assert [] == running.beats(until=105.0)
    assert [Requeue(A, nth(1), 1), dispatch(A, 2)] == running.beats(until=110.0)


def test_not_named_in_the_order_of_slots(bench: Bench) -> None:
    """What a node does not name is lost slot by slot, whatever was dispatched first."""
    bench.feed(NodeReady(N1, 2), submitted(A), submitted(B))
    assert [Finish(A, nth(1), Status.COMPLETE), dispatch(C, 3)] == bench.feed(
        finished(Outcome.COMPLETE), submitted(C)
    )
    expected = [Requeue(C, nth(3), 1), Requeue(B, nth(2), 1), dispatch(B, 4), dispatch(C, 5, index=1)]
    assert expected == bench.beats(until=60.0)


def test_only_the_holder_renews(running: Bench) -> None:
    """A heartbeat of another node does not renew a lease."""
    running.feed(NodeReady(N2, 0))
    done = []
    while running.now < 60.0:
        done += running.at(running.now + 5.0, HeartbeatReceived(N1), HeartbeatReceived(N2, (nth(1),)))
    assert [Requeue(A, nth(1), 1), dispatch(A, 2)] == done


@pytest.mark.parametrize(
    "given",
    [HeartbeatReceived(N2, (nth(1), OLD)), NodeSilent(N2), TimePassed(), HeartbeatReceived(N1, (OLD, OLD))],
    ids=repr,
)
def test_inputs_without_effect(running: Bench, given: Input) -> None:
    """Unknown nodes, unknown attempts and mere time lead to nothing."""
    assert [] == running.feed(given)


def test_reconnected(running: Bench) -> None:
    """An attempt that a node still runs after a break goes on."""
    running.at(30.0, NodeSilent(N1))
    assert [] == running.at(40.0, NodeReady(N1, 1, running=(nth(1),)), submitted(B))
    assert [Finish(A, nth(1), Status.COMPLETE), dispatch(B, 2)] == running.feed(finished(Outcome.COMPLETE))


def test_finished_during_a_break(running: Bench) -> None:
    """A slot stays busy until the outcome that waits on the node is told."""
    running.feed(NodeSilent(N1), submitted(B))
    assert [] == running.feed(NodeReady(N1, 1, finished=(nth(1),)))
    assert [Finish(A, nth(1), Status.COMPLETE), dispatch(B, 2)] == running.feed(finished(Outcome.COMPLETE))


def test_restarted_node(running: Bench) -> None:
    """A node that comes back empty-handed lost everything at once, without waiting for the lease."""
    running.feed(NodeSilent(N1))
    assert [Requeue(A, nth(1), 1), dispatch(A, 2)] == running.at(1.0, NodeReady(N1, 1))


def test_ready_again_without_silence(running: Bench) -> None:
    """A node that is ready twice is believed the second time."""
    assert [Requeue(A, nth(1), 1), dispatch(A, 2)] == running.feed(NodeReady(N1, 1))


def test_strangers_on_a_ready_node(running: Bench) -> None:
    """What a node holds and is not ours is killed or discarded, each once."""
    given = NodeReady(N2, 1, running=(OLD, nth(1), OLD), finished=(ELDER, ELDER))
    assert [KillUnit(N2, OLD), KillUnit(N2, nth(1)), Discard(N2, ELDER)] == running.feed(given)
    assert (nth(1), WorkerSlot(N1, 0)) == assignment(running.scheduler, A)


def test_lost_in_the_order_of_slots(bench: Bench) -> None:
    """A node that is gone loses its assignments slot by slot."""
    bench.feed(NodeReady(N1, 3), submitted(A), submitted(B), submitted(C))
    assert [Requeue(A, nth(1), 1), Requeue(B, nth(2), 1), Requeue(C, nth(3), 1)] == bench.at(
        60.0, TimePassed()
    )


def test_answer_of_a_silent_node(running: Bench) -> None:
    """An answer that arrives just after its link broke still counts."""
    assert [Finish(A, nth(1), Status.COMPLETE)] == running.feed(NodeSilent(N1), finished(Outcome.COMPLETE))


# Restore


def restored(
    instance: InstanceId = A, status: Status = Status.RUNNING, attempt: Attempt | None = OLD, losses: int = 0
) -> Restored:
    return Restored(instance, 5, 0.0, status, attempt, N1, 0, losses)


def test_restored_queue(bench: Bench) -> None:
    """Restored instances that waited wait again, in their order, whatever attempt they had."""
    bench.feed(restored(B, Status.QUEUED, ELDER, losses=2), restored(A, Status.QUEUED, None))
    assert [dispatch(A, 1), dispatch(B, 2, index=1)] == bench.feed(NodeReady(N1, 2))
    assert [0, 2] == [view.losses for view in bench.scheduler.running()]


def test_restored_and_adopted(bench: Bench) -> None:
    """A running instance keeps its slot until its node is back, and goes on there."""
    bench.at(100.0, restored(), submitted(B))
    assert 160.0 == bench.scheduler.wake_at()
    assert [dispatch(B, 1, index=1)] == bench.at(110.0, NodeReady(N1, 2, running=(OLD,)))
    assert [Finish(A, OLD, Status.COMPLETE)] == bench.feed(UnitFinished(OLD, N1, Outcome.COMPLETE))


def test_restored_node_never_comes(bench: Bench) -> None:
    """A running instance whose node does not come back within the lease waits again."""
    bench.at(100.0, restored(losses=1))
    assert [Requeue(A, OLD, 2)] == bench.at(160.0, TimePassed())


def test_restored_node_forgot(bench: Bench) -> None:
    """A running instance that its node knows nothing of waits again at once."""
    bench.feed(restored(losses=2))
    reason = "lost its worker 3 times; the limit is 3: the node came back without it; see: pydra logs 1"
    assert [Finish(A, OLD, Status.FAILED, reason)] == bench.feed(NodeReady(N1, 1))


def test_restored_cancelling(bench: Bench) -> None:
    """A restored cancelling instance is told to stop when its node is back."""
    assert [] == bench.feed(restored(status=Status.CANCELLING))
    assert [StopUnit(N1, OLD)] == bench.feed(NodeReady(N1, 1, running=(OLD,)))
    assert [KillUnit(N1, OLD)] == bench.at(10.0, TimePassed())


def test_restored_on_one_slot(bench: Bench) -> None:
    """Two restored instances never share a slot, and one without a slot gets one."""
    bench.feed(restored(A, attempt=OLD), restored(B, attempt=ELDER))
    bench.feed(Restored(C, 5, 0.0, Status.RUNNING, Attempt(1, 9), N1, None))
    assert (A, B, C) == bench.scheduler.slots(N1)


def test_restored_to_a_node_that_is_there(bench: Bench) -> None:
    """A restored instance is believed even if its node is ready already, until heartbeats say otherwise."""
    bench.feed(NodeReady(N1, 2))
    assert [StopUnit(N1, OLD), dispatch(B, 1, index=1)] == bench.feed(
        restored(status=Status.CANCELLING), submitted(B)
    )
    assert [Finish(A, OLD, Status.CANCELLED)] == [
        given for given in bench.beats(until=60.0, held=(nth(1),)) if not isinstance(given, KillUnit)
    ]


def test_restored_to_a_node_that_is_gone(running: Bench) -> None:
    """A restored instance of a node that is gone has a lease of its own."""
    running.at(60.0, TimePassed())
    assert [] == running.at(70.0, restored(B))
    assert [Requeue(B, OLD, 1)] == running.at(130.0, TimePassed())


def test_restored_attempts_are_not_repeated(bench: Bench) -> None:
    """Attempt numbers go on above those of this epoch that were restored."""
    bench.feed(restored(attempt=nth(41)), submitted(B))
    assert [dispatch(B, 42, index=1)] == bench.feed(NodeReady(N1, 2, running=(nth(41),)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (restored(status=Status.COMPLETE), "cannot be restored as COMPLETE"),
        (restored(status=Status.UNKNOWN), "cannot be restored as UNKNOWN"),
        (restored(attempt=None), "without attempt or node"),
        (Restored(A, 5, 0.0, Status.RUNNING, OLD), "without attempt or node"),
        (restored(attempt=Attempt(3, 1)), "cannot be of the past"),
        (restored(C, attempt=ELDER), "cannot be of the past"),
        (restored(B), "restored twice"),
    ],
)
def test_restored_nonsense(bench: Bench, given: Restored, words: str) -> None:
    """What a store cannot hold stops the daemon in words."""
    bench.feed(restored(B, attempt=ELDER))
    with pytest.raises(InternalError, match=words):
        bench.feed(given)
