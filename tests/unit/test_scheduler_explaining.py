# SPDX-License-Identifier: MIT
"""Why something waits, in words."""

from __future__ import annotations

from pydra.cluster.scheduler.explaining import Needed, UnitsWaiting
from pydra.cluster.scheduler.inputs import (
    CancelRequested,
    NodeReady,
    NodeSilent,
    Outcome,
    Submitted,
    TimePassed,
)
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested, UnitsAsked
from pydra.cluster.scheduler.views import NodeRefusal
from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE
from tests.support.scheduler_bench import N1, N2, A, B, Bench, C, finished, nth, submitted
from tests.support.unit_bench import UnitBench

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


def test_large_and_tiny_amounts_are_told_in_full() -> None:
    """Memory with its unit; and less than a thousandth is held as one."""
    bench = Bench()
    wish = RunOptions(resources={"gpus": 0.0001, "memory": 4_000_000})
    bench.feed(NodeReady(N1, 1, resources={"memory": 1_234_567.5}), Submitted(A, 5, 0.0, options=wish))
    assert {1: "offers 0 gpus, not 0.001; offers 1234567.5 MB of memory, not 4000000"} == reasons(bench, A)


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


def test_quick_units_that_wait() -> None:
    """Units that are done sooner than a further worker would be there are not said to wait for a slot."""
    bench = UnitBench(slots=2)
    bench.measured(9, unit_s=0.0001)
    words = "5 units wait for its 2 workers: they take so little time that no further one is hired."
    assert bench.scheduler.explain(A).text.endswith(words)


def test_who_stands_before_it() -> None:
    """Those that could take the same slot; what can be placed nowhere, or elsewhere only, does not count."""
    bench = Bench()
    nowhere, far = RunOptions(labels=("x",)), RunOptions(labels=("far",))
    bench.feed(
        NodeReady(N1, 1),
        NodeReady(N2, 1, labels=frozenset({"far"})),
        *(submitted(InstanceId(number), priority=1) for number in (10, 11)),
        Submitted(B, 2, 0.0, options=nowhere),
        Submitted(C, 2, 0.0, options=far),
        Submitted(A, 5, 0.0, options=RunOptions(after=Dependency((InstanceId(10),), failure=True))),
        Submitted(InstanceId(4), 5, 1.0, options=nowhere),
        Submitted(InstanceId(5), 5, 1.0),
        Submitted(InstanceId(6), 5, 2.0),
        Submitted(InstanceId(7), 5, 3.0, options=far),
    )
    found = {number: bench.scheduler.explain(InstanceId(number)).ahead for number in (2, 3, 4, 5, 6, 7)}
    assert {2: 0, 3: 0, 4: 1, 5: 1, 6: 2, 7: 3} == found
    assert bench.scheduler.explain(InstanceId(5)).text.endswith("is busy. One more will run before it.")


def test_a_node_that_it_can_follow_to_but_not_run_on() -> None:
    """That it never can, as the nodes are, is told only while all of them are there."""
    bench = Bench()
    options = RunOptions(follow=Dependency((A,)), labels=("ssd",))
    bench.feed(
        NodeReady(N1, 1),
        NodeReady(N2, 1, labels=frozenset({"ssd"})),
        Submitted(B, 5, 0.0, options=options, ended={A: Ended(Status.COMPLETE, N1)}),
    )
    why = "It waits: it can only follow to node 1, and never run there as the cluster is."
    assert why == bench.scheduler.explain(B).text
    bench.feed(NodeSilent(N1))
    assert "It waits: no ready node meets what it asks for." == bench.scheduler.explain(B).text


def test_a_node_that_is_away() -> None:
    """What runs there, or is being cancelled there, is told what comes of it and when."""
    bench = Bench()
    bench.feed(NodeReady(N1, 2), submitted(A), submitted(B))
    bench.feed(CancelRequested(B))
    bench.at(15.0, TimePassed())
    away = "That node is connected, but sends no heartbeat"
    comes = f"{away}: if it does not come back within 45 s, it is lost there and run again."
    assert f"It is on node 1, slot 0, as attempt 2.1. {comes}" == bench.scheduler.explain(A).text
    bench.at(20.0, NodeSilent(N1))
    end = "That node is not connected: if it does not come back within 40 s, it has ended."
    assert bench.scheduler.explain(B).text.endswith(end)


def test_a_node_that_is_away_and_what_runs_once() -> None:
    """What may not be run again has failed then; what is exclusive is lost earlier."""
    once, alone = RunOptions(retry="never"), RunOptions(exclusive=True)
    bench = Bench()
    bench.feed(NodeReady(N1, 2), Submitted(A, 5, 0.0, options=once), Submitted(B, 5, 0.0, options=alone))
    bench.feed(NodeSilent(N1))
    assert bench.scheduler.explain(A).text.endswith("within 60 s, it has failed.")
    assert bench.scheduler.explain(B).text.endswith("within 45 s, it is lost there and run again.")


def test_a_node_of_workers_that_is_away() -> None:
    """A parallel task is told on which nodes it has workers that nothing is heard of."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1), submitted(A), NodeReady(N2, 1))
    bench.feed(asked(4))
    bench.feed(NodeSilent(N2))
    assert bench.scheduler.explain(A).text.endswith(" Node 2, where it has workers, is not connected.")
    bench.feed(NodeSilent(N1))
    text = bench.scheduler.explain(A).text
    assert "That node is not connected: if" in text
    assert "Node 1, where it has workers" not in text


def test_an_end_by_a_time_limit() -> None:
    """It is said to be the reason; nobody told it to stop."""
    bench = Bench()
    bench.feed(NodeReady(N1, 1), Submitted(A, 5, 0.0, options=RunOptions(time_limit=3.0)))
    bench.at(3.0, TimePassed())
    limit = "It ran for longer than its time limit of 3 s. It is ended by force"
    assert f"{limit}, and is still on node 1, as attempt 2.1." == bench.scheduler.explain(A).text


def test_nothing_more_is_asked_for() -> None:
    """A parallel task whose units are all given out, or done, is told to have asked for no more."""
    bench = Bench()
    bench.feed(NodeReady(N1, 2), submitted(A))
    bench.feed(asked(1))
    where = "It is on node 1, slot 0, as attempt 2.1."
    assert f"{where} It has asked for no more units." == bench.scheduler.explain(A).text
    bench.feed(Submitted(B, 5, 0.0, is_session=True))
    assert bench.scheduler.explain(B).text.endswith(" Its client has asked for no more units.")


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
    rest = "What runs comes to its end, and units that others wait for still begin."
    assert f"It is paused on node 1, as attempt 2.1. {rest}" == found.text
    assert isinstance(found.units, UnitsWaiting)
    assert () == found.refusals
    bench.at(1.0, TimePassed())
