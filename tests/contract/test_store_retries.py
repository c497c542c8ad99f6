# SPDX-License-Identifier: MIT
"""What stores keep of retries, and of what others depend on."""

from __future__ import annotations

from pydra.model.changes import Committed, FinishInstance, InsertInstance, RetryInstance, StartAttempt
from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Ended, Failure
from pydra.model.status import Status
from tests.support.instances import WORKER, attempt, queued_instance
from tests.support.stores import ONE, Bench


def test_a_failed_attempt_is_followed_by_a_retry(bench: Bench) -> None:
    """Until the retry begins its instance is queued, and shows the failure and when it goes on."""
    failure = Failure("failed", "ValueError: no", "Traceback")
    bench.commit(InsertInstance(queued_instance(1)), _start(1))

    assert [Committed(True, ONE)] == bench.commit(RetryInstance(ONE, attempt(1), 1, 12.5, failure))
    waiting = bench.one()
    assert (Status.QUEUED, 1, 12.5, failure) == (
        waiting.status,
        waiting.retried,
        waiting.not_before,
        waiting.failure,
    )
    bench.commit(_start(2))
    again = bench.one()
    assert (Status.RUNNING, 1, None, None) == (again.status, again.retried, again.not_before, again.failure)


def test_endings_are_told_of_what_is_final(bench: Bench) -> None:
    """Others, and ids that no instance has, are left out; any number may be asked for."""
    numbers = [InstanceId(number) for number in range(1, 1200)]
    bench.commit(*(InsertInstance(queued_instance(number)) for number in numbers))
    bench.commit(_start(1), FinishInstance(ONE, attempt(1), Status.COMPLETE, 20.0))
    bench.commit(
        *(FinishInstance(number, None, Status.CANCELLED, 9.0) for number in (InstanceId(2), InstanceId(1199)))
    )

    found = bench.result(bench.store.endings([*numbers, InstanceId(5000)]))
    assert {
        ONE: Ended(Status.COMPLETE, NodeId(7)),
        InstanceId(2): Ended(Status.CANCELLED),
        InstanceId(1199): Ended(Status.CANCELLED),
    } == found
    assert {} == bench.result(bench.store.endings([]))


def _start(number: int) -> StartAttempt:
    """Instance 1 runs as an attempt of this number."""
    return StartAttempt(ONE, attempt(number), NodeId(7), WORKER, 10.0)
