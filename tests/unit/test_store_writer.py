# SPDX-License-Identifier: MIT
"""What the writing thread does with many commits, and what opens and closes a store."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from django.db import connections
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from pydra.cluster.store.lock import StoreLock
from pydra.cluster.store.settings import configure
from pydra.cluster.store.store import DjangoStore
from pydra.cluster.store.writer import GROUP_LIMIT, Call, Pending, groups
from pydra.errors import StoreError
from pydra.model.changes import Change, Committed, FinishInstance, InsertInstance, PutPackage, StartAttempt
from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Failure as TaskFailure
from pydra.model.status import Status
from tests.support.instances import WORKER, attempt, package_description, queued_instance
from tests.support.threads import PumpedReactor


@pytest.fixture
def reactor() -> PumpedReactor:
    """The test's own."""
    return PumpedReactor()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "deep" / "store.sqlite3"


@pytest.fixture
def store(reactor: PumpedReactor, database: Path) -> Iterator[DjangoStore]:
    """An empty, open store."""
    store = open_store(reactor, database)
    yield store
    reactor.wait(store.close())


def open_store(reactor: PumpedReactor, database: Path) -> DjangoStore:
    """A store whose disk does not fail."""
    return reactor.wait(DjangoStore.open(database, reactor, pytest.fail))


def call(rows: int) -> Call:
    """A call with so many changes."""
    return Call([InsertInstance(queued_instance(1))] * rows, Deferred())


def sizes(pending: Pending) -> list[list[int]]:
    """How many changes each call of each group has."""
    return [[len(call.changes) for call in group] for group in groups(pending)]


def test_a_group_is_whatever_is_pending() -> None:
    """One transaction takes all of it."""
    pending: Pending = Pending()
    for rows in (1, 5, 0, 2):
        pending.put(call(rows))
    pending.put(None)

    assert [[1, 5, 0, 2]] == sizes(pending)


def test_a_group_is_limited() -> None:
    """What goes above the limit is the next group; a call that is larger goes alone."""
    pending: Pending = Pending()
    for rows in (GROUP_LIMIT - 1, 1, 1, GROUP_LIMIT + 5, 3):
        pending.put(call(rows))
    pending.put(None)

    assert [[GROUP_LIMIT - 1, 1], [1], [GROUP_LIMIT + 5], [3]] == sizes(pending)


def test_a_group_does_not_wait_for_more() -> None:
    """A lone call is committed at once."""
    pending: Pending = Pending()
    taken = groups(pending)

    for rows in (1, 2):
        pending.put(call(rows))
        assert [rows] == [len(one.changes) for one in next(taken)]


def results(reactor: PumpedReactor, store: DjangoStore, commits: list[list[Change]]) -> list[object]:
    """Outcomes or error texts of commits that meet a locked database, so that they form groups."""
    with sqlite3.connect(store._writer._database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [Deferred.fromCoroutine(store.commit(changes)) for changes in commits]
        other.execute("ROLLBACK")
    other.close()
    answers = reactor.wait(DeferredList(waiting, consumeErrors=True))
    return [answer.getErrorMessage() if isinstance(answer, Failure) else answer for _, answer in answers]


def test_commits_at_a_time_share_transactions(reactor: PumpedReactor, store: DjangoStore) -> None:
    """However many are pending, the disk is synced for them together."""
    before = store.transactions

    outcomes = results(reactor, store, [[InsertInstance(queued_instance(n))] for n in range(1, 201)])

    assert [[Committed(True, InstanceId(n))] for n in range(1, 201)] == outcomes
    assert store.transactions - before <= 2


@pytest.mark.parametrize(
    "bad",
    [
        InsertInstance(queued_instance(1)),
        InsertInstance(queued_instance(50, priority=2**70)),
        InsertInstance(queued_instance(50, request_key="\ud800")),
        InsertInstance(queued_instance(50, queued=float("nan"))),
        InsertInstance(queued_instance(50, task_key=None)),
        InsertInstance(queued_instance(50, args=None)),
        FinishInstance(InstanceId(1), None, Status.PAUSED, 1.0),
        PutPackage(msgspec.structs.replace(package_description(), described=object())),
    ],
)
def test_a_commit_that_cannot_be_made_fails_alone(
    reactor: PumpedReactor, store: DjangoStore, bad: Change
) -> None:
    """Those that share its transaction are committed, and nothing of it is."""
    reactor.wait(store.commit([InsertInstance(queued_instance(1))]))

    first, second, third = results(
        reactor,
        store,
        [
            [InsertInstance(queued_instance(2))],
            [InsertInstance(queued_instance(3)), bad, InsertInstance(queued_instance(4))],
            [InsertInstance(queued_instance(5))],
        ],
    )

    assert [Committed(True, InstanceId(2))] == first
    assert isinstance(second, str)
    assert second.startswith("The store refused, nothing was changed: ")
    assert [Committed(True, InstanceId(5))] == third
    assert [1, 2, 5] == [instance.id for instance in reactor.wait(store.unfinished())]


def test_a_commit_sees_those_before_it_in_the_same_transaction(
    reactor: PumpedReactor, store: DjangoStore
) -> None:
    """Commits take effect in the order of the calls."""
    one = InstanceId(1)
    failure = TaskFailure("failed", "")

    outcomes = results(
        reactor,
        store,
        [
            [StartAttempt(one, attempt(1), NodeId(1), WORKER, 1.0)],
            [InsertInstance(queued_instance(1, request_key="k"))],
            [InsertInstance(queued_instance(2, request_key="k"))],
            [StartAttempt(one, attempt(2), NodeId(1), WORKER, 1.0)],
            [StartAttempt(one, attempt(3), NodeId(1), WORKER, 1.0)],
            [FinishInstance(one, attempt(2), Status.FAILED, 2.0, failure=failure)],
            [FinishInstance(one, attempt(2), Status.COMPLETE, 3.0)],
        ],
    )

    applied = [False, True, False, True, False, True, False]
    assert [[Committed(each, one)] for each in applied] == outcomes


def test_a_caller_may_give_up_waiting(reactor: PumpedReactor, store: DjangoStore) -> None:
    """The commit is made all the same."""
    waiting = Deferred.fromCoroutine(store.commit([InsertInstance(queued_instance(1))]))
    waiting.cancel()
    waiting.addErrback(lambda failure: failure.trap(CancelledError))

    reactor.wait(store.commit([]))
    assert [1] == [instance.id for instance in reactor.wait(store.unfinished())]


def test_a_reader_cannot_write(reactor: PumpedReactor, store: DjangoStore) -> None:
    """One thread changes the store, and no other; a query that fails leaves its thread alive."""

    def write() -> None:
        connections["default"].cursor().execute("DELETE FROM pydra_instance")

    for _ in range(5):
        with pytest.raises(StoreError, match="readonly"):
            reactor.wait(store._readers.ask(write))
    assert [] == reactor.wait(store.unfinished())


def test_what_is_answered_is_synced(reactor: PumpedReactor, store: DjangoStore) -> None:
    """The write-ahead log is synced with each commit."""

    def pragmas() -> tuple[object, ...]:
        with connections["default"].cursor() as cursor:
            return tuple(
                cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            )

    assert ("wal", 2) == reactor.wait(store._readers.ask(pragmas))


def test_the_epoch_rises_with_each_opening(reactor: PumpedReactor, database: Path) -> None:
    """No attempt of an earlier master can be repeated."""
    epochs = []
    for _ in range(3):
        store = open_store(reactor, database)
        epochs.append(store.epoch)
        reactor.wait(store.close())

    assert [1, 2, 3] == epochs


def test_a_second_opener_is_refused(reactor: PumpedReactor, store: DjangoStore, database: Path) -> None:
    """It is told the file and the process, and raises no epoch."""
    with pytest.raises(StoreError) as caught:
        open_store(reactor, database)

    assert f"{database}.lock is locked by process {os.getpid()}" in str(caught.value)
    reactor.wait(store.close())
    third = open_store(reactor, database)
    reactor.wait(third.close())
    assert 2 == third.epoch


def test_closing_leaves_one_file_and_no_thread(reactor: PumpedReactor, database: Path) -> None:
    """The write-ahead log is emptied into the database, the lock is free; a second close does nothing."""
    store = open_store(reactor, database)
    reactor.wait(store.commit([InsertInstance(queued_instance(1))]))
    reactor.wait(store.instance(InstanceId(1)))
    for _ in range(2):
        reactor.wait(store.close())

    names = sorted(path.name for path in database.parent.iterdir())
    assert ["store.sqlite3", "store.sqlite3.lock"] == names
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("pydra-store")]
    lock = StoreLock(database)
    lock.acquire()
    lock.release()


def test_closing_commits_and_answers_what_is_pending(reactor: PumpedReactor, database: Path) -> None:
    """Nobody waits for ever."""
    store = open_store(reactor, database)
    commits = [Deferred.fromCoroutine(store.commit([InsertInstance(queued_instance(n))])) for n in (1, 2)]
    question = Deferred.fromCoroutine(store.nodes())
    closing = Deferred.fromCoroutine(store.close())

    assert [[Committed(True, InstanceId(1))], [Committed(True, InstanceId(2))]] == [
        reactor.wait(commit) for commit in commits
    ]
    assert [] == reactor.wait(question)
    reactor.wait(closing)
    with pytest.raises(StoreError, match="closed"):
        reactor.wait(store.nodes())


def test_only_its_user_may_read_the_store(store: DjangoStore, database: Path) -> None:
    """Arguments and results are nobody else's business."""
    assert {0o600} == {path.stat().st_mode & 0o777 for path in database.parent.iterdir()}
    assert 0o700 == database.parent.stat().st_mode & 0o777


def test_a_file_that_is_no_store_is_refused_and_left_alone(reactor: PumpedReactor, tmp_path: Path) -> None:
    """The error names it."""
    file = tmp_path / "letter.txt"
    file.write_text("Dear reader, " * 100)

    with pytest.raises(StoreError, match=r"letter\.txt cannot be used: file is not a database"):
        open_store(reactor, file)
    assert file.read_text() == "Dear reader, " * 100


def test_a_directory_or_a_bad_place_is_refused(reactor: PumpedReactor, tmp_path: Path) -> None:
    """The error names it, and nothing stays locked."""
    (tmp_path / "file").write_text("")

    for place in (tmp_path, tmp_path / "file" / "store", Path("/proc/pydra/store")):
        with pytest.raises(StoreError, match=str(place.name)):
            open_store(reactor, place)
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("pydra-store")]


def test_the_lock_does_not_follow_a_link(reactor: PumpedReactor, tmp_path: Path) -> None:
    """Nobody can have another file emptied."""
    (tmp_path / "target").write_text("kept")
    (tmp_path / "s.lock").symlink_to("target")

    with pytest.raises(StoreError, match=r"s\.lock cannot be opened"):
        open_store(reactor, tmp_path / "s")
    assert (tmp_path / "target").read_text() == "kept"


def test_a_store_of_a_newer_pydra_is_refused(reactor: PumpedReactor, database: Path) -> None:
    """Its schema is not known here."""
    reactor.wait(open_store(reactor, database).close())
    with sqlite3.connect(database) as other:
        other.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, ?)",
            ("pydra_store", "9999_x", "2030-01-01"),
        )
    other.close()

    with pytest.raises(StoreError, match="newer Pydra \\(it has 9999_x\\)"):
        open_store(reactor, database)


def test_a_damaged_description_is_told_as_such(
    reactor: PumpedReactor, store: DjangoStore, database: Path
) -> None:
    """Not as an absent one, and not by a crash."""
    description = package_description()
    reactor.wait(store.commit([PutPackage(description)]))
    with sqlite3.connect(database) as other:
        other.execute("UPDATE pydra_package SET description = x'c1'")
    other.close()

    with pytest.raises(StoreError, match="PackageDescription that cannot be read"):
        reactor.wait(store.package(description.package, description.version))


def test_the_migrations_make_the_schema_of_the_models(database: Path) -> None:
    """A changed model has a migration, and every column says what it is."""
    configure(database)
    from django.apps import apps

    loader = MigrationLoader(None)
    detector = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps))

    assert {} == detector.changes(graph=loader.graph)
    fields = [f for model in apps.get_app_config("pydra_store").get_models() for f in model._meta.fields]
    assert [] == [field.name for field in fields if not field.help_text]
