# SPDX-License-Identifier: MIT
"""Persist, then send, then publish: the dispatcher when all goes well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.scheduler import inputs, unit_values
from pydra.cluster.wire.messages import (
    FAILED,
    LOST,
    STOPPED,
    KillUnit,
    PauseUnit,
    Recorded,
    RunUnit,
    StopUnit,
    UnitProgress,
)
from pydra.errors import StoreError
from pydra.events import InstanceChanged, InstanceProgressed
from pydra.model.changes import FinishInstance, InsertInstance, RequeueInstance, StartAttempt
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerKey
from pydra.model.instance import Failure
from pydra.model.options import RunOptions
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE
from tests.support.instances import VERSION, WORKER, queued_instance
from tests.support.masters import NODE, RESULT, WALL_TIME, Heart
from tests.support.pumps import result_of

ONE, TWO = InstanceId(1), InstanceId(2)
FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)
OTHER = NodeId(2)


@pytest.fixture
def heart() -> Iterator[Heart]:
    """A dispatcher without nodes."""
    heart = Heart()
    yield heart
    heart.close()


def test_submit_without_a_node(heart: Heart) -> None:
    """A submission is committed, then published, and waits."""
    assert (ONE, True) == heart.submit(1)
    assert [InsertInstance(queued_instance(1))] == heart.store.committed
    assert [InstanceChanged(ONE, Status.QUEUED)] == heart.take()
    assert [ONE] == list(heart.dispatcher.live)
    assert Status.QUEUED is heart.dispatcher.live[ONE].status


def test_run(heart: Heart) -> None:
    """A free slot gets the instance: stored as running, shown, published, then sent whole."""
    heart.ready()
    heart.submit(1)
    instance = queued_instance(1)
    worker = WorkerKey("node1:11890:0")
    run = RunUnit(FIRST, ONE, instance.task_key, instance.package, VERSION, instance.args, worker)
    assert [
        InstanceChanged(ONE, Status.QUEUED),
        InstanceChanged(ONE, Status.RUNNING),
        (NODE, run),
    ] == heart.take()
    assert StartAttempt(ONE, FIRST, NODE, worker, WALL_TIME) == heart.store.committed[-1]
    live = heart.dispatcher.live[ONE]
    assert (Status.RUNNING, FIRST, NODE, worker, WALL_TIME) == (
        live.status,
        live.attempt,
        live.node,
        live.worker,
        live.started,
    )


def test_complete(heart: Heart) -> None:
    """A result is stored, published, and the node may forget it; the instance does not live any more."""
    heart.ready()
    run = heart.running()
    heart.clock.advance(2)
    heart.finish(run.attempt)
    assert [InstanceChanged(ONE, Status.COMPLETE), (NODE, Recorded((FIRST,)))] == heart.take()
    assert FinishInstance(ONE, FIRST, Status.COMPLETE, WALL_TIME + 2, RESULT) == heart.store.committed[-1]
    assert {} == heart.dispatcher.live
    assert RESULT == heart.stored(1).result


def test_failed(heart: Heart) -> None:
    """The exception of the task is stored as it was told, and no result with it."""
    heart.ready()
    failure = Failure("failed", "ValueError: x", "Traceback")
    heart.finish(heart.running().attempt, FAILED, RESULT, failure)
    assert Status.FAILED is heart.stored(1).status
    assert failure == heart.stored(1).failure
    assert heart.stored(1).result is None


def test_stopped_unasked(heart: Heart) -> None:
    """A task that stops by itself is cancelled, as it would be without a cluster."""
    heart.ready()
    heart.finish(heart.running().attempt, STOPPED, None)
    assert (Status.CANCELLED, None, None) == (
        heart.stored(1).status,
        heart.stored(1).failure,
        heart.stored(1).result,
    )


def test_a_slot_that_is_free_again_is_used(heart: Heart) -> None:
    """The end of one instance and the start of the next come in one commit, in this order."""
    heart.ready()
    run = heart.running(1)
    heart.submit(2)
    heart.take()
    heart.finish(run.attempt)
    trace = heart.take()
    assert [
        InstanceChanged(ONE, Status.COMPLETE),
        (NODE, Recorded((FIRST,))),
        InstanceChanged(TWO, Status.RUNNING),
    ] == trace[:3]
    assert isinstance(trace[3][1], RunUnit)
    assert (TWO, SECOND) == (trace[3][1].instance, trace[3][1].attempt)


def test_known_request_key(heart: Heart) -> None:
    """A repeated submission answers the first id, and nothing is queued or published."""
    assert (ONE, True) == heart.submit(1, request_key="key")
    heart.take()
    assert (ONE, False) == heart.submit(2, request_key="key")
    assert [] == heart.take()
    assert [ONE] == list(heart.dispatcher.live)
    assert 1 == len(heart.scheduler.queued())


def test_submit_refused(heart: Heart) -> None:
    """A submission that cannot be committed raises, and leaves nothing behind."""
    heart.store.refuse("The disk is full.")
    with pytest.raises(StoreError, match="full"):
        heart.submit(1)
    assert [] == heart.take()
    assert {} == heart.dispatcher.live
    assert [] == heart.scheduler.queued()


def test_an_id_that_is_taken(heart: Heart) -> None:
    """The same id twice is refused by the store, and the first instance stays."""
    heart.submit(1, priority=3)
    with pytest.raises(StoreError):
        heart.submit(1)
    assert 3 == heart.dispatcher.live[ONE].priority


def test_cancel_queued(heart: Heart) -> None:
    """A waiting instance is cancelled at once, and it never ran."""
    heart.submit(1)
    heart.take()
    result_of(heart.dispatcher.feed(inputs.CancelRequested(ONE)))
    assert [InstanceChanged(ONE, Status.CANCELLED)] == heart.take()
    assert Status.CANCELLED is heart.stored(1).status
    assert {} == heart.dispatcher.live


def test_cancel_running(heart: Heart) -> None:
    """A running instance is cancelling, its stop flag is set, and after the grace it is killed."""
    heart.ready()
    heart.running()
    heart.dispatcher.feed(inputs.CancelRequested(ONE))
    assert [InstanceChanged(ONE, Status.CANCELLING), (NODE, StopUnit(FIRST))] == heart.take()
    assert Status.CANCELLING is heart.stored(1).status
    heart.clock.advance(9.9)
    assert [] == heart.take()
    heart.clock.advance(0.1)
    assert [(NODE, KillUnit(FIRST))] == heart.take()
    heart.finish(FIRST, LOST, None)
    assert [InstanceChanged(ONE, Status.CANCELLED), (NODE, Recorded((FIRST,)))] == heart.take()
    assert heart.stored(1).failure is None


def test_a_result_after_cancel_is_dropped(heart: Heart) -> None:
    """Cancel is final: a result that comes after it is acknowledged and not stored."""
    heart.ready()
    heart.running()
    heart.dispatcher.feed(inputs.CancelRequested(ONE))
    heart.finish(FIRST)
    assert (Status.CANCELLED, None) == (heart.stored(1).status, heart.stored(1).result)
    assert (NODE, Recorded((FIRST,))) == heart.take()[-1]


def test_lost(heart: Heart) -> None:
    """A lost attempt is acknowledged and its instance runs again under a new number."""
    heart.ready()
    heart.running()
    heart.finish(FIRST, LOST, None)
    trace = heart.take()
    assert [
        InstanceChanged(ONE, Status.QUEUED),
        (NODE, Recorded((FIRST,))),
        InstanceChanged(ONE, Status.RUNNING),
    ] == trace[:3]
    assert (SECOND, 1) == (trace[3][1].attempt, trace[3][1].losses)
    assert RequeueInstance(ONE, FIRST, 1) in heart.store.committed
    assert (1, SECOND, WALL_TIME) == (
        heart.dispatcher.live[ONE].losses,
        heart.dispatcher.live[ONE].attempt,
        heart.dispatcher.live[ONE].started,
    )


def test_lost_too_often(heart: Heart) -> None:
    """After three losses the instance has failed, and says how it was lost."""
    heart.ready()
    heart.running()
    for number in (1, 2, 3):
        heart.finish(Attempt(1, number), LOST, None, Failure("worker_died", "It was killed."))
    failure = heart.stored(1).failure
    assert failure is not None
    assert "worker_died" == failure.code
    assert "3 times" in failure.message
    assert "It was killed." in failure.message


def test_stale_outcome(heart: Heart) -> None:
    """The outcome of an attempt that was given up changes nothing; its node is told to forget it."""
    heart.ready()
    heart.running()
    heart.finish(FIRST, LOST, None)
    heart.take()
    before = heart.stored(1)
    heart.finish(FIRST)
    assert [(NODE, Recorded((FIRST,)))] == heart.take()
    assert before == heart.stored(1)


def test_an_outcome_of_another_node(heart: Heart) -> None:
    """What another node tells of an attempt is not taken, and only that node is told so."""
    heart.ready()
    heart.running()
    heart.finish(FIRST, node=OTHER)
    assert [(OTHER, Recorded((FIRST,)))] == heart.take()
    assert Status.RUNNING is heart.stored(1).status


def test_progress(heart: Heart) -> None:
    """Progress of the current attempt is kept and published; of any other it is not."""
    heart.ready()
    heart.running()
    good = UnitProgress(FIRST, ONE, 40, "almost")
    for node, message in [
        (OTHER, good),
        (NODE, UnitProgress(SECOND, ONE, 41)),
        (NODE, UnitProgress(FIRST, TWO, 42)),
    ]:
        heart.dispatcher.unit_progressed(node, message)
    assert {} == heart.dispatcher.progress
    heart.dispatcher.unit_progressed(NODE, good)
    assert [InstanceProgressed(ONE, 40, "almost")] == heart.take()
    assert 40 == heart.dispatcher.progress[ONE].percent
    heart.finish(FIRST, LOST, None)
    assert {} == heart.dispatcher.progress


def test_restore(heart: Heart) -> None:
    """What was queued waits again in its order; what ran keeps its slot until its node says what it holds."""
    old = Attempt(0, 7)
    running = queued_instance(
        1, status=Status.RUNNING, attempt=old, node=NODE, worker=WORKER, started=5.0, losses=1
    )
    waiting = queued_instance(2, priority=1, attempt=Attempt(0, 5), node=NODE, worker=WORKER, losses=2)
    heart = Heart()
    heart.store._instances = {ONE: running, TWO: waiting}
    heart.dispatcher.restore(heart.result(heart.store.unfinished()), {}, [], [])
    assert [] == heart.take()
    assert [(TWO, 2)] == [(queued.instance, queued.losses) for queued in heart.scheduler.queued()]
    heart.dispatcher.feed(inputs.NodeReady(NODE, 1, running=(old,)))
    assert [] == heart.take()
    heart.finish(old)
    assert [
        InstanceChanged(ONE, Status.COMPLETE),
        (NODE, Recorded((old,))),
        InstanceChanged(TWO, Status.RUNNING),
    ] == heart.take()[:3]
    assert 5.0 == heart.stored(1).started
    heart.close()


def test_restore_without_the_node(heart: Heart) -> None:
    """What ran on a node that does not come back runs elsewhere when its lease is over."""
    running = queued_instance(1, status=Status.RUNNING, attempt=Attempt(0, 1), node=OTHER, worker=WORKER)
    heart.store._instances = {ONE: running}
    heart.dispatcher.restore([running], {}, [], [])
    heart.ready()
    for _ in range(59):
        heart.clock.advance(1)
        heart.dispatcher.feed(inputs.HeartbeatReceived(NODE))
    assert [] == heart.take()
    heart.clock.advance(1)
    assert [FIRST] == [message.attempt for message in heart.sent() if isinstance(message, RunUnit)]


def test_a_node_is_told_of_pauses(heart: Heart) -> None:
    """Where there is a time limit, the node counts how long an attempt has run, on each new link anew."""
    heart.ready()
    units = unit_values.UnitsAsked(ONE, FIRST, "Sub", [0], [b"x"], bytes(DIGEST_SIZE), {})
    heart.running(options=RunOptions(time_limit=60.0))
    heart.dispatcher.feed(units, unit_values.PauseRequested(ONE))
    heart.dispatcher.node_came(NODE)
    heart.dispatcher.feed(unit_values.ResumeRequested(ONE))
    told = [message for message in heart.sent() if isinstance(message, PauseUnit)]
    assert [PauseUnit(FIRST, paused) for paused in (True, True, False)] == told


def test_a_node_that_is_silent(heart: Heart) -> None:
    """Its work runs elsewhere after the lease, not before."""
    heart.ready()
    heart.running()
    heart.dispatcher.feed(inputs.NodeSilent(NODE))
    heart.ready(node=OTHER)
    for _ in range(12):
        assert [] == heart.take()
        heart.clock.advance(5)
        heart.dispatcher.feed(inputs.HeartbeatReceived(OTHER))
    assert [OTHER] == [entry[0] for entry in heart.take() if isinstance(entry, tuple)]


def test_nothing_to_do(heart: Heart) -> None:
    """A feed that asks for nothing is done at once."""
    fed: Deferred[None] = heart.dispatcher.feed(inputs.HeartbeatReceived(NODE))
    assert result_of(fed) is None
    assert [] == heart.store.committed


def test_what_is_being_cancelled_is_not_completed(heart: Heart) -> None:
    """Not even while the cancel is on its way to the disk: it came first."""
    heart.ready()
    heart.running()
    heart.store.hold()
    heart.dispatcher.feed(inputs.CancelRequested(ONE))
    heart.dispatcher.complete(ONE, RESULT)
    heart.store.release()
    heart.finish(FIRST, STOPPED, result=None)

    assert Status.CANCELLED is heart.stored(1).status


def test_what_will_be_complete_is_so_after_a_restart(heart: Heart) -> None:
    """The result is stored with the cancel, and counts however the worker ends then."""
    heart.ready()
    heart.running()
    heart.dispatcher.complete(ONE, RESULT)
    assert (Status.CANCELLING, RESULT) == (heart.stored(1).status, heart.stored(1).result)
    heart.dispatcher.stop()

    again = Heart(heart.store)
    again.dispatcher.restore(again.result(again.store.unfinished()), {}, [], [])
    again.dispatcher.feed(inputs.NodeReady(NODE, 1, (FIRST,)))
    again.finish(FIRST, STOPPED, result=None)
    assert (Status.COMPLETE, RESULT) == (again.stored(1).status, again.stored(1).result)
    again.close()


def test_what_will_be_complete_and_is_killed_as_failed(heart: Heart) -> None:
    """The end that was asked for first counts."""
    heart.ready()
    heart.running()
    heart.dispatcher.complete(ONE, RESULT)
    heart.dispatcher.refuse(ONE, Failure("wire", "It broke a rule."))
    heart.finish(FIRST, LOST, result=None)
    assert (Status.COMPLETE, RESULT) == (heart.stored(1).status, heart.stored(1).result)
