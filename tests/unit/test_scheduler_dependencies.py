# SPDX-License-Identifier: MIT
"""Instances that run after others, or where others ran."""

from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    Input,
    NodeReady,
    NodeSilent,
    Outcome,
    Restored,
    Submitted,
    UnitFinished,
)
from pydra.cluster.scheduler.instructions import Dispatch, Finish, Instruction
from pydra.cluster.scheduler.unit_values import HireWorker
from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status
from tests.support.scheduler_bench import N1, N2, OLD, A, B, Bench, C, dispatch, finished, nth, submitted
from tests.support.unit_bench import asks, of

D = InstanceId(4)
CODE = "dependency"


def dependent(
    instance: InstanceId,
    *others: InstanceId,
    follow: bool = False,
    ended: dict[InstanceId, Ended] | None = None,
    **mode: bool,
) -> Submitted:
    """An instance that depends on others."""
    dependency = Dependency(others, **mode)
    options = RunOptions(follow=dependency) if follow else RunOptions(after=dependency)
    return Submitted(instance, 5, 0.0, options=options, ended=ended or {})


def refused(instance: InstanceId, why: str) -> Finish:
    """It failed at once."""
    return Finish(instance, None, Status.FAILED, f"It cannot run: {why}.", CODE)


def ends(done: list[Instruction]) -> list[Instruction]:
    """Without what the end of the other instance itself leads to."""
    return [each for each in done if getattr(each, "instance", None) not in (A, B)]


@pytest.fixture
def bench() -> Bench:
    """A scheduler with a node of four slots."""
    made = Bench()
    made.feed(NodeReady(N1, 4))
    return made


def test_it_runs_when_the_other_completed(bench: Bench) -> None:
    """It is queued until then, and dispatched in the same feed."""
    bench.feed(submitted(A))
    assert [] == bench.feed(dependent(B, A))
    assert [B] == [view.instance for view in bench.scheduler.queued()]
    assert Status.QUEUED is bench.scheduler.status(B)
    done = bench.feed(finished(Outcome.COMPLETE))
    assert [Finish(A, nth(1), Status.COMPLETE), dispatch(B, 2)] == done


@pytest.mark.parametrize(("outcome", "how"), [(Outcome.FAILED, "failed"), (Outcome.STOPPED, "was cancelled")])
def test_it_fails_when_the_other_did_not_complete(bench: Bench, outcome: Outcome, how: str) -> None:
    """At once, with the reason."""
    bench.feed(submitted(A), dependent(C, A))
    assert [refused(C, f"task instance 1 {how}, and it runs only if that completed")] == ends(
        bench.feed(finished(outcome))
    )
    assert Status.UNKNOWN is bench.scheduler.status(C)


def test_it_may_wait_for_a_failure(bench: Bench) -> None:
    """With failure alone a completed one will not do, with both any end does."""
    bench.feed(submitted(A), dependent(C, A, success=False, failure=True), dependent(D, A, failure=True))
    assert [
        refused(C, "task instance 1 completed, and it runs only if that failed"),
        dispatch(D, 2),
    ] == ends(bench.feed(finished(Outcome.COMPLETE)))


def test_a_cancelled_one_counts_as_failed(bench: Bench) -> None:
    """Also one that never ran."""
    bench.feed(NodeReady(N1, 0), submitted(A), dependent(C, A), dependent(D, A, success=False, failure=True))
    assert [refused(C, "task instance 1 was cancelled, and it runs only if that completed")] == ends(
        bench.feed(CancelRequested(A))
    )
    assert [dispatch(D, 1)] == bench.feed(NodeReady(N1, 1))


def test_one_that_was_done_counts_as_complete(bench: Bench) -> None:
    """It was cancelled because it had done what it was to do, whether it ran or waited."""
    bench.feed(submitted(A), dependent(C, A))
    bench.feed(CancelRequested(A, completes=True))
    assert [dispatch(C, 2)] == ends(bench.feed(finished(Outcome.STOPPED)))
    bench.feed(NodeReady(N1, 0), submitted(B), dependent(D, B))
    bench.feed(CancelRequested(B, completes=True))
    assert Status.QUEUED is bench.scheduler.status(D)
    assert not bench.scheduler.state.blocked


def test_one_that_was_done_counts_as_complete_after_a_restart(bench: Bench) -> None:
    """That it was done is restored with it."""
    bench.feed(
        Restored(A, 5, 0.0, Status.CANCELLING, nth(1), N1, 0, completes=True),
        dependent(C, A),
        NodeReady(N1, 1),
    )
    assert Status.RUNNING is bench.scheduler.status(C)


def test_all_or_any_of_several(bench: Bench) -> None:
    """All of them must have ended as wanted, or the first that does is enough."""
    bench.feed(submitted(A), submitted(B), dependent(C, A, B), dependent(D, A, B, all=False))
    assert [dispatch(D, 3)] == ends(bench.feed(finished(Outcome.COMPLETE, 1)))
    assert [dispatch(C, 4, index=1)] == ends(bench.feed(finished(Outcome.COMPLETE, 2)))


def test_any_of_several_fails_with_the_last(bench: Bench) -> None:
    """As long as one may still end well, it waits."""
    bench.feed(submitted(A), submitted(B), dependent(C, A, B, all=False))
    assert [] == ends(bench.feed(finished(Outcome.FAILED, 1)))
    why = "it runs only if one of the task instances 1 and 2 completed; none did"
    assert [refused(C, why)] == ends(bench.feed(finished(Outcome.FAILED, 2)))


def test_what_ended_long_ago_is_told(bench: Bench) -> None:
    """It runs, or fails, at once."""
    past = {A: Ended(Status.COMPLETE, N1), B: Ended(Status.FAILED, N1)}
    assert [dispatch(C, 1)] == bench.feed(dependent(C, A, ended=past))
    assert [refused(D, "task instance 2 failed, and it runs only if that completed")] == bench.feed(
        dependent(D, A, B, ended=past)
    )


def test_what_never_was(bench: Bench) -> None:
    """It fails with all, and does no harm with any."""
    assert [refused(C, "there is no task instance 1")] == bench.feed(dependent(C, A))
    past = {B: Ended(Status.COMPLETE, N1)}
    assert [dispatch(D, 1)] == bench.feed(dependent(D, A, B, all=False, ended=past))


def test_a_failure_runs_down_a_long_chain(bench: Bench) -> None:
    """Each fails with the reason of its own, however many there are."""
    bench.feed(submitted(A), *(dependent(InstanceId(n), InstanceId(n - 1)) for n in range(2, 5000)))
    done = bench.feed(finished(Outcome.FAILED))
    assert 4999 == len(done)
    why = "task instance 4998 failed, and it runs only if that completed"
    assert refused(InstanceId(4999), why) == done[-1]


def test_a_cancelled_waiter_is_forgotten(bench: Bench) -> None:
    """The end of the other does nothing for it any more."""
    bench.feed(submitted(A), dependent(B, A))
    assert [Finish(B, None, Status.CANCELLED)] == bench.feed(CancelRequested(B))
    assert [Finish(A, nth(1), Status.COMPLETE)] == bench.feed(finished(Outcome.COMPLETE))


def test_both_ended_in_one_feed(bench: Bench) -> None:
    """What is submitted together with the end that it depends on runs at once."""
    bench.feed(submitted(A))
    assert [dispatch(B, 2)] == bench.feed(finished(Outcome.COMPLETE), dependent(B, A))[1:]


def two_nodes(*inputs: Input) -> Bench:
    """A scheduler with two nodes of one slot each, of which A has the first and B the second."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1), NodeReady(N2, 1), submitted(A), submitted(B), *inputs)
    return bench


def test_it_follows_to_the_node(bench: Bench) -> None:
    """It waits for the very node, while another one has room, and blocks nobody behind it."""
    bench = two_nodes(dependent(C, B, follow=True))
    bench.feed(finished(Outcome.COMPLETE, 1))
    later = Submitted(D, 1, 0.0)
    assert [dispatch(D, 3)] == bench.feed(later)
    assert [dispatch(C, 4, N2)] == bench.feed(finished(Outcome.COMPLETE, 2, N2))[1:]


def test_it_follows_nobody_to_two_nodes(bench: Bench) -> None:
    """All of several on one node, or it fails."""
    bench = two_nodes(dependent(C, A, B, follow=True))
    bench.feed(finished(Outcome.COMPLETE, 1))
    why = "the task instances 1 and 2, which it was to follow, ran on different nodes"
    assert [refused(C, why)] == ends(bench.feed(finished(Outcome.COMPLETE, 2, N2)))


def test_it_follows_any_to_more_and_more_nodes() -> None:
    """While it waits, the node of a further one will do as well."""
    bench = two_nodes(dependent(C, A, B, follow=True, all=False))
    bench.feed(finished(Outcome.COMPLETE, 1), NodeSilent(N1))
    assert [C] == [view.instance for view in bench.scheduler.queued()]
    assert [dispatch(C, 3, N2)] == ends(bench.feed(finished(Outcome.COMPLETE, 2, N2)))


def test_its_workers_follow_to_more_nodes_too() -> None:
    """While it runs, units of it go to the node of a further one as soon as that has ended."""
    bench = two_nodes(dependent(C, A, B, follow=True, all=False))
    bench.feed(finished(Outcome.COMPLETE, 1))
    bench.feed(asks(range(4), nth(3), instance=C))
    hired = of(HireWorker, bench.feed(finished(Outcome.COMPLETE, 2, N2)))
    assert [N2] == [each.slot.node for each in hired]


def test_it_cannot_follow_what_never_ran(bench: Bench) -> None:
    """There is no node to follow to."""
    bench.feed(NodeReady(N1, 0), submitted(A), dependent(C, A, follow=True, failure=True))
    why = "task instance 1, which it was to follow, never ran"
    assert [refused(C, why)] == ends(bench.feed(CancelRequested(A)))


def test_dependencies_hold_after_a_restart() -> None:
    """What waited waits for what runs, for what ended, and for the place."""
    bench = Bench()
    after, follow = RunOptions(after=Dependency((B,))), RunOptions(follow=Dependency((A,)))
    done = bench.feed(
        Restored(B, 5, 0.0, Status.RUNNING, OLD, N1, 0),
        Restored(C, 5, 0.0, Status.QUEUED, options=after),
        Restored(D, 5, 0.0, Status.QUEUED, options=follow, ended={A: Ended(Status.COMPLETE, N2)}),
    )
    assert [] == done
    assert [dispatch(C, 1)] == bench.feed(NodeReady(N1, 2, (), (OLD,)), finished_old())[1:]
    assert [dispatch(D, 2, N2)] == bench.feed(NodeReady(N2, 1))


def test_a_lost_follower_stays_where_it_was() -> None:
    """Restored while it runs and lost later, it goes to no other node."""
    bench = Bench()
    follow = RunOptions(follow=Dependency((A,)))
    ended = {A: Ended(Status.COMPLETE, N1)}
    bench.feed(Restored(B, 5, 0.0, Status.RUNNING, OLD, N1, 0, options=follow, ended=ended))
    done = bench.feed(NodeReady(N2, 1), NodeReady(N1, 1))
    assert [dispatch(B, 1, N1)] == [each for each in done if isinstance(each, Dispatch)]


def finished_old() -> Input:
    """The attempt of the epoch before completed."""
    return UnitFinished(OLD, N1, Outcome.COMPLETE)


def test_labels_are_waited_for(bench: Bench) -> None:
    """Others go before it; it goes when there is such a node."""
    wish = RunOptions(labels=("fast",))
    assert [] == bench.feed(Submitted(A, 1, 0.0, options=wish))
    assert [dispatch(B, 1)] == bench.feed(submitted(B))
    assert [dispatch(A, 2, N2)] == bench.feed(NodeReady(N2, 1, labels=frozenset({"fast", "new"})))


def test_resources_are_held_and_given_back(bench: Bench) -> None:
    """Two halves fit, a third waits until one is given back, by whatever end."""
    half = RunOptions(resources={"gpus": 0.5})
    bench.feed(NodeReady(N1, 4, resources={"gpus": 1.0}))
    done = bench.feed(*(Submitted(each, 5, 0.0, options=half) for each in (A, B, C)), submitted(D))
    assert [dispatch(A, 1, index=0), dispatch(B, 2, index=1), dispatch(D, 3, index=2)] == done
    view = bench.scheduler.node(N1)
    assert view is not None
    assert {"gpus": 1.0} == view.held
    assert [dispatch(C, 4)] == bench.feed(finished(Outcome.FAILED))[1:]


def test_a_node_that_comes_back_with_less(bench: Bench) -> None:
    """What runs goes on; nothing new is placed until there is enough."""
    half = RunOptions(resources={"gpus": 0.5})
    bench.feed(NodeReady(N1, 4, resources={"gpus": 1.0}), Submitted(A, 5, 0.0, options=half))
    bench.feed(NodeReady(N1, 4, (nth(1),), resources={"gpus": 0.25}))
    assert [] == bench.feed(Submitted(B, 5, 0.0, options=half))
    assert [dispatch(B, 2, index=1)] == bench.feed(NodeReady(N1, 4, (nth(1),), resources={"gpus": 1.0}))


def test_isolation_is_waited_for(bench: Bench) -> None:
    """What asks for full isolation goes to no node with less."""
    assert [] == bench.feed(NodeReady(N1, 4, isolation="user"), Submitted(A, 5, 0.0, isolation="full"))
    assert [dispatch(A, 1, N2)] == bench.feed(NodeReady(N2, 1, isolation="full"))


def test_many_numbers_are_not_all_named(bench: Bench) -> None:
    """A sentence stays a sentence."""
    many = [InstanceId(number) for number in range(10, 1000)]
    past = {number: Ended(Status.FAILED, NodeId(1)) for number in many}
    [done] = bench.feed(dependent(A, *many, all=False, ended=past))
    assert isinstance(done, Finish)
    assert "10, 11, 12, 13, 14 and 985 more" in (done.reason or "")
