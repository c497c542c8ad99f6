# SPDX-License-Identifier: MIT
"""Queue, outcomes and cancel: a state, an input, and exactly the expected instructions."""

from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    HeartbeatReceived,
    NodeReady,
    NodeSilent,
    Outcome,
    TimePassed,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import (
    BeginCancelling,
    Discard,
    Dispatch,
    Finish,
    KillUnit,
    Requeue,
    StopUnit,
)
from pydra.cluster.scheduler.limits import Limits
from pydra.errors import InternalError
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.status import Status
from tests.support.scheduler_bench import (
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
    nodes_of,
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


@pytest.fixture
def cancelling(running: Bench) -> Bench:
    """The same, and it was asked to stop."""
    assert [BeginCancelling(A, nth(1)), StopUnit(N1, nth(1))] == running.feed(CancelRequested(A))
    return running


# Queue and placement


def test_waits_without_nodes(bench: Bench) -> None:
    """An instance waits while there is no node, and time alone changes nothing."""
    assert [] == bench.feed(submitted(A))
    assert Status.QUEUED is bench.scheduler.status(A)
    assert bench.scheduler.wake_at() is None


def test_dispatched_when_a_node_is_ready(bench: Bench) -> None:
    """What waits is dispatched as soon as a node offers slots."""
    bench.feed(submitted(A), submitted(B))
    assert [dispatch(A, 1), dispatch(B, 2, index=1)] == bench.feed(NodeReady(N1, 2))
    assert (nth(2), WorkerSlot(N1, 1)) == assignment(bench.scheduler, B)


def test_dispatched_in_order(bench: Bench) -> None:
    """Priority, then age, then number decide, whatever the order of submission."""
    bench.feed(
        submitted(C, 5, 1.0), submitted(B, 5, 1.0), submitted(A, 9, 0.0), submitted(InstanceId(4), 1, 9.0)
    )
    order = [4, 2, 3, 1]
    assert order == [int(view.instance) for view in bench.scheduler.queued()]
    assert order == [given.instance for given in bench.feed(NodeReady(N1, 4)) if isinstance(given, Dispatch)]


def test_spread_over_nodes(bench: Bench) -> None:
    """The least loaded node is taken first."""
    bench.feed(NodeReady(N1, 2), NodeReady(N2, 1))
    assert [dispatch(A, 1), dispatch(B, 2, N2), dispatch(C, 3, index=1)] == bench.feed(
        submitted(A), submitted(B), submitted(C)
    )


def test_lowest_slot_first(bench: Bench) -> None:
    """A slot that was freed is used again before a higher one."""
    bench.feed(NodeReady(N1, 3), submitted(A), submitted(B))
    assert [Finish(A, nth(1), Status.COMPLETE)] == bench.feed(finished(Outcome.COMPLETE))
    assert [dispatch(C, 3, index=0)] == bench.feed(submitted(C))


def test_submitted_twice(running: Bench) -> None:
    """A second submission of the same instance is a fault in Pydra."""
    with pytest.raises(InternalError, match="RUNNING was submitted"):
        running.feed(submitted(A))


def test_more_slots(running: Bench) -> None:
    """A node that comes back with more slots gets more work at once."""
    running.feed(submitted(B))
    assert [dispatch(B, 2, index=1)] == running.feed(NodeReady(N1, 2, running=(nth(1),)))


def test_fewer_slots(bench: Bench) -> None:
    """A node that comes back with fewer slots keeps its busy ones, and they are not used again."""
    bench.feed(NodeReady(N1, 3), submitted(A), submitted(B), submitted(C))
    held = (nth(1), nth(2), nth(3))
    assert [] == bench.feed(NodeReady(N1, 1, running=held), submitted(InstanceId(4)))
    assert (A, B, C) == bench.scheduler.slots(N1)
    assert [Finish(C, nth(3), Status.COMPLETE)] == bench.feed(finished(Outcome.COMPLETE, 3))
    assert (A, B) == bench.scheduler.slots(N1)
    assert [Finish(B, nth(2), Status.COMPLETE)] == bench.feed(finished(Outcome.COMPLETE, 2))
    assert [Finish(A, nth(1), Status.COMPLETE), dispatch(InstanceId(4), 4)] == bench.feed(
        finished(Outcome.COMPLETE)
    )


def test_no_slots(bench: Bench) -> None:
    """A node without slots gets nothing."""
    assert [] == bench.feed(NodeReady(N1, 0), submitted(A))


# Outcomes


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        (Outcome.COMPLETE, None, Finish(A, nth(1), Status.COMPLETE)),
        (Outcome.COMPLETE, "well done", Finish(A, nth(1), Status.COMPLETE)),
        (Outcome.FAILED, None, Finish(A, nth(1), Status.FAILED)),
        (Outcome.FAILED, "it raised", Finish(A, nth(1), Status.FAILED, "it raised")),
        (Outcome.STOPPED, None, Finish(A, nth(1), Status.CANCELLED)),
    ],
)
def test_outcome_of_a_running_one(
    running: Bench, outcome: Outcome, reason: str | None, expected: Finish
) -> None:
    """An outcome ends its instance, and the next one gets the slot in the same feed."""
    running.feed(submitted(B))
    assert [expected, dispatch(B, 2)] == running.feed(finished(outcome, reason=reason))
    assert Status.UNKNOWN is running.scheduler.status(A)


@pytest.mark.parametrize("outcome", Outcome)
def test_outcome_of_a_cancelling_one(cancelling: Bench, outcome: Outcome) -> None:
    """Whatever its worker answers, a cancelling instance ends cancelled."""
    cancelling.feed(submitted(B))
    assert [Finish(A, nth(1), Status.CANCELLED), dispatch(B, 2)] == cancelling.feed(
        finished(outcome, reason="because")
    )


def test_lost_worker(running: Bench) -> None:
    """A lost instance waits again with its first age, so it is the next one."""
    running.feed(submitted(B, queued=1.0))
    assert [Requeue(A, nth(1), 1), dispatch(A, 2)] == running.feed(finished(Outcome.LOST))


def test_lost_too_often(running: Bench) -> None:
    """The third loss is the last, and the reason says so."""
    running.feed(finished(Outcome.LOST), finished(Outcome.LOST, 2))
    assert [Requeue(A, nth(2), 2), dispatch(A, 3)] == running.feed(finished(Outcome.LOST, 2))
    reason = "lost its worker 3 times; the limit is 3: its worker was killed by signal 9; see: pydra logs 1"
    assert [Finish(A, nth(3), Status.FAILED, reason)] == running.feed(
        finished(Outcome.LOST, 3, reason="its worker was killed by signal 9")
    )


def test_loss_limit_of_one() -> None:
    """With a limit of one, the first loss is the last."""
    bench = Bench(Limits(loss_limit=1))
    bench.feed(NodeReady(N1, 1), submitted(A))
    reason = "lost its worker 1 time; the limit is 1: its worker ended without an answer; see: pydra logs 1"
    assert [Finish(A, nth(1), Status.FAILED, reason)] == bench.feed(finished(Outcome.LOST))


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize(
    ("attempt", "node"),
    [(nth(1), N2), (nth(9), N1), (OLD, N1), (Attempt(3, 1), N1), (nth(1), NodeId(99))],
    ids=["foreign node", "never given", "older epoch", "newer epoch", "unknown node"],
)
def test_answers_that_are_not_wanted(
    running: Bench, attempt: Attempt, node: NodeId, outcome: Outcome
) -> None:
    """An answer that is stale or foreign is discarded and changes nothing."""
    running.feed(NodeReady(N2, 0))
    before = (running.scheduler.running(), running.scheduler.queued(), nodes_of(running.scheduler))
    assert [Discard(node, attempt)] == running.feed(UnitFinished(attempt, node, outcome))
    assert before == (running.scheduler.running(), running.scheduler.queued(), nodes_of(running.scheduler))


def test_second_answer(running: Bench) -> None:
    """An answer that is sent twice counts once."""
    answer = finished(Outcome.COMPLETE)
    assert [Finish(A, nth(1), Status.COMPLETE), Discard(N1, nth(1))] == running.feed(answer, answer)


def test_stale_answer_after_a_new_attempt(running: Bench) -> None:
    """The answer of a lost attempt does not end the instance that runs again."""
    running.feed(finished(Outcome.LOST))
    assert [Discard(N1, nth(1))] == running.feed(finished(Outcome.COMPLETE))
    assert (nth(2), WorkerSlot(N1, 0)) == assignment(running.scheduler, A)


# Cancel


def test_cancel_queued(bench: Bench) -> None:
    """What waits is cancelled at once and never runs."""
    bench.feed(submitted(A))
    assert [Finish(A, None, Status.CANCELLED)] == bench.feed(CancelRequested(A))
    assert [] == bench.feed(NodeReady(N1, 1))


def test_cancel_before_dispatch(bench: Bench) -> None:
    """An instance that is submitted and cancelled in one feed never runs."""
    bench.feed(NodeReady(N1, 1))
    assert [Finish(A, None, Status.CANCELLED)] == bench.feed(submitted(A), CancelRequested(A))


def test_cancel_unknown_or_final(running: Bench) -> None:
    """Cancelling what is not there, or is final, does nothing."""
    running.feed(finished(Outcome.COMPLETE))
    assert [] == running.feed(CancelRequested(A), CancelRequested(InstanceId(99)))


def test_cancel_twice(cancelling: Bench) -> None:
    """A second cancel changes nothing, not even the deadline."""
    deadline = cancelling.scheduler.wake_at()
    assert [] == cancelling.at(3.0, CancelRequested(A))
    assert deadline == cancelling.scheduler.wake_at()


def test_cancel_escalates(cancelling: Bench) -> None:
    """A worker that does not stop is killed after the grace, and again after each further one."""
    assert 10.0 == cancelling.scheduler.wake_at()
    assert [] == cancelling.at(9.9, HeartbeatReceived(N1, (nth(1),)), TimePassed())
    assert [KillUnit(N1, nth(1))] == cancelling.at(10.0, TimePassed())
    assert [] == cancelling.at(19.9, TimePassed())
    assert [KillUnit(N1, nth(1))] == cancelling.at(20.0, TimePassed())
    assert [Finish(A, nth(1), Status.CANCELLED)] == cancelling.feed(finished(Outcome.STOPPED))
    assert [] == cancelling.at(30.0, HeartbeatReceived(N1))


def test_cancel_without_grace() -> None:
    """Without a grace the kill follows at once, and is repeated every second."""
    bench = Bench(Limits(stop_grace_s=0.0))
    bench.feed(NodeReady(N1, 1), submitted(A))
    assert [BeginCancelling(A, nth(1)), StopUnit(N1, nth(1)), KillUnit(N1, nth(1))] == bench.feed(
        CancelRequested(A)
    )
    assert 1.0 == bench.scheduler.wake_at()


def test_cancel_while_silent(running: Bench) -> None:
    """A node that cannot be reached is told to stop when it is back."""
    running.feed(NodeSilent(N1))
    assert [BeginCancelling(A, nth(1))] == running.feed(CancelRequested(A))
    assert [] == running.at(20.0, TimePassed())
    assert [StopUnit(N1, nth(1))] == running.at(21.0, NodeReady(N1, 1, running=(nth(1),)))
    assert [KillUnit(N1, nth(1))] == running.at(31.0, TimePassed())


def test_silent_while_cancelling(cancelling: Bench) -> None:
    """No kill is sent to a node that cannot be reached; an answer that waits there needs no new stop."""
    assert [] == cancelling.at(1.0, NodeSilent(N1))
    assert [] == cancelling.at(50.0, TimePassed())
    assert [] == cancelling.feed(NodeReady(N1, 1, finished=(nth(1),)))
    assert [Finish(A, nth(1), Status.CANCELLED)] == cancelling.feed(finished(Outcome.COMPLETE))


def test_cancelling_and_lost(cancelling: Bench) -> None:
    """A cancelling instance whose node is gone is cancelled, not queued again."""
    cancelling.feed(NodeSilent(N1))
    assert [Finish(A, nth(1), Status.CANCELLED)] == cancelling.at(60.0, TimePassed())


def test_cancel_what_was_queued_again(running: Bench) -> None:
    """An instance that lost its worker and waits is cancelled at once, without an attempt."""
    running.feed(NodeSilent(N1), finished(Outcome.LOST))
    assert [Finish(A, None, Status.CANCELLED)] == running.feed(CancelRequested(A))
