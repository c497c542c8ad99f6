# SPDX-License-Identifier: MIT
"""How rows of units are written: in parts, in groups, and after a part of a transaction was undone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from pydra.cluster.store.database import bring_up_to_date, thread_connection
from pydra.cluster.store.settings import configure
from pydra.cluster.store.store import DjangoStore
from pydra.cluster.store.unit_changes import LARGEST_PART, SMALL_PART, parts, weight
from pydra.cluster.store.writer import GROUP_LIMIT, Call, Pending, groups
from pydra.model.changes import Change, Committed, FinishInstance, InsertInstance, InsertUnits, RecordUnits
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Failure as UnitFailure
from pydra.model.status import Status
from tests.support.instances import queued_instance
from tests.support.threads import PumpedReactor

ONE = InstanceId(1)


def record(indexes: range, branch: str = "Sub", size: int = 1, **changed: Any) -> RecordUnits:
    """These units are complete; each has a result of this size."""
    digests = b"".join(index.to_bytes(16, "big") for index in indexes)
    change = RecordUnits(
        *(ONE, branch, indexes, digests, [bytes(size)] * len(indexes), {}, {}),
        *(Attempt(1, 1), NodeId(1), 1.0),
    )
    return msgspec.structs.replace(change, **changed)


def submit(indexes: range, branch: str = "Sub") -> InsertUnits:
    """These units are queued."""
    digests = b"".join(index.to_bytes(16, "big") for index in indexes)
    return InsertUnits(ONE, branch, indexes, [b"a"] * len(indexes), digests)


@pytest.fixture
def reactor() -> PumpedReactor:
    """The test's own."""
    return PumpedReactor()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(reactor: PumpedReactor, database: Path) -> Iterator[DjangoStore]:
    """A store with instance 1."""
    store = reactor.wait(DjangoStore.open(database, reactor, pytest.fail))
    reactor.wait(store.commit([InsertInstance(queued_instance(1))]))
    yield store
    reactor.wait(store.close())


def together(reactor: PumpedReactor, store: DjangoStore, *commits: list[Change]) -> list[Any]:
    """Outcomes or error texts of commits that meet a locked database, so that they share a transaction."""
    with sqlite3.connect(store._writer._database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        # This one waits for the lock, and the others for it.
        first = Deferred.fromCoroutine(store.commit([]))
        waiting = [Deferred.fromCoroutine(store.commit(changes)) for changes in commits]
        other.execute("ROLLBACK")
    other.close()
    reactor.wait(first)
    answers = reactor.wait(DeferredList(waiting, consumeErrors=True))
    return [answer.getErrorMessage() if isinstance(answer, Failure) else answer for _, answer in answers]


def places(reactor: PumpedReactor, store: DjangoStore) -> list[tuple[str, int, Status]]:
    """The units that there are."""
    found = reactor.wait(store.unit_page(ONE, limit=1000))
    return [(row.branch, row.index, row.status) for row in found]


@pytest.mark.parametrize("count", [*range(40), 500, 1023, 1024, 1025, 10_000])
def test_parts_cover_all_rows(count: int) -> None:
    """One after another, in few different sizes."""
    found = list(parts(count))

    assert list(range(count)) == [at + row for at, rows in found for row in range(rows)]
    sizes = {rows for _, rows in found}
    assert all(rows < SMALL_PART or rows & (rows - 1) == 0 for rows in sizes)
    assert max(sizes, default=1) <= LARGEST_PART


def test_units_and_their_bytes_have_weight() -> None:
    """A group is limited by both; other changes weigh one."""
    assert 1 == weight(InsertInstance(queued_instance(1)))
    assert 10 == weight(record(range(10)))
    assert 7 == weight(submit(range(7)))
    assert 2 + 128 == weight(record(range(2), size=64 * 1024))


def test_a_group_has_only_so_many_units() -> None:
    """Small commits wait for a bounded transaction."""
    pending: Pending = Pending()
    for changes in ([record(range(GROUP_LIMIT - 1), size=0)], [submit(range(1))], [record(range(1))]):
        pending.put(Call(changes, Deferred()))
    pending.put(Call([msgspec.structs.replace(record(range(1)), results=None)], Deferred()))
    pending.put(None)

    assert [2, 2] == [len(group) for group in groups(pending)]


def test_a_refused_commit_takes_no_branch_with_it(reactor: PumpedReactor, store: DjangoStore) -> None:
    """A branch whose row was rolled back gets another, whose id no unit of another branch has."""
    bad = msgspec.structs.replace(record(range(3)), results=[])
    outcomes = together(
        reactor,
        store,
        [record(range(1), "A"), bad],
        [record(range(2), "B")],
        [record(range(1), "A")],
        [bad],
        [record(range(1), "C")],
    )

    kept = [Committed(True, ONE)]
    assert [True, False, False, True, False] == [isinstance(outcome, str) for outcome in outcomes]
    assert [kept, kept, kept] == [outcomes[1], outcomes[2], outcomes[4]]
    complete = Status.COMPLETE
    expected = [("A", 0, complete), ("B", 0, complete), ("B", 1, complete), ("C", 0, complete)]
    assert expected == places(reactor, store)
    reactor.wait(store.commit([record(range(1, 2), "A"), record(range(1, 2), "C")]))
    assert 6 == len(places(reactor, store))


def test_changes_of_units_take_effect_in_their_order(reactor: PumpedReactor, store: DjangoStore) -> None:
    """Among themselves, and before and after the end of their instance; what has ended stays as it ended."""
    failure = {0: UnitFailure("failed", "no")}
    end = FinishInstance(ONE, None, Status.CANCELLED, 2.0)
    outcomes = together(
        reactor,
        store,
        [submit(range(2))],
        [record(range(1), failures=failure)],
        [submit(range(1)), record(range(1, 2), failures=failure)],
        [record(range(1, 2), attempt=Attempt(1, 2)), record(range(2, 3))],
        [end],
        [record(range(3, 4)), submit(range(4, 5))],
    )

    applied = [outcome.applied for outcomes_of_one in outcomes for outcome in outcomes_of_one]
    assert [True] * 7 + [False, False] == applied
    expected = [("Sub", 0, Status.FAILED), ("Sub", 1, Status.COMPLETE), ("Sub", 2, Status.COMPLETE)]
    assert expected == places(reactor, store)


def test_many_changes_share_statements(reactor: PumpedReactor, store: DjangoStore) -> None:
    """Nothing is mixed up between them, whatever their sizes."""
    commits: list[list[Change]] = [[record(range(n * n, (n + 1) ** 2), f"B{n % 3}")] for n in range(30)]

    assert [[Committed(True, ONE)]] * 30 == together(reactor, store, *commits)
    expected = sorted((f"B{n % 3}", index) for n in range(30) for index in range(n * n, (n + 1) ** 2))
    assert expected == [(branch, index) for branch, index, _ in places(reactor, store)]


def test_a_page_costs_what_it_shows(database: Path, store: DjangoStore) -> None:
    """No query of units sorts, or reads what is before its page."""
    order = "ORDER BY b.branch, u.unit_index LIMIT 100"
    select = "SELECT u.payload FROM pydra_branch b JOIN pydra_unit u ON u.branch = b.id WHERE b.instance = 1"
    questions = (
        "",
        "AND b.branch = 'x' AND u.unit_index > 5",
        "AND b.branch > 'x'",
        "AND u.status < 3 AND u.status = -1",
    )
    with sqlite3.connect(database) as other:
        for question in questions:
            plan = other.execute(f"EXPLAIN QUERY PLAN {select} {question} {order}").fetchall()
            steps = [row[3] for row in plan]
            assert all(step.startswith("SEARCH") for step in steps), steps
            assert ("pydra_unit_not_complete" in steps[-1]) is ("status" in question)
    other.close()


def test_a_store_of_before_units_is_brought_up_to_date(reactor: PumpedReactor, database: Path) -> None:
    """What it holds stays, and its instances take units."""
    configure(database)
    reactor.wait(reactor.wait(DjangoStore.open(database, reactor, pytest.fail)).close())
    with thread_connection(database, read_only=False) as connection:
        MigrationExecutor(connection).migrate([("pydra_store", "0003_instance_options")])
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pydra_instance (id, task_key, package, version, args_size, args_inline, "
                "args_sha256, status, queued, priority, request_key, losses, needs, options, retried) "
                "VALUES (1, 'a.b.C', 'a', '00', 0, x'', '', 0, 1.0, 5, '', 0, x'', x'', 0)"
            )
            cursor.execute("SELECT COUNT(*) FROM sqlite_master WHERE name LIKE 'pydra_unit%%'")
            assert (0,) == cursor.fetchone()
        bring_up_to_date(connection)
    assert "default" in connections.settings

    store = reactor.wait(DjangoStore.open(database, reactor, pytest.fail))
    assert [1] == [instance.id for instance in reactor.wait(store.unfinished())]
    assert [Committed(True, ONE)] == reactor.wait(store.commit([record(range(20))]))
    assert 20 == len(places(reactor, store))
    reactor.wait(store.close())
