# SPDX-License-Identifier: MIT
"""Asks of which something may be recorded: what is known is answered, the rest goes on, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import Store
from pydra.cluster.master.store_retry import RETRY_FIRST_S
from pydra.cluster.master.units.lookups import SLICE, UnitLookUps, part_of
from pydra.cluster.scheduler.unit_values import UnitsAsked
from pydra.errors import StoreError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure, Payload
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import UnitRow

ONE, ASKER, OTHER = InstanceId(1), Attempt(1, 1), Attempt(1, 2)


def digest(index: int, kind: int = 0) -> bytes:
    """The digest of a unit."""
    return bytes([kind]) + index.to_bytes(15, "big")


def ask(*indexes: int, asker: Attempt | None = ASKER, branch: str = "Sub", kind: int = 0) -> UnitsAsked:
    """Units that are asked for."""
    digests = b"".join(digest(index, kind) for index in indexes)
    return UnitsAsked(ONE, asker, branch, list(indexes), [bytes([index % 256]) for index in indexes], digests)


class Bench:
    """Look-ups with a store that answers when the test says so; ``told`` is what came of them, in order."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.rows: dict[int, UnitRow] = {}
        self.refuses = False
        self.reads: list[tuple[list[int], Deferred[None]]] = []
        self.steps: list[Callable[[], None]] = []
        self.told: list[tuple[str, list[int]]] = []
        self.passed: list[UnitsAsked] = []
        self.failures: list[str] = []
        self.look_ups = UnitLookUps(
            self.clock, cast(Store, self), self.steps.append, self._answered, self._went_on, self._asks_as
        )
        self.batches: dict[str, Attempt] = {}

    async def units(self, instance: InstanceId, branch: str, indexes: Sequence[int]) -> list[UnitRow]:
        """As of the store."""
        read: Deferred[None] = Deferred()
        self.reads.append((list(indexes), read))
        await read
        if self.refuses:
            raise StoreError
        return [self.rows[index] for index in indexes if index in self.rows]

    def _asks_as(self, asker: Attempt, branch: str) -> Attempt | None:
        return self.batches.get(branch) if "/" in branch else asker

    def _answered(self, asked: UnitsAsked, rows: Sequence[UnitRow]) -> None:
        self.told.append(("answered", [row.index for row in rows]))
        self.failures += [row.failure.code for row in rows if row.failure is not None]

    def _went_on(self, asked: UnitsAsked) -> None:
        self.passed.append(asked)
        self.told.append(("asked", asked.indexes))

    def record(self, *indexes: int, status: Status = Status.COMPLETE) -> None:
        """Units are in the store."""
        for index in indexes:
            failure = Failure("failed", "It raised.") if status is Status.FAILED else None
            self.rows[index] = UnitRow(
                ONE, "Sub", index, status, digest(index), result=Payload(1, b"\x01"), failure=failure
            )

    def commit(self) -> None:
        """What was to be committed is."""
        steps, self.steps[:] = list(self.steps), []
        for step in steps:
            step()

    def read(self) -> list[tuple[str, list[int]]]:
        """The store answers; what came of it."""
        reads, self.reads[:] = list(self.reads), []
        for _, read in reads:
            read.callback(None)
        told, self.told[:] = list(self.told), []
        return told

    def settle(self) -> list[tuple[str, list[int]]]:
        """Commits and reads until there are none."""
        told = []
        while self.steps or self.reads:
            self.commit()
            told += self.read()
        return told


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Look-ups."""
    bench = Bench()
    yield bench
    bench.look_ups.stop()
    assert [] == bench.clock.getDelayedCalls()


def test_known_and_unknown_units(bench: Bench) -> None:
    """What is complete is answered, and the rest asked for with its own arguments."""
    bench.record(1, 3)
    bench.record(4, status=Status.FAILED)
    bench.look_ups.begin(ask(0, 1, 2, 3, 4))
    assert [("answered", [1, 3]), ("asked", [0, 2, 4])] == bench.settle()
    assert [ask(0, 2, 4)] == bench.passed


@pytest.mark.parametrize(
    ("branch", "asker", "ran", "status", "is_refused"),
    [
        ("Sub", Attempt(2, 5), Attempt(2, 4), Status.COMPLETE, True),
        ("Sub", Attempt(2, 5), Attempt(1, 9), Status.FAILED, True),
        ("Sub", Attempt(2, 5), Attempt(2, 4), Status.RUNNING, True),
        ("Sub", Attempt(2, 5), Attempt(2, 6), Status.COMPLETE, False),
        ("Sub:0/Leaf", Attempt(2, 5), Attempt(2, 6), Status.COMPLETE, True),
        ("Sub:0/Leaf", Attempt(2, 5), Attempt(2, 8), Status.COMPLETE, False),
        ("Sub:9/Leaf", Attempt(2, 5), Attempt(2, 8), Status.COMPLETE, True),
        ("Sub", Attempt(2, 5), Attempt(2, 4), Status.QUEUED, False),
        ("Sub", Attempt(2, 5), None, Status.COMPLETE, False),
        ("Sub", None, Attempt(2, 4), Status.COMPLETE, False),
    ],
)
@pytest.mark.parametrize("guarantee", [Guarantee.ONCE, Guarantee.EXCLUSIVE, Guarantee.NONE])
def test_other_arguments(
    bench: Bench,
    guarantee: Guarantee,
    branch: str,
    asker: Attempt | None,
    ran: Attempt | None,
    status: Status,
    is_refused: bool,
) -> None:
    """What runs at most once, and ran before who asks had begun or when that is over, is refused."""
    bench.batches["Sub:0/Leaf"] = Attempt(2, 7)
    bench.record(1, status=status)
    bench.rows[1] = msgspec.structs.replace(bench.rows[1], attempt=ran)
    wanted = ask(1, 2, asker=asker, branch=branch, kind=1)
    bench.look_ups.begin(msgspec.structs.replace(wanted, guarantee=guarantee))
    is_refused &= guarantee is Guarantee.ONCE
    told = [("answered", [1]), ("asked", [2])] if is_refused else [("asked", [1, 2])]
    assert told == bench.settle()
    assert (["conflict"] if is_refused else []) == bench.failures


def test_units_that_run_once() -> None:
    """Of them a failure is answered too; one that is lost is so for whoever asks; begun ones are named."""
    for guarantee, answered in ((Guarantee.ONCE, [1, 2, 3]), (Guarantee.NONE, [1, 3])):
        bench = Bench()
        bench.record(1)
        bench.record(2, 3, status=Status.FAILED)
        lost = msgspec.structs.replace(bench.rows[3], failure=Failure("lost", "It was lost."))
        begun = msgspec.structs.replace(bench.rows[1], index=4, digest=digest(4), status=Status.RUNNING)
        other = msgspec.structs.replace(begun, index=5)
        bench.rows |= {3: lost, 4: msgspec.structs.replace(begun, attempt=OTHER), 5: other}
        bench.look_ups.begin(msgspec.structs.replace(ask(1, 2, 3, 4, 5), guarantee=guarantee))
        asked = [index for index in (1, 2, 3, 4, 5) if index not in answered]
        assert [("answered", answered), ("asked", asked)] == bench.settle()
        assert {4: OTHER} == bench.passed[0].started


def test_all_known_or_none(bench: Bench) -> None:
    """Nothing empty is answered or asked for."""
    bench.record(1, 2)
    bench.look_ups.begin(ask(1, 2))
    assert [("answered", [1, 2])] == bench.settle()
    bench.look_ups.begin(ask(5, 6))
    assert [("asked", [5, 6])] == bench.settle()


def test_another_digest(bench: Bench) -> None:
    """A unit that is complete with other arguments is computed again."""
    bench.record(1)
    bench.look_ups.begin(ask(1, kind=7))
    assert [("asked", [1])] == bench.settle()


def test_the_store_is_asked_after_the_commits(bench: Bench) -> None:
    """What the scheduler took before is committed when the look-up begins."""
    bench.look_ups.begin(ask(1))
    assert [] == bench.reads
    bench.record(1)
    assert [("answered", [1])] == bench.settle()


def test_a_repeat_does_nothing(bench: Bench) -> None:
    """An ask whose look-up is under way is outstanding."""
    bench.look_ups.begin(ask(1, 2))
    bench.look_ups.begin(ask(1, 2))
    bench.commit()
    bench.look_ups.begin(ask(2, 3))
    assert (3, 3) == bench.look_ups.outstanding(ONE, ASKER)
    assert [("asked", [1, 2]), ("asked", [3])] == bench.settle()
    assert (0, 0) == bench.look_ups.outstanding(ONE, ASKER)


def test_other_askers_and_branches_are_apart(bench: Bench) -> None:
    """The same index elsewhere is another unit."""
    for other in (ask(1), ask(1, asker=OTHER), ask(1, branch="Other"), ask(1, asker=None)):
        bench.look_ups.begin(other)
    assert [("asked", [1])] * 4 == bench.settle()


def test_recorded_meanwhile(bench: Bench) -> None:
    """What is recorded and told to the asker while the store is read is neither answered nor asked for."""
    bench.look_ups.begin(ask(1, 2, 3))
    bench.commit()
    bench.look_ups.settled(ONE, ASKER, "Other", [1])
    bench.look_ups.settled(ONE, ASKER, "Sub", [2, 9])
    bench.record(3)
    bench.look_ups.settled(ONE, ASKER, "Sub", [3])
    assert [("asked", [1])] == bench.settle()


def test_a_retry_while_an_older_look_up_is_under_way(bench: Bench) -> None:
    """A unit that failed meanwhile may be asked for again at once."""
    bench.look_ups.begin(ask(1, 2))
    bench.commit()
    bench.look_ups.settled(ONE, ASKER, "Sub", [1])
    bench.record(1, status=Status.FAILED)
    bench.look_ups.begin(ask(1))
    assert [("asked", [2]), ("asked", [1])] == bench.settle()


def test_recorded_for_another_asker(bench: Bench) -> None:
    """What is recorded meanwhile but told to nobody is looked up once more."""
    bench.look_ups.begin(ask(1, 2))
    bench.commit()
    bench.look_ups.settled(ONE, OTHER, "Sub", [1])
    assert [("asked", [2])] == bench.read()
    bench.record(1)
    assert [("answered", [1])] == bench.settle()


def test_forgotten(bench: Bench) -> None:
    """Nothing comes of what is not wanted any more, and it may be asked for again."""
    bench.look_ups.begin(ask(1))
    bench.look_ups.begin(ask(2, branch="Other"))
    bench.commit()
    bench.look_ups.forget(ONE, ASKER, "Sub")
    bench.look_ups.begin(ask(1, kind=1))
    assert [("asked", [2]), ("asked", [1])] == bench.settle()
    assert [digest(2), digest(1, 1)] == [asked.digests for asked in bench.passed]


def test_the_end_of_the_instance(bench: Bench) -> None:
    """Nothing comes of it then."""
    bench.look_ups.begin(ask(1))
    bench.commit()
    bench.look_ups.begin(ask(2))
    bench.look_ups.end(ONE)
    assert [] == bench.settle()
    assert (0, 0) == bench.look_ups.outstanding(ONE, ASKER)


def test_a_store_that_refuses(bench: Bench) -> None:
    """It is asked again, since without its answer units would be computed twice."""
    bench.record(1)
    bench.refuses = True
    bench.look_ups.begin(ask(1, 2))
    assert [] == bench.settle()
    bench.refuses = False
    bench.clock.advance(RETRY_FIRST_S)
    assert [("answered", [1]), ("asked", [2])] == bench.settle()


def test_stop_while_the_store_refuses(bench: Bench) -> None:
    """No timer is left, and nothing is told any more."""
    bench.refuses = True
    bench.look_ups.begin(ask(1))
    bench.settle()
    bench.look_ups.begin(ask(2))
    bench.commit()
    bench.look_ups.stop()
    assert [] == bench.clock.getDelayedCalls()
    assert [] == bench.settle()
    assert [] == bench.clock.getDelayedCalls()


def test_large_asks_are_read_in_slices(bench: Bench) -> None:
    """Many units are looked up one part after the other."""
    bench.record(0, SLICE, 2 * SLICE)
    bench.look_ups.begin(ask(*range(2 * SLICE + 1)))
    bench.commit()
    assert [("answered", [0]), ("asked", list(range(1, SLICE)))] == bench.read()
    told = bench.settle()
    assert [("answered", [SLICE]), ("asked", list(range(SLICE + 1, 2 * SLICE)))] == told[:2]
    assert [("answered", [2 * SLICE])] == told[2:]


def test_the_part_of_an_ask() -> None:
    """Arguments, digests and blobs go with their units."""
    blobs = {0: Payload(1, sha256="a" * 64), 2: Payload(2, sha256="b" * 64)}
    fields: dict[str, Any] = {"args": [b"a", b"b", b"c"], "digests": b"a" * 16 + b"b" * 16 + b"c" * 16}
    whole = UnitsAsked(ONE, ASKER, "Sub", [4, 5, 6], blobs=blobs, time_limit=3.0, **fields)
    wanted = UnitsAsked(ONE, ASKER, "Sub", [5, 6], [b"b", b"c"], b"b" * 16 + b"c" * 16, {1: blobs[2]}, 3.0)
    assert wanted == part_of(whole, [1, 2])


def test_what_is_looked_up_still_needs_its_arguments() -> None:
    """A unit that is being looked up is wanted, until it is told, passed on, or nobody waits for it."""
    bench = Bench()
    bench.look_ups.begin(ask(1, 2, 3))
    assert {1, 2, 3} == bench.look_ups.wanted(ONE, "Sub")
    assert set() == bench.look_ups.wanted(ONE, "Other")
    bench.look_ups.settled(ONE, ASKER, "Sub", [1])
    bench.look_ups.settled(ONE, OTHER, "Sub", [2])
    assert {2, 3} == bench.look_ups.wanted(ONE, "Sub")
    bench.look_ups.forget(ONE, ASKER, "Sub")
    assert set() == bench.look_ups.wanted(ONE, "Sub")
