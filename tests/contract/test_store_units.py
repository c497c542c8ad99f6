# SPDX-License-Identifier: MIT
"""What stores keep of work units, and of instances that are paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from pydra.errors import StoreError
from pydra.model.changes import (
    Change,
    Committed,
    FinishInstance,
    InsertInstance,
    InsertUnits,
    MarkPaused,
    RecordUnits,
    RequeueInstance,
    StartAttempt,
    StartUnit,
)
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Failure, Payload
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import BRANCH_LIMIT, UnitCounts, UnitPlace, UnitRow
from tests.support.instances import WORKER, attempt, queued_instance
from tests.support.stores import ONE, Bench

FAILURE = Failure("failed", "ValueError: no \x00 'quoted'", "Traceback")
LARGE = Payload(5_000_000, sha256="ab" * 32)


def digest(number: int) -> bytes:
    """A digest of its own for each number."""
    return number.to_bytes(16, "big")


def submit(indexes: Sequence[int], branch: str = "Sub", seed: int = 0) -> InsertUnits:
    """A client submits these units; with another seed they have other arguments."""
    args = [b"arg %d" % (index + seed) for index in indexes]
    return InsertUnits(ONE, branch, indexes, args, b"".join(digest(index + seed) for index in indexes))


def record(
    indexes: Sequence[int],
    branch: str = "Sub",
    seed: int = 0,
    failures: Mapping[int, Failure] | None = None,
    blobs: Mapping[int, Payload] | None = None,
    number: int = 9,
) -> RecordUnits:
    """These units ended in the batch of this number."""
    digests = b"".join(digest(index + seed) for index in indexes)
    results = [b"result %d of %d" % (index, number) for index in indexes]
    batch, node = Attempt(2, number), NodeId(3)
    return RecordUnits(
        ONE, branch, indexes, digests, results, failures or {}, blobs or {}, batch, node, 50.0 + number
    )


def complete(index: int, branch: str = "Sub", seed: int = 0, number: int = 9) -> UnitRow:
    """What there is to be of a unit that ended in the batch of this number."""
    result = b"result %d of %d" % (index, number)
    return UnitRow(
        *(ONE, branch, index, Status.COMPLETE, digest(index + seed)),
        result=Payload(len(result), result),
        attempt=Attempt(2, number),
        node=NodeId(3),
        ended=50.0 + number,
    )


def failed(index: int, number: int = 9) -> UnitRow:
    """What there is to be of a unit that failed."""
    return msgspec.structs.replace(
        complete(index, number=number), status=Status.FAILED, result=None, failure=FAILURE
    )


def queued(index: int, seed: int = 0) -> UnitRow:
    """What there is to be of a unit that was submitted."""
    return UnitRow(ONE, "Sub", index, Status.QUEUED, digest(index + seed), args=b"arg %d" % (index + seed))


@pytest.fixture
def running(bench: Bench) -> Bench:
    """A store in which instance 1 runs."""
    bench.commit(InsertInstance(queued_instance(1)), StartAttempt(ONE, attempt(), NodeId(7), WORKER, 1.0))
    return bench


def units(bench: Bench, branch: str | None = None) -> list[UnitRow]:
    """The units of instance 1."""
    return bench.result(bench.store.unit_page(ONE, branch, limit=1000))


def test_recorded_units_come_back_as_they_were(running: Bench) -> None:
    """Complete ones, failed ones, and one whose result is a blob."""
    change = record([4, 0, 2**63 - 1, 7, 8], failures={1: FAILURE}, blobs={3: LARGE})
    assert [Committed(True, ONE)] == running.commit(change)

    blob = msgspec.structs.replace(complete(7), result=LARGE)
    assert [failed(0), complete(4), blob, complete(8), complete(2**63 - 1)] == units(running)
    assert {"ab" * 32} == running.result(running.store.blobs())


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000, 2500])
def test_any_number_of_units_is_recorded(running: Bench, count: int) -> None:
    """Whatever parts it falls into, none is missing and none is mixed up."""
    running.commit(record(range(count)))

    found = running.result(running.store.units(ONE, "Sub", range(count + 5)))
    assert [complete(index) for index in range(count)] == found


def test_a_complete_unit_stays_as_it_is(running: Bench) -> None:
    """A second result for the same arguments changes nothing, be it a failure."""
    running.commit(record([1, 2]))
    running.commit(record([1, 2, 3], number=10, failures={1: FAILURE}), submit([1, 2]))

    assert [complete(1), complete(2), complete(3, number=10)] == units(running)


def test_a_unit_with_other_arguments_is_another(running: Bench) -> None:
    """Its result takes the place of the earlier one."""
    running.commit(record([1, 2]))
    running.commit(record([2], seed=70, number=10))

    assert [complete(1), complete(2, seed=70, number=10)] == units(running)


def test_a_failed_unit_gives_way(running: Bench) -> None:
    """To a result and to another failure, but not to its submission, which may be stored after its end."""
    running.commit(record([1, 2, 3], failures=dict.fromkeys(range(3), FAILURE)))
    running.commit(record([1, 2], number=10, failures={1: FAILURE}), submit([3]))

    assert [complete(1, number=10), failed(2, number=10), failed(3)] == units(running)


def test_a_submitted_unit_is_queued_until_it_is_recorded(running: Bench) -> None:
    """Then its arguments are not kept any more."""
    assert [Committed(True, ONE)] == running.commit(submit([3, 1, 2, 4]))
    assert [queued(index) for index in (1, 2, 3, 4)] == running.result(running.store.queued_units(ONE))

    running.commit(record([1, 4], failures={0: FAILURE}))
    assert [failed(1), queued(2), queued(3), complete(4)] == units(running)
    assert [queued(2), queued(3)] == running.result(running.store.queued_units(ONE))


def test_a_known_unit_that_is_submitted_again_stays(running: Bench) -> None:
    """Unless it has other arguments now."""
    running.commit(submit([1, 2]), submit([1, 2]), submit([2], seed=5))

    assert [queued(1), queued(2, seed=5)] == units(running)


@pytest.mark.parametrize("change", [record([1]), submit([1])])
def test_a_final_instance_takes_no_units(bench: Bench, change: RecordUnits | InsertUnits) -> None:
    """Cancel is final; nor does an instance that nobody knows."""
    cancel = FinishInstance(ONE, None, Status.CANCELLED, 2.0)
    steps: list[Change] = [change, InsertInstance(queued_instance(1)), change, cancel, change]

    outcomes = bench.commit(*steps)
    assert [False, True, True, True, False] == [outcome.applied for outcome in outcomes]
    assert [Committed(False, ONE)] == bench.commit(change)
    assert 1 == len(units(bench))


def test_units_of_many_branches_and_instances_do_not_meet(running: Bench) -> None:
    """A branch is a text of one instance."""
    other = InstanceId(2)
    running.commit(InsertInstance(queued_instance(2)))
    elsewhere = msgspec.structs.replace(record([1, 2], number=30), instance=other)
    running.commit(record([1]), record([1], "Sub:1/Other", number=20), elsewhere, record([2]))

    assert [complete(1), complete(2), complete(1, "Sub:1/Other", number=20)] == units(running)
    assert [complete(1, "Sub:1/Other", number=20)] == units(running, "Sub:1/Other")
    assert [] == units(running, "Nothing")
    assert 2 == len(running.result(running.store.units(other, "Sub", [0, 1, 2])))
    assert [] == running.result(running.store.units(other, "Sub:1/Other", [1]))


def test_units_are_read_in_pages(running: Bench) -> None:
    """Each begins after a place, by branch and index; a place need not have a unit."""
    running.commit(record([0, 1, 2], "B"), record([5, 6], "A"), record([9], "C", failures={0: FAILURE}))

    def page(after: UnitPlace | None, limit: int = 2, branch: str | None = None) -> list[tuple[str, int]]:
        found = running.result(running.store.unit_page(ONE, branch, after, limit))
        return [(row.branch, row.index) for row in found]

    assert [("A", 5), ("A", 6)] == page(None)
    assert [("B", 0), ("B", 1)] == page(UnitPlace("A", 2**63 - 1))
    assert [("C", 9)] == page(UnitPlace("B", 2))
    assert [] == page(UnitPlace("C", 9))
    after = [UnitPlace("A", 9), UnitPlace("B", 1), UnitPlace("C", 0)]
    assert [[("B", 0)], [("B", 2)], []] == [page(each, 1, "B") for each in after]
    assert [("A", 6), ("B", 0), ("B", 1), ("B", 2), ("C", 9)] == page(UnitPlace("A", 5), 10)
    assert [0, 6] == [len(page(None, limit)) for limit in (-1, 10**30)]


def test_units_of_one_status_can_be_chosen(running: Bench) -> None:
    """Also in pages."""
    running.commit(record(range(10), failures={3: FAILURE, 8: FAILURE}), submit([20]))

    def chosen(status: Status, after: UnitPlace | None = None) -> list[int]:
        found = running.result(running.store.unit_page(ONE, None, after, 1000, status))
        return [row.index for row in found]

    assert [3, 8] == chosen(Status.FAILED)
    assert [8] == chosen(Status.FAILED, UnitPlace("Sub", 3))
    assert [20] == chosen(Status.QUEUED)
    assert [0, 1, 2, 4, 5, 6, 7, 9] == chosen(Status.COMPLETE)


def test_units_are_counted(running: Bench) -> None:
    """By status, over all branches or of one."""
    assert UnitCounts() == running.result(running.store.unit_counts(ONE))

    running.commit(record(range(10), failures={3: FAILURE}), record([1], "Other"), submit([20, 21, 22]))
    assert UnitCounts(10, 1, 3) == running.result(running.store.unit_counts(ONE))
    assert UnitCounts(1, 0, 0) == running.result(running.store.unit_counts(ONE, "Other"))
    assert UnitCounts() == running.result(running.store.unit_counts(ONE, "None"))
    assert UnitCounts() == running.result(running.store.unit_counts(InstanceId(2)))


@pytest.mark.parametrize(
    "bad",
    [
        record([2**63]),
        record([-(2**70)], seed=2**71),
        record([1], branch="\ud800"),
        record([1], branch="x" * (BRANCH_LIMIT + 1)),
        msgspec.structs.replace(record([1, 2]), digests=digest(1)),
        msgspec.structs.replace(record([1, 2]), results=[b""]),
        msgspec.structs.replace(submit([1, 2]), args=[b"", b"", b""]),
        submit([2**63]),
    ],
)
def test_what_are_no_units_is_refused(running: Bench, bad: Change) -> None:
    """The whole commit is, and the next one is made."""
    with pytest.raises(StoreError):
        running.commit(record([5], "New"), bad)

    assert [] == units(running)
    running.commit(record([6], "Newer"), record([5], "New"))
    assert [("New", 5), ("Newer", 6)] == [(row.branch, row.index) for row in units(running)]


def test_odd_branches_and_large_results_are_kept(running: Bench) -> None:
    """Neither is looked into."""
    for branch in ("", "a\x00b", "a\x00", "'; DROP TABLE pydra_unit; --", "ü" * BRANCH_LIMIT, "%s ? :1"):
        running.commit(record([1], branch))
        assert [complete(1, branch)] == units(running, branch)
    large = bytes(8 * 1024 * 1024)
    running.commit(msgspec.structs.replace(record([2], "L"), results=[large]))

    assert Payload(len(large), large) == running.result(running.store.units(ONE, "L", [2]))[0].result


def test_absurd_indexes_name_nothing(running: Bench) -> None:
    """No error either."""
    running.commit(record([1]))

    found = running.result(running.store.units(ONE, "Sub", [10**40, -1, -(10**40), 1, 2**63]))
    assert [complete(1)] == found


def test_a_pause_is_over_as_it_began(bench: Bench) -> None:
    """What ran runs again, what waited waits, and what lost its attempt meanwhile waits."""

    def paused_and_resumed(number: int, *before: Change, meanwhile: Sequence[Change] = ()) -> Status:
        ident = InstanceId(number)
        bench.commit(InsertInstance(queued_instance(number)), *before, MarkPaused(ident, True), *meanwhile)
        bench.commit(MarkPaused(ident, False))
        instance = bench.result(bench.store.instance(ident))
        assert instance is not None
        return instance.status

    def start(number: int) -> StartAttempt:
        return StartAttempt(InstanceId(number), attempt(number), NodeId(7), WORKER, 1.0)

    assert Status.QUEUED is paused_and_resumed(1)
    assert Status.RUNNING is paused_and_resumed(2, start(2))
    lost = [RequeueInstance(InstanceId(n), attempt(n), 1) for n in range(5)]
    assert Status.QUEUED is paused_and_resumed(3, start(3), lost[3])
    assert Status.QUEUED is paused_and_resumed(4, start(4), meanwhile=[lost[4]])
    assert [1, 2, 3, 4] == [instance.id for instance in bench.result(bench.store.unfinished())]


def start(index: int, number: int = 9, seed: int = 0, branch: str = "Sub") -> StartUnit:
    """A unit with a guarantee is given out as the batch of this number."""
    batch, worker = Attempt(2, number), Attempt(2, number - 1)
    guarantee = Guarantee.ONCE | Guarantee.EXCLUSIVE
    return StartUnit(ONE, branch, index, digest(index + seed), guarantee, batch, worker, NodeId(3))


def begun(index: int, number: int = 9, seed: int = 0) -> UnitRow:
    """What there is to be of such a unit."""
    return UnitRow(
        *(ONE, "Sub", index, Status.RUNNING, digest(index + seed)),
        attempt=Attempt(2, number),
        node=NodeId(3),
        worker=Attempt(2, number - 1),
        guarantee=Guarantee.ONCE | Guarantee.EXCLUSIVE,
    )


def test_begun_units_come_back_as_they_were(running: Bench) -> None:
    """A unit with a guarantee is there from its begin, as one that did not end, until it has."""
    assert [Committed(True, ONE)] * 2 == running.commit(start(0), start(2**63 - 1))
    assert [begun(0), begun(2**63 - 1)] == units(running) == running.result(running.store.running_units())
    assert [] == running.result(running.store.queued_units(ONE))
    assert UnitCounts(0, 0, 2) == running.result(running.store.unit_counts(ONE))
    running.commit(record([0]), record([2**63 - 1], failures={0: FAILURE}))
    assert [complete(0), failed(2**63 - 1)] == units(running)
    assert [] == running.result(running.store.running_units())


def test_only_its_own_attempt_ends_a_begun_unit(running: Bench) -> None:
    """What another attempt tells changes nothing, whatever its arguments were."""
    running.commit(start(0, number=9))
    running.commit(record([0], number=8), record([0], number=10), record([0], seed=5, number=7))
    running.commit(record([0, 1], number=8, failures={0: FAILURE}))
    assert [begun(0), complete(1, number=8)] == units(running)
    running.commit(record([0], number=9))
    assert [complete(0, number=9), complete(1, number=8)] == units(running)


def test_no_attempt_ends_a_unit_twice(running: Bench) -> None:
    """What was recorded as failed stays so, until another attempt has a result."""
    running.commit(start(0, number=9))
    running.commit(record([0, 1], number=9, failures={0: FAILURE, 1: FAILURE}))
    running.commit(record([0, 1], number=9), record([0, 1], number=9, seed=5))
    assert [failed(0, number=9), failed(1, number=9)] == units(running)
    running.commit(record([0, 1], number=10))
    assert [complete(0, number=10), complete(1, number=10)] == units(running)


def test_a_unit_is_begun_again(running: Bench) -> None:
    """One that was given out again has the later attempt; so has one with other arguments."""
    running.commit(submit([0, 1]), start(0, number=5))
    running.commit(start(0, number=7))
    again = msgspec.structs.replace(begun(0, number=7), args=queued(0).args)
    assert [again, queued(1)] == units(running) == [*running.result(running.store.running_units()), queued(1)]
    running.commit(record([0], number=7), start(0, number=9))
    assert [complete(0, number=7), queued(1)] == units(running)
    running.commit(start(0, number=11, seed=3))
    assert [begun(0, number=11, seed=3), queued(1)] == units(running)


@pytest.mark.parametrize("number", [1, 2**40])
def test_workers_and_guarantees_of_begun_units(running: Bench, number: int) -> None:
    """Any worker, and each guarantee, comes back."""
    guarantees = (Guarantee.ONCE, Guarantee.EXCLUSIVE, Guarantee.ONCE | Guarantee.EXCLUSIVE)
    for index, guarantee in enumerate(guarantees):
        worker = Attempt(number, number)
        running.commit(msgspec.structs.replace(start(index), guarantee=guarantee, worker=worker))
    found = running.result(running.store.running_units())
    assert [(Attempt(number, number), each) for each in guarantees] == [
        (row.worker, row.guarantee) for row in found
    ]


def test_a_begun_unit_is_not_queued_again(running: Bench) -> None:
    """A submission that comes late does not change what was begun."""
    running.commit(start(0))
    running.commit(submit([0, 1]))
    assert [begun(0), queued(1)] == units(running)


def test_begun_units_of_all_instances(running: Bench) -> None:
    """They are found for all instances that are not final; what is final takes none."""
    two = InstanceId(2)
    running.commit(
        InsertInstance(queued_instance(2)), StartAttempt(two, attempt(), NodeId(7), WORKER, 1.0), start(4)
    )
    running.commit(msgspec.structs.replace(start(3), instance=two))
    found = running.result(running.store.running_units())
    assert [(ONE, 4), (two, 3)] == [(row.instance, row.index) for row in found]
    running.commit(FinishInstance(two, attempt(), Status.CANCELLED, 3.0))
    assert [Committed(False, two)] == running.commit(msgspec.structs.replace(start(5), instance=two))
    assert [begun(4)] == running.result(running.store.running_units())


@pytest.mark.parametrize(
    "change",
    [
        msgspec.structs.replace(start(0), digest=b"short"),
        msgspec.structs.replace(start(0), branch="x" * (BRANCH_LIMIT + 1)),
        start(2**63),
    ],
)
def test_what_cannot_be_begun(running: Bench, change: StartUnit) -> None:
    """A change that is none is refused, and nothing with it is made."""
    with pytest.raises(StoreError):
        running.commit(start(1), change)
    assert [] == units(running)
