# SPDX-License-Identifier: MIT
"""The order of commits, messages and events when the store is slow or refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NoReturn

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.rounds import Round
from pydra.cluster.master.store_retry import RETRY_FIRST_S, RETRY_LAST_S
from pydra.cluster.scheduler import inputs
from pydra.cluster.wire.messages import LOST, KillUnit, RunUnit, StopUnit
from pydra.events import InstanceChanged
from pydra.model.changes import Change, InsertInstance, MarkCancelling, RequeueInstance, StartAttempt
from pydra.model.ids import Attempt, InstanceId
from pydra.model.status import Status
from tests.support.instances import queued_instance
from tests.support.masters import NODE, Heart
from tests.support.pumps import result_of

ONE, TWO, THREE = InstanceId(1), InstanceId(2), InstanceId(3)
FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)


@pytest.fixture
def heart() -> Iterator[Heart]:
    """A dispatcher with one slot."""
    heart = Heart()
    heart.ready()
    yield heart
    heart.close()


def kinds(changes: list[Change]) -> list[tuple[str, InstanceId]]:
    """Names of the changes after the submissions, and their instances."""
    return [
        (type(change).__name__, change.instance)  # type: ignore[union-attr]
        for change in changes
        if not hasattr(change, "instance") or isinstance(change.instance, int)
    ]


def test_nothing_goes_out_before_the_commit(heart: Heart) -> None:
    """While the commit is under way nothing is sent, published or shown."""
    heart.submit(1)
    heart.take()
    heart.store.hold()
    heart.finish(FIRST)
    fed = heart.dispatcher.feed(inputs.TimePassed())
    assert [] == heart.take()
    assert Status.RUNNING is heart.dispatcher.live[ONE].status
    assert not fed.called
    heart.store.release()
    assert [InstanceChanged(ONE, Status.COMPLETE)] == heart.take()[:1]
    assert fed.called


def test_a_submission_is_answered_after_its_commit(heart: Heart) -> None:
    """No id is told, and nothing is queued, before the submission is stored."""
    heart.store.hold()
    submitted = Deferred.fromCoroutine(heart.dispatcher.submit(queued_instance(1)))
    assert not submitted.called
    assert [] == heart.take()
    heart.store.release()
    assert (ONE, True) == result_of(submitted)
    assert [FIRST] == [message.attempt for message in heart.sent() if isinstance(message, RunUnit)]


def test_a_fault_of_ours_stops_the_master(heart: Heart, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dispatcher that failed would take work and do nothing for ever: it says that it cannot go on."""

    async def too_few(changes: object) -> list[object]:
        return []

    heart.submit(1)
    monkeypatch.setattr(heart.store, "commit", too_few)
    assert [] == heart.fatal
    heart.finish(FIRST)
    assert ["the dispatcher failed; the log has the details"] == heart.fatal


@pytest.mark.parametrize("part", ["_worker_key", "_wall_clock", "_set_timer"])
def test_an_instruction_that_cannot_be_carried_out(heart: Heart, part: str) -> None:
    """The scheduler has gone on by then, and its slot would be lost for ever: the master stops."""

    def broken(*_: object) -> NoReturn:
        raise LookupError("a fault")

    setattr(heart.dispatcher, part, broken)
    with pytest.raises(LookupError):
        heart.submit(1)
    assert ["the scheduler failed; the log has the details"] == heart.fatal
    assert [] == heart.sent()


def test_a_change_that_no_store_takes(heart: Heart) -> None:
    """What was asked for before it is done, it itself is a fault of ours, and nothing follows it."""
    for number in (1, 2, 3):
        heart.submit(number)
    heart.take()
    heart.store.hold()
    heart.finish(FIRST)
    heart.dispatcher.feed(inputs.CancelRequested(TWO))
    heart.dispatcher._rounds.add(Round([InsertInstance(queued_instance(3))]))
    heart.dispatcher.feed(inputs.CancelRequested(THREE))
    assert [] == heart.fatal
    while heart.store._held:
        heart.store.release()
    assert (Status.COMPLETE, Status.CANCELLING) == (heart.stored(1).status, heart.stored(2).status)
    assert InstanceChanged(TWO, Status.CANCELLING) in heart.take()
    assert ["the dispatcher failed; the log has the details"] == heart.fatal
    heart.clock.advance(60)
    assert Status.QUEUED is heart.stored(3).status
    assert [] == heart.take()


def test_late_commits_keep_the_order(heart: Heart) -> None:
    """What several rounds asked for while a commit was under way follows in the order of the rounds."""
    heart.submit(1)
    heart.submit(2)
    heart.submit(3)
    heart.take()
    heart.store.hold()
    heart.finish(FIRST)
    heart.dispatcher.feed(inputs.CancelRequested(TWO))
    heart.clock.advance(10)  # the kill needs no commit, and still waits for its turn
    heart.dispatcher.feed(inputs.CancelRequested(THREE))
    assert [] == heart.take()
    while heart.store._held:
        heart.store.release()
    assert [
        InstanceChanged(ONE, Status.COMPLETE),
        InstanceChanged(TWO, Status.RUNNING),
        RunUnit,
        InstanceChanged(TWO, Status.CANCELLING),
        StopUnit,
        KillUnit,
        InstanceChanged(THREE, Status.CANCELLED),
    ] == [
        type(entry[1]) if isinstance(entry, tuple) else entry
        for entry in heart.take()
        if not (isinstance(entry, tuple) and type(entry[1]).__name__ == "Recorded")
    ]
    assert [
        ("StartAttempt", ONE),
        ("FinishInstance", ONE),
        ("StartAttempt", TWO),
        ("MarkCancelling", TWO),
        ("FinishInstance", THREE),
    ] == kinds(heart.store.committed)


def test_refusals_keep_the_order(heart: Heart) -> None:
    """
    What is asked for while the store refuses is not stored before what was refused, even if it accepts again
    before the next try.
    """
    heart.store.refuse("The disk is full.")
    heart.dispatcher.live[ONE] = queued_instance(1)
    heart.store._instances[ONE] = queued_instance(1)
    heart.dispatcher.feed(inputs.Submitted(ONE, 5, 1.0))
    heart.store.accept()
    heart.dispatcher.feed(inputs.CancelRequested(ONE))
    assert [] == heart.take()
    heart.clock.advance(RETRY_FIRST_S)
    assert ["RunUnit", "StopUnit"] == [type(message).__name__ for message in heart.sent()]
    assert [("StartAttempt", ONE), ("MarkCancelling", ONE)] == kinds(heart.store.committed)
    assert Status.CANCELLING is heart.stored(1).status


def test_retries_back_off(heart: Heart) -> None:
    """A store that refuses is asked again after 0.2 s, then ever more rarely, up to every 5 s."""
    heart.submit(1)
    heart.take()
    tries: list[float] = []
    commit = heart.store.commit

    async def counted(changes: list[Change]) -> object:
        tries.append(heart.clock.seconds())
        return await commit(changes)

    heart.store.commit = counted  # type: ignore[method-assign, assignment]
    heart.store.refuse("locked")
    heart.finish(FIRST)
    for _ in range(300):
        heart.clock.advance(0.1)
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    wanted = [RETRY_FIRST_S, 0.4, 0.8, 1.6, 3.2, RETRY_LAST_S, RETRY_LAST_S]
    assert pytest.approx(wanted, abs=0.11) == waits[:7]
    assert [] == heart.take()
    heart.store.accept()
    heart.clock.advance(RETRY_LAST_S)
    assert InstanceChanged(ONE, Status.COMPLETE) in heart.take()


def test_a_stranger_error_is_retried_too(heart: Heart) -> None:
    """Whatever the store raises, nothing is lost."""
    heart.submit(1)
    heart.take()
    commit = heart.store.commit

    async def broken(changes: list[Change]) -> object:
        raise ValueError("a fault of the store")

    heart.store.commit = broken  # type: ignore[method-assign, assignment]
    heart.finish(FIRST)
    assert [] == heart.take()
    heart.store.commit = commit  # type: ignore[method-assign]
    heart.clock.advance(RETRY_FIRST_S)
    assert Status.COMPLETE is heart.stored(1).status


def test_a_waiter_that_feeds_again(heart: Heart) -> None:
    """Somebody who is woken by an event and asks for more does not overtake what is being told."""
    heart.submit(1)
    heart.submit(2)
    heart.take()
    publish = heart.publish
    fed: list[bool] = []

    def cancelling(event: object) -> int:
        number = publish(event)  # type: ignore[arg-type]
        if event == InstanceChanged(ONE, Status.COMPLETE) and not fed:
            fed.append(True)
            heart.dispatcher.feed(inputs.CancelRequested(TWO))
        return number

    heart.dispatcher._publish = cancelling
    heart.finish(FIRST)
    assert ["Recorded", "RunUnit", "StopUnit"] == [type(message).__name__ for message in heart.sent()]


def test_an_attempt_that_was_given_up_is_not_sent(heart: Heart) -> None:
    """If the node comes back without an attempt while that is being committed, only the next one is sent."""
    heart.store._instances[ONE] = heart.dispatcher.live[ONE] = queued_instance(1)
    heart.store.hold()
    heart.dispatcher.feed(inputs.Submitted(ONE, 5, 1.0))
    heart.dispatcher.feed(inputs.NodeSilent(NODE))
    heart.ready()
    heart.store.release()
    assert [SECOND] == [message.attempt for message in heart.sent() if isinstance(message, RunUnit)]
    assert [StartAttempt, RequeueInstance, StartAttempt] == [type(each) for each in heart.store.committed]


def test_a_step_that_fails(heart: Heart) -> None:
    """A fault in one step is logged, and what concerns others goes on."""
    heart.submit(1)
    heart.take()

    def failing(event: object) -> int:
        raise ValueError("a fault")

    heart.dispatcher._publish = failing
    fed = heart.dispatcher.feed(inputs.CancelRequested(ONE))
    assert [StopUnit(FIRST)] == heart.sent()
    assert fed.called
    heart.dispatcher._publish = heart.publish
    heart.finish(FIRST, LOST, None)
    assert Status.CANCELLED is heart.stored(1).status


def test_a_change_that_is_not_applied(heart: Heart) -> None:
    """It is logged, and the dispatcher goes on."""
    heart.submit(1)
    heart.dispatcher.feed(inputs.CancelRequested(ONE))
    heart.store._instances[ONE] = queued_instance(1, status=Status.COMPLETE)
    heart.finish(FIRST)
    assert Status.COMPLETE is heart.stored(1).status
    assert {} == heart.dispatcher.live
    assert MarkCancelling(ONE) in heart.store.committed


def test_stop_while_the_store_refuses(heart: Heart) -> None:
    """A dispatcher that was stopped leaves no timer and takes no further step."""
    heart.submit(1)
    heart.take()
    heart.store.refuse("locked")
    heart.finish(FIRST)
    heart.dispatcher.stop()
    assert [] == heart.clock.getDelayedCalls()
    heart.store.accept()
    heart.clock.advance(60)
    assert [] == heart.take()
    assert Status.RUNNING is heart.stored(1).status


def test_stop_while_a_commit_is_under_way(heart: Heart) -> None:
    """What is committed after the stop is neither sent nor published; the next start finds it."""
    heart.submit(1)
    heart.take()
    heart.store.hold()
    heart.finish(FIRST)
    heart.dispatcher.stop()
    heart.store.release()
    assert [] == heart.take()
    assert Status.COMPLETE is heart.stored(1).status


def test_stop_while_a_refusal_is_on_its_way(heart: Heart) -> None:
    """A refusal that comes after the stop starts no timer."""
    heart.submit(1)
    heart.store.hold()
    heart.finish(FIRST)
    heart.dispatcher.stop()
    heart.store.refuse("closed")
    heart.store.release()
    assert [] == heart.clock.getDelayedCalls()
