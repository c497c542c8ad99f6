# SPDX-License-Identifier: MIT
"""Why something waits, in words."""

from __future__ import annotations

from pydra.cluster.scheduler.explaining import Needed, UnitsWaiting
from pydra.cluster.scheduler.inputs import NodeReady, NodeSilent, Outcome, Submitted, TimePassed
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested, UnitsAsked
from pydra.cluster.scheduler.views import NodeRefusal
from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE
from tests.support.scheduler_bench import N1, N2, A, B, Bench, C, finished, nth, submitted

N3, N4 = NodeId(3), NodeId(4)


def reasons(bench: Bench, instance: InstanceId) -> dict[int, str]:
    """Why each node was not taken."""
    return {int(each.node): each.reason for each in bench.scheduler.explain(instance).refusals}


def test_each_reason_of_a_node_is_told() -> None:
    """Labels, isolation, resources that it does not have or has no more of, and slots, all that apply."""
    bench = Bench()
    wish = RunOptions(labels=("fast", "ssd"), resources={"gpus": 2, "cpus": 0.5})
    held = Submitted(B, 1, 0.0, options=RunOptions(labels=("fast",), resources={"gpus": 1.5}))
    bench.feed(
        NodeReady(N1, 1, isolation="user", resources={"cpus": 1}),
        NodeReady(N2, 0, labels=frozenset({"fast"}), isolation="full", resources={"gpus": 2, "cpus": 1}),
        NodeReady(
            N3, 2, labels=frozenset({"fast", "ssd"}), isolation="full", resources={"gpus": 3, "cpus": 1}
        ),
        held,
        Submitted(A, 5, 0.0, options=wish, isolation="full"),
    )
    assert {
        1: "has isolation user, not full; lacks the labels fast, ssd; offers 0 gpus, not 2",
        2: "lacks the label ssd; offers no slots",
        3: "has 1.5 gpus left of 3, not 2",
    } == reasons(bench, A)
    why = "It waits: no node with a free slot has enough left of what it asks for."
    assert why == bench.scheduler.explain(A).text


def test_nothing_that_is_asked_for() -> None:
    """That no node at all would do is said first."""
    bench = Bench()
    wish = RunOptions(labels=("x",))
    bench.feed(NodeReady(N1, 1), Submitted(A, 5, 0.0, options=wish))
    assert "It waits: no ready node meets what it asks for." == bench.scheduler.explain(A).text
    bench.feed(
        NodeReady(N2, 1, labels=frozenset("x")), Submitted(B, 5, 0.0, options=RunOptions(labels=("x",)))
    )
    text = bench.scheduler.explain(B).text
    assert "It waits: every slot of every ready node that meets what it asks for is busy." == text


def test_a_node_to_follow_to() -> None:
    """Others are not where it was; one that nobody knows is named all the same."""
    bench = Bench()
    options = RunOptions(follow=Dependency((A,)))
    bench.feed(
        NodeReady(N1, 1),
        NodeReady(N2, 1),
        NodeSilent(N2),
        Submitted(B, 5, 0.0, options=options, ended={A: Ended(Status.COMPLETE, N2)}),
        Submitted(C, 5, 0.0, options=options, ended={A: Ended(Status.COMPLETE, N4)}),
    )
    assert {1: "is not where those ran that it follows (node 2)", 2: "is not connected"} == reasons(bench, B)
    assert {
        1: "is not where those ran that it follows (node 4)",
        2: "is not connected",
        4: "is not connected since the start of the master, or was removed",
    } == reasons(bench, C)
    assert (Needed(A, "follow", Status.COMPLETE, True),) == bench.scheduler.explain(B).needed


def test_what_it_depends_on() -> None:
    """Each with its kind and state; the sentence names those that have not ended."""
    bench = Bench()
    bench.feed(NodeReady(N1, 2), submitted(A), submitted(B), submitted(C))
    options = RunOptions(after=Dependency((A, B, C)), follow=Dependency((A,)))
    four = InstanceId(4)
    bench.feed(Submitted(four, 5, 0.0, options=options))
    bench.feed(finished(Outcome.COMPLETE, 2))
    found = bench.scheduler.explain(four)
    assert "It waits until the task instances 1 and 3 end." == found.text
    assert (
        Needed(A, "after", Status.RUNNING, False),
        Needed(B, "after", Status.COMPLETE, True),
        Needed(C, "after", Status.RUNNING, False),
        Needed(A, "follow", Status.RUNNING, False),
    ) == found.needed
    five = InstanceId(5)
    bench.feed(Submitted(five, 5, 0.0, options=RunOptions(after=Dependency((A, C), all=False))))
    assert "It waits until enough of the task instances 1 and 3 end." == bench.scheduler.explain(five).text
    six = InstanceId(6)
    bench.feed(Submitted(six, 5, 0.0, options=RunOptions(after=Dependency((A,)))))
    assert "It waits until task instance 1 ends." == bench.scheduler.explain(six).text


def test_a_rest_before_a_retry() -> None:
    """It is told which retry comes."""
    bench = Bench()
    options = RunOptions(retries=3)
    bench.feed(NodeReady(N1, 1), Submitted(A, 5, 0.0, options=options))
    bench.feed(finished(Outcome.FAILED))
    assert "It failed, and rests before retry 1 of 3." == bench.scheduler.explain(A).text


def asked(count: int) -> UnitsAsked:
    """The main worker of A wants units."""
    args = [b"\x80"] * count
    return UnitsAsked(A, nth(1), "Sub", list(range(count)), args, bytes(DIGEST_SIZE * count))


def test_units_that_wait() -> None:
    """How many wait and run, with how many workers, and why there are no more of these."""
    bench = Bench()
    bench.feed(NodeReady(N1, 2), submitted(A))
    bench.feed(asked(40))
    found = bench.scheduler.explain(A)
    assert found.units is not None
    assert 40 == found.units.queued + found.units.running
    assert found.units.workers == 2
    assert found.text.endswith("units wait for its 2 workers: every slot of every ready node is busy.")
    assert (NodeRefusal(N1, "has no free slot: all 2 are busy"),) == found.refusals


def test_what_is_paused() -> None:
    """It is said to be, wherever it is."""
    bench = Bench()
    bench.feed(submitted(A), PauseRequested(A))
    assert "It is paused; once it is resumed, it waits for a slot." == bench.scheduler.explain(A).text
    assert Status.PAUSED is bench.scheduler.explain(A).status
    bench.feed(ResumeRequested(A), NodeReady(N1, 1))
    bench.feed(asked(4))
    bench.feed(PauseRequested(A))
    found = bench.scheduler.explain(A)
    assert found.text.startswith("It is paused on node 1, as attempt 2.1.")
    assert isinstance(found.units, UnitsWaiting)
    assert () == found.refusals
    bench.at(1.0, TimePassed())
