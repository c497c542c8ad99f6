# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import CancelRequested, NodeReady, NodeSilent, Submitted, TimePassed
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.nodes import Standing
from pydra.cluster.scheduler.views import NodeRefusal, NodeView, QueuedInstance, RunningInstance
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerSlot
from pydra.model.status import Status
from tests.support.scheduler_bench import nodes_of

A, B, C = InstanceId(1), InstanceId(2), InstanceId(3)
N1, N2, N3, N4, N5 = (NodeId(number) for number in range(1, 6))


@pytest.fixture
def scheduler() -> Scheduler:
    """B is cancelling, A is final, C waits; nodes are busy, silent, gone, suspect and without slots."""
    scheduler = Scheduler(1, Limits())
    scheduler.feed(0.0, [NodeReady(N3, 1), NodeSilent(N3)])
    scheduler.feed(50.0, [NodeReady(N4, 1)])
    scheduler.feed(60.0, [NodeReady(N2, 1), NodeSilent(N2), TimePassed()])
    scheduler.feed(65.0, [NodeReady(N1, 1), NodeReady(N5, 0), Submitted(A, 5, 1.0), Submitted(B, 4, 2.0)])
    scheduler.feed(66.0, [CancelRequested(A), CancelRequested(B), Submitted(C, 4, 3.0)])
    return scheduler


def test_populations(scheduler: Scheduler) -> None:
    """The views show what waits, what runs, and the nodes with their slots."""
    assert [RunningInstance(B, Status.CANCELLING, Attempt(1, 1), WorkerSlot(N1, 0), 0)] == scheduler.running()
    assert [QueuedInstance(C, 4, 3.0, 0)] == scheduler.queued()
    assert [
        NodeView(N1, Standing.READY, slots=1, busy=1, heard=65.0),
        NodeView(N2, Standing.SILENT, slots=1, busy=0, heard=60.0),
        NodeView(N3, Standing.GONE, slots=1, busy=0, heard=0.0),
        NodeView(N4, Standing.SUSPECT, slots=1, busy=0, heard=50.0),
        NodeView(N5, Standing.READY, slots=0, busy=0, heard=65.0),
    ] == nodes_of(scheduler)
    assert NodeView(N1, Standing.READY, slots=1, busy=1, heard=65.0) == scheduler.node(N1)
    assert (B,) == scheduler.slots(N1)
    assert (None,) == scheduler.slots(N2)
    assert (B, N1) == scheduler.holder(Attempt(1, 1))
    assert [True, False, False, True] == [scheduler.is_connected(node) for node in (N1, N2, N3, N4)]


def test_nothing_is_known(scheduler: Scheduler) -> None:
    """Views of what is not there are empty, not errors."""
    nobody, nowhere = InstanceId(99), NodeId(99)
    assert scheduler.node(nowhere) is None
    assert () == scheduler.slots(nowhere)
    assert not scheduler.is_connected(nowhere)
    assert scheduler.holder(Attempt(9, 9)) is None
    assert Status.UNKNOWN is scheduler.status(nobody)
    assert Status.UNKNOWN is scheduler.explain(nobody).status


def test_explain_waiting(scheduler: Scheduler) -> None:
    """A waiting instance is told of each node why it was not taken."""
    scheduler.feed(66.0, [Submitted(InstanceId(4), 9, 4.0)])
    explanation = scheduler.explain(InstanceId(4))
    assert Status.QUEUED is explanation.status
    assert 1 == explanation.ahead
    assert (
        "It waits: every slot of every ready node is busy. One more will run before it." == explanation.text
    )
    assert (
        NodeRefusal(N1, "has no free slot: its only one is busy"),
        NodeRefusal(N2, "is not connected"),
        NodeRefusal(N3, "is gone: nothing was heard of it for a whole lease"),
        NodeRefusal(N4, "is suspect: it is connected, but sends no heartbeat"),
        NodeRefusal(N5, "offers no slots"),
    ) == explanation.refusals


def test_explain_without_nodes() -> None:
    """Without nodes the explanation says just that."""
    scheduler = Scheduler(1, Limits())
    scheduler.feed(0.0, [Submitted(A, 5, 0.0)])
    assert "It waits: no node has connected yet." == scheduler.explain(A).text
    scheduler.feed(0.0, [NodeReady(N1, 0), NodeSilent(N1)])
    assert "It waits: no node is ready." == scheduler.explain(A).text


def test_explain_cancelling(scheduler: Scheduler) -> None:
    """What is still with a node is said to be there."""
    explanation = scheduler.explain(B)
    assert Status.CANCELLING is explanation.status
    assert "It was told to stop, and is still on node 1, as attempt 1.1." == explanation.text
