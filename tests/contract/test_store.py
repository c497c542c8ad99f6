# SPDX-License-Identifier: MIT
"""What every store does, on the one in memory and on the one of Django's."""

from __future__ import annotations

import pytest

from pydra.cluster.store.store import DjangoStore
from pydra.errors import StoreError, Unstorable
from pydra.model.changes import (
    Change,
    Committed,
    FinishInstance,
    InsertInstance,
    MarkCancelling,
    MarkPaused,
    PutNode,
    PutPackage,
    RequeueInstance,
    RetryInstance,
    StartAttempt,
)
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Failure, Payload
from pydra.model.options import Dependency, RunOptions
from pydra.model.package import Needs
from pydra.model.status import Status
from tests.support.fakes import MemoryStore
from tests.support.instances import (
    VERSION,
    WORKER,
    attempt,
    node_record,
    package_description,
    queued_instance,
)
from tests.support.stores import ONE, Bench

RESULT = Payload(2, b"\xa1x")


def start(number: int = 1, at: float = 10.0) -> StartAttempt:
    """Instance 1 runs as an attempt of this number."""
    return StartAttempt(ONE, attempt(number), NodeId(7), WORKER, at)


def finish(number: int | None, status: Status = Status.COMPLETE) -> FinishInstance:
    """Instance 1 ends by the attempt of this number."""
    return FinishInstance(
        ONE, None if number is None else attempt(number), status, 20.0, RESULT, Failure("failed", "m", "t")
    )


def statuses(bench: Bench) -> dict[str, tuple[Change, ...]]:
    """The changes that bring instance 1 to each status, by its name."""
    insert = InsertInstance(queued_instance(1))
    return {
        "queued": (insert,),
        "running": (insert, start()),
        "cancelling": (insert, start(), MarkCancelling(ONE)),
        "queued again": (insert, start(), RequeueInstance(ONE, attempt(), 1)),
        "complete": (insert, start(), finish(1)),
        "failed": (insert, start(), finish(1, Status.FAILED)),
        "cancelled": (insert, finish(None, Status.CANCELLED)),
        "paused": (insert, start(), MarkPaused(ONE, True)),
        "paused, waits": (insert, start(), RequeueInstance(ONE, attempt(), 1), MarkPaused(ONE, True)),
        "paused, lost": (insert, start(), MarkPaused(ONE, True), RequeueInstance(ONE, attempt(), 1)),
    }


def test_an_instance_comes_back_as_it_was_committed(bench: Bench) -> None:
    """Every field of an instance survives."""
    instance = queued_instance(
        9,
        args=Payload(70000, b"", "cd" * 32),
        priority=-3,
        request_key="k" * 32,
        status=Status.FAILED,
        started=1.5,
        completed=2.5,
        attempt=Attempt(4, 2**40),
        node=NodeId(3),
        worker=WORKER,
        losses=2,
        result=Payload(0, b""),
        options=RunOptions(
            priority=-3,
            resources={"gpus": 1.5},
            labels=("a", "b"),
            follow=Dependency((ONE, InstanceId(2**40)), all=False, failure=True),
        ),
        retried=3,
        not_before=4.5,
        failure=Failure("lost", "ünïcode \x00 '); DROP TABLE pydra_instance; --", "tb"),
    )

    assert [Committed(True, InstanceId(9))] == bench.commit(InsertInstance(instance))
    assert instance == bench.result(bench.store.instance(InstanceId(9)))


def test_an_unknown_instance_is_none(bench: Bench) -> None:
    """Ids that no instance has, absurd ones too, answer None."""
    for number in (0, 1, -1, 2**63, 10**40):
        assert bench.result(bench.store.instance(InstanceId(number))) is None


def test_a_known_request_key_answers_the_first_instance(bench: Bench) -> None:
    """A repeated submission inserts nothing and has the id of the first one."""
    first = InsertInstance(queued_instance(1, request_key="key"))
    second = InsertInstance(queued_instance(2, request_key="key"))
    other = InsertInstance(queued_instance(3, request_key="other"))
    bench.commit(first)

    assert [Committed(False, ONE), Committed(True, InstanceId(3))] == bench.commit(second, other)
    assert bench.result(bench.store.instance(InstanceId(2))) is None
    assert [Committed(False, ONE)] == bench.commit(first)


def test_a_request_key_repeated_within_one_commit_inserts_once(bench: Bench) -> None:
    """The first of two submissions with one key wins, also if they are committed together."""
    inserts = [InsertInstance(queued_instance(number, request_key="key")) for number in (1, 2, 3)]

    expected = [Committed(True, ONE), Committed(False, ONE), Committed(False, ONE)]
    assert expected == bench.commit(*inserts)


def test_empty_request_keys_do_not_meet(bench: Bench) -> None:
    """Any number of instances may have no request key."""
    outcomes = bench.commit(*(InsertInstance(queued_instance(number)) for number in (1, 2)))

    assert [True, True] == [outcome.applied for outcome in outcomes]


def test_a_used_id_is_refused(bench: Bench) -> None:
    """Two instances cannot have one id; the commit with the second changes nothing."""
    bench.commit(InsertInstance(queued_instance(1, priority=1)))

    with pytest.raises(Unstorable):
        bench.commit(InsertInstance(queued_instance(2)), InsertInstance(queued_instance(1)))
    assert bench.one().priority == 1
    assert bench.result(bench.store.instance(InstanceId(2))) is None


def test_a_queued_instance_starts(bench: Bench) -> None:
    """The attempt, its node, its worker and the start are recorded."""
    bench.commit(InsertInstance(queued_instance(1)))

    assert [Committed(True, ONE)] == bench.commit(start())
    expected = queued_instance(
        1, status=Status.RUNNING, attempt=attempt(), node=NodeId(7), worker=WORKER, started=10.0
    )
    assert expected == bench.one()


def test_started_is_kept_from_the_first_attempt(bench: Bench) -> None:
    """A second attempt has its own number, and the start of the first."""
    bench.commit(InsertInstance(queued_instance(1)), start(1, at=10.0))
    bench.commit(RequeueInstance(ONE, attempt(1), 1))
    bench.commit(start(2, at=30.0))

    assert (attempt(2), 10.0, 1) == (bench.one().attempt, bench.one().started, bench.one().losses)


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        (start(5), {"queued", "queued again"}),
        (MarkCancelling(ONE), {"running", "paused"}),
        (RequeueInstance(ONE, attempt(1), 1), {"running", "paused"}),
        (RequeueInstance(ONE, attempt(2), 1), set()),
        (RequeueInstance(ONE, attempt(1, epoch=2), 1), set()),
        (RetryInstance(ONE, attempt(1), 1, 9.0, Failure("failed", "m")), {"running", "paused"}),
        (RetryInstance(ONE, attempt(2), 1, 9.0, Failure("failed", "m")), set()),
        (MarkPaused(ONE, True), {"queued", "queued again", "running"}),
        (MarkPaused(ONE, False), {"paused", "paused, waits", "paused, lost"}),
        (finish(None, Status.CANCELLED), {"queued", "queued again", "paused, waits", "paused, lost"}),
        (finish(1), {"running", "cancelling", "paused"}),
        (finish(2), set()),
        (FinishInstance(ONE, attempt(1, epoch=2), Status.COMPLETE, 1.0), set()),
    ],
)
@pytest.mark.parametrize(
    "status",
    [
        *("queued", "running", "cancelling", "queued again", "complete", "failed", "cancelled"),
        *("paused", "paused, waits", "paused, lost"),
    ],
)
def test_a_change_is_applied_only_where_it_may_be(
    bench: Bench, status: str, change: Change, allowed: set[str]
) -> None:
    """Elsewhere it changes nothing, and says so."""
    for step in statuses(bench)[status]:
        bench.commit(step)
    before = bench.one()

    assert [Committed(status in allowed, ONE)] == bench.commit(change)
    assert (status in allowed) is (before != bench.one())


def test_changes_of_an_unknown_instance_are_not_applied(bench: Bench) -> None:
    """Nothing is made by changing what is not there."""
    changes = (start(), MarkCancelling(ONE), RequeueInstance(ONE, attempt(), 1), finish(1), finish(None))

    assert [Committed(False, ONE)] * 5 == bench.commit(*changes)
    assert [] == bench.result(bench.store.unfinished())


def test_a_finished_instance_has_its_outcome(bench: Bench) -> None:
    """Result, failure and time of the end are recorded."""
    bench.commit(InsertInstance(queued_instance(1)), start(), finish(1))

    one = bench.one()
    assert (Status.COMPLETE, 20.0, RESULT) == (one.status, one.completed, one.result)
    assert Failure("failed", "m", "t") == one.failure


def test_a_status_that_is_not_final_ends_nothing(bench: Bench) -> None:
    """Such a change is refused, and would be whenever it came."""
    bench.commit(InsertInstance(queued_instance(1)))

    with pytest.raises(Unstorable, match="RUNNING is not final"):
        bench.commit(finish(None, Status.RUNNING))


def test_changes_take_effect_in_their_order(bench: Bench) -> None:
    """Within one commit an instance may go its whole way, among others that do."""
    numbers = range(1, 6)
    changes: list[Change] = []
    for number in numbers:
        ident = InstanceId(number)
        changes += [
            InsertInstance(queued_instance(number)),
            StartAttempt(ident, attempt(number), NodeId(1), WORKER, 1.0),
            RequeueInstance(ident, attempt(number), 1),
            StartAttempt(ident, attempt(number + 10), NodeId(1), WORKER, 2.0),
            FinishInstance(ident, attempt(number), Status.FAILED, 3.0),
            FinishInstance(ident, attempt(number + 10), Status.COMPLETE, 4.0),
        ]

    outcomes = bench.commit(*changes)

    assert [True, True, True, True, False, True] * 5 == [outcome.applied for outcome in outcomes]
    assert [InstanceId(number) for number in numbers for _ in range(6)] == [o.instance for o in outcomes]
    assert [] == bench.result(bench.store.unfinished())


def test_a_commit_of_nothing_has_no_outcomes(bench: Bench) -> None:
    """It is allowed."""
    assert [] == bench.commit()


def test_unfinished_are_all_that_are_not_final_by_id(bench: Bench) -> None:
    """What a starting master takes up again."""
    for number in (5, 1, 3, 2, 4):
        bench.commit(InsertInstance(queued_instance(number)))
    bench.commit(start(), MarkCancelling(ONE))
    bench.commit(FinishInstance(InstanceId(2), None, Status.CANCELLED, 1.0))
    bench.commit(StartAttempt(InstanceId(3), attempt(), NodeId(1), WORKER, 1.0))

    found = bench.result(bench.store.unfinished())

    assert [1, 3, 4, 5] == [instance.id for instance in found]
    assert [Status.CANCELLING, Status.RUNNING, Status.QUEUED, Status.QUEUED] == [i.status for i in found]
    assert bench.one() == found[0]


def test_how_a_terminated_instance_will_have_ended_is_kept(bench: Bench) -> None:
    """A master that starts meanwhile knows it."""
    failure = Failure("terminated", "Terminated by user")
    bench.commit(InsertInstance(queued_instance(1)), start(), MarkCancelling(ONE, failure))

    assert (Status.CANCELLING, failure) == (bench.one().status, bench.one().failure)


def test_what_a_closed_session_has_come_to_is_kept(bench: Bench) -> None:
    """A master that starts meanwhile knows it; in the end it is replaced by what came of it."""
    bench.commit(InsertInstance(queued_instance(1)), start(), MarkCancelling(ONE, result=RESULT))

    assert (Status.CANCELLING, RESULT) == (bench.one().status, bench.one().result)
    assert [bench.one()] == bench.result(bench.store.unfinished())
    bench.commit(FinishInstance(ONE, attempt(1), Status.CANCELLED, 20.0))
    assert bench.one().result is None


def test_history_has_ten_a_page_and_clips_the_page(bench: Bench) -> None:
    """Newest first, of one task, pages from 1."""
    key = TaskKey("demo.tasks.Count")
    bench.commit(*(InsertInstance(queued_instance(number)) for number in range(1, 26)))
    bench.commit(InsertInstance(queued_instance(26, task_key=TaskKey("demo.tasks.Other"))))

    def page(number: int) -> tuple[int, int, list[int]]:
        history = bench.result(bench.store.history(key, number))
        return history.page, history.pages, [instance.id for instance in history.instances]

    assert (1, 3, list(range(25, 15, -1))) == page(1)
    assert (3, 3, [5, 4, 3, 2, 1]) == page(3)
    assert page(1) == page(0) == page(-(10**30))
    assert page(3) == page(4) == page(10**30)


def test_the_history_of_an_unknown_task_is_one_empty_page(bench: Bench) -> None:
    """Not an error."""
    history = bench.result(bench.store.history(TaskKey("no'; --"), 3))

    assert ((), 1, 1) == (history.instances, history.page, history.pages)


def test_recent_are_the_newest_of_all_tasks(bench: Bench) -> None:
    """Newest first, at most the limit; an absurd limit is clipped."""
    bench.commit(*(InsertInstance(queued_instance(n, task_key=TaskKey(f"t.t.T{n}"))) for n in (1, 2, 3)))

    assert [3, 2] == [instance.id for instance in bench.result(bench.store.recent(2))]
    assert [] == bench.result(bench.store.recent(-5))
    assert [3, 2, 1] == [instance.id for instance in bench.result(bench.store.recent(10**30))]


def test_last_runs_are_of_complete_instances(bench: Bench) -> None:
    """The latest end of each task; failed and running ones do not count."""

    def run(number: int, task: str, status: Status, at: float) -> None:
        ident = InstanceId(number)
        bench.commit(
            InsertInstance(queued_instance(number, task_key=TaskKey(task))),
            StartAttempt(ident, attempt(number), NodeId(1), WORKER, 1.0),
            FinishInstance(ident, attempt(number), status, at),
        )

    assert {} == bench.result(bench.store.last_runs())
    run(1, "a.a.A", Status.COMPLETE, 50.0)
    run(2, "a.a.A", Status.COMPLETE, 40.0)
    run(3, "a.a.A", Status.FAILED, 90.0)
    run(4, "b.b.B", Status.FAILED, 60.0)
    run(5, "c.c.C", Status.COMPLETE, 70.5)

    assert {"a.a.A": 50.0, "c.c.C": 70.5} == bench.result(bench.store.last_runs())


def test_the_highest_instance_is_known(bench: Bench) -> None:
    """0 in an empty store."""
    assert bench.result(bench.store.highest_instance()) == 0

    bench.commit(InsertInstance(queued_instance(40)), InsertInstance(queued_instance(3)))
    assert bench.result(bench.store.highest_instance()) == 40


def test_the_blobs_of_all_instances_are_known(bench: Bench) -> None:
    """Those of arguments and of results, whatever became of the instance."""
    assert bench.result(bench.store.blobs()) == set()

    large, larger = Payload(70_000, sha256="a" * 64), Payload(80_000, sha256="b" * 64)
    bench.commit(InsertInstance(queued_instance(1, args=large)), InsertInstance(queued_instance(2)))
    bench.commit(StartAttempt(ONE, attempt(), NodeId(1), WORKER, 1.0))
    bench.commit(FinishInstance(ONE, attempt(), Status.COMPLETE, 2.0, larger))
    assert bench.result(bench.store.blobs()) == {"a" * 64, "b" * 64}


def test_a_node_record_is_replaced_whole(bench: Bench) -> None:
    """Nodes come by id, deleted ones too."""
    assert [Committed(True)] * 2 == bench.commit(
        PutNode(node_record(2, information=None, seen=None)), PutNode(node_record(1))
    )
    changed = node_record(2, host="elsewhere", port=1, fingerprint="F", slots=9, seen=1.5, deleted=True)
    assert [Committed(True)] == bench.commit(PutNode(changed))

    assert [node_record(1), changed] == bench.result(bench.store.nodes())


def test_a_package_version_is_described_anew(bench: Bench) -> None:
    """The latest description of a version is the one that counts."""
    later = package_description(needs=Needs(((PackageName("base"), VERSION),)))
    assert [Committed(True)] == bench.commit(PutPackage(package_description(tasks=())))
    assert [Committed(True)] == bench.commit(PutPackage(later))

    assert later == bench.result(bench.store.package(PackageName("demo"), VERSION))


def test_an_instance_keeps_what_its_package_needs(bench: Bench) -> None:
    """As the version that it was accepted with."""
    needs = Needs(((PackageName("base"), VERSION), (PackageName("other"), PackageVersion("cd" * 32))))
    bench.commit(InsertInstance(queued_instance(1, needs=needs)), InsertInstance(queued_instance(2)))

    assert [needs, Needs()] == [each.needs for each in bench.result(bench.store.unfinished())]


def test_an_unknown_package_version_is_none(bench: Bench) -> None:
    """Name and version both have to match."""
    bench.commit(PutPackage(package_description()))

    assert bench.result(bench.store.package(PackageName("demo"), PackageVersion("00"))) is None
    assert bench.result(bench.store.package(PackageName("other"), VERSION)) is None


def test_a_closed_store_refuses(bench: Bench) -> None:
    """Nothing is changed after the end."""
    if isinstance(bench.store, DjangoStore | MemoryStore):
        bench.result(bench.store.close())

    with pytest.raises(StoreError, match="closed"):
        bench.commit(InsertInstance(queued_instance(1)))
