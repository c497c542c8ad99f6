# SPDX-License-Identifier: MIT
"""
The one thread that changes the store.

It commits whatever is pending as soon as it is free, as one transaction: a lone commit waits for nobody, and
many at a time share one sync of the disk. Each call is atomic of itself: if the changes of one cannot be
made, that one fails and the others are committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from django.db import DatabaseError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from pydra.cluster.store.changes import Cursor, apply_changes
from pydra.cluster.store.database import (
    bring_up_to_date,
    checkpoint,
    explained,
    fatal_reason,
    raise_epoch,
    refusal,
    roll_back,
    thread_connection,
)
from pydra.cluster.store.lock import StoreLock
from pydra.cluster.store.threads import Answer, FromThreads, deliver
from pydra.cluster.store.unit_changes import UnitChanges, weight
from pydra.errors import StoreError, Unstorable
from pydra.model.changes import Change, Committed

GROUP_LIMIT = 10_000
"""
Rows that one transaction takes at most, KiB of units counted as rows: what comes later waits for them. A
single call that is larger goes alone.
"""


class Call(NamedTuple):
    """Changes that are committed all or none, and who waits for the outcomes."""

    changes: Sequence[Change]
    waiting: Deferred[list[Committed]]


Pending = SimpleQueue[Call | None]
"""Calls in their order; None is the end."""


class Writer:
    """
    The writing thread of a store.

    ``on_fatal`` is called once, in the reactor, if the disk failed: nothing is committed any more, and what
    was not answered may or may not be stored.
    """

    _log = Logger()

    def __init__(self, database: Path, reactor: FromThreads, on_fatal: Callable[[str], None]) -> None:
        self._database = database
        self._reactor = reactor
        self._on_fatal = on_fatal
        self._pending: Pending = SimpleQueue()
        self._opened: Deferred[int] = Deferred()
        self._closed: Deferred[None] = Deferred()
        self._accepting = True
        self._fatal: str | None = None
        # The end of the process does not wait for it: what was answered is on the disk.
        self._thread = threading.Thread(target=self._run, name="pydra-store-writer", daemon=True)
        self.transactions = 0
        """Transactions that were committed."""

    def start(self) -> Deferred[int]:
        """Open the store; the epoch, or `StoreError`."""
        self._thread.start()
        return self._opened

    def submit(self, changes: Sequence[Change]) -> Deferred[list[Committed]]:
        """Commit the changes after those that were submitted before; their outcomes, or `StoreError`."""
        waiting: Deferred[list[Committed]] = Deferred()
        if not self._accepting:
            waiting.errback(StoreError("The store is closed; nothing was changed."))
        else:
            self._pending.put(Call(tuple(changes), waiting))
        return waiting

    async def stop(self) -> None:
        """Commit what is pending, empty the write-ahead log, release the lock, end the thread."""
        if self._accepting:
            self._accepting = False
            self._pending.put(None)
        if self._thread.ident is not None:
            await self._closed
            self._closed = succeed(None)
            self._thread.join()

    def _run(self) -> None:
        """The thread, from the lock to its release."""
        lock = StoreLock(self._database)
        try:
            with explained(self._database):
                self._database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.acquire()
            with thread_connection(self._database, read_only=False) as connection:
                with explained(self._database):
                    bring_up_to_date(connection)
                    epoch = raise_epoch(connection)
                self._answer([(self._opened, epoch)])
                self._serve(connection)
                if self._fatal is None:
                    # Not done on a full disk, say; then the next one to open the store does it.
                    with suppress(DatabaseError):
                        checkpoint(connection)
        # The edge of the thread: whatever it was, the one who opens hears it and nobody waits for ever.
        except Exception as error:  # noqa: BLE001
            self._reactor.callFromThread(self._failed, error)
        finally:
            lock.release()
            self._answer([(self._closed, None)])

    def _failed(self, error: Exception) -> None:
        """The thread has ended by this error; in the reactor."""
        self._accepting = False
        told = error if isinstance(error, StoreError) else StoreError(f"The store failed: {error!r}.")
        if not self._opened.called:
            self._opened.errback(told)
        elif self._fatal is None:
            self._fatal = str(told)
            self._on_fatal(self._fatal)
        with suppress(Empty):
            while True:
                call = self._pending.get_nowait()
                if call is not None:
                    call.waiting.errback(told)

    def _serve(self, connection: BaseDatabaseWrapper) -> None:
        """Commit group after group until the end is pending."""
        with connection.cursor() as cursor:
            units = UnitChanges(connection)
            for calls in groups(self._pending):
                self._answer(self._commit(connection, cursor, units, calls))

    def _answer(self, answers: Sequence[Answer]) -> None:
        self._reactor.callFromThread(deliver, answers)

    def _commit(
        self, connection: BaseDatabaseWrapper, cursor: Cursor, units: UnitChanges, calls: Sequence[Call]
    ) -> list[Answer]:
        """One transaction for all calls, and what each is told."""
        if self._fatal is not None:
            refused = StoreError(f"The store is stopped, nothing was changed: {self._fatal}.")
            return [(call.waiting, refused) for call in calls]
        try:
            try:
                return self._transaction(connection, cursor, units, calls, apply_together)
            except OperationalError:
                raise
            # One of the calls cannot be carried out, by whatever it holds: find out which.
            except Exception as error:  # noqa: BLE001
                self._reactor.callFromThread(self._log_refusal, error, len(calls))
                return self._transaction(connection, cursor, units, calls, apply_apart)
        # The edge of the group: the database is full, locked or broken, or this is a fault of ours. Nothing
        # was committed, and the thread lives on.
        except Exception as error:  # noqa: BLE001
            if (reason := fatal_reason(error)) is not None:
                self._fatal = reason
                self._reactor.callFromThread(self._on_fatal, reason)
            self._reactor.callFromThread(self._log_refusal, error, len(calls))
            refused = refusal(error)
            return [(call.waiting, refused) for call in calls]

    def _log_refusal(self, error: Exception, calls: int) -> None:
        """Tell the operator; in the reactor, where the log is."""
        self._log.error(
            "Of {calls} commits at a time some or all were refused: {kind}: {error}",
            calls=calls,
            kind=type(error).__name__,
            error=str(error),  # the log may keep what it is given, and with a traceback a connection
        )

    def _transaction(
        self,
        connection: BaseDatabaseWrapper,
        cursor: Cursor,
        units: UnitChanges,
        calls: Sequence[Call],
        apply: Callable[[Cursor, UnitChanges, Sequence[Call]], list[Answer]],
    ) -> list[Answer]:
        try:
            cursor.execute("BEGIN IMMEDIATE")
            answers = apply(cursor, units, calls)
            cursor.execute("COMMIT")
        except BaseException:
            units.rolled_back()
            roll_back(connection)
            raise
        units.committed()
        self.transactions += 1
        return answers


def groups(pending: Pending) -> Iterator[list[Call]]:
    """
    What one transaction takes: one call, waited for, and all that are pending then, up to the limit.

    The end is reached when all calls before it have been in a group.
    """
    call = pending.get()
    while call is not None:
        group, rows = [call], _weight(call)
        while True:
            try:
                call = pending.get_nowait()
            except Empty:
                yield group
                call = pending.get()
                break
            if call is None or rows + (more := _weight(call)) > GROUP_LIMIT:
                yield group
                break
            group.append(call)
            rows += more


def _weight(call: Call) -> int:
    try:
        return sum(map(weight, call.changes))
    except TypeError:
        # Something that has no length: whoever made it is told when it cannot be carried out.
        return len(call.changes)


def apply_together(cursor: Cursor, units: UnitChanges, calls: Sequence[Call]) -> list[Answer]:
    """Make the changes of all calls as if they were of one; raises if any of them cannot be made."""
    outcomes = iter(apply_changes(cursor, units, [change for call in calls for change in call.changes]))
    return [(call.waiting, [next(outcomes) for _ in call.changes]) for call in calls]


def apply_apart(cursor: Cursor, units: UnitChanges, calls: Sequence[Call]) -> list[Answer]:
    """Make the changes of each call, or none of that call."""
    answers: list[Answer] = []
    for call in calls:
        cursor.execute("SAVEPOINT pydra_call")
        try:
            answers.append((call.waiting, apply_changes(cursor, units, call.changes)))
        except OperationalError:
            raise
        # What cannot be bound or breaks a constraint: a fault of this caller, who is told.
        except Exception as error:  # noqa: BLE001
            cursor.execute("ROLLBACK TO SAVEPOINT pydra_call")
            units.rolled_back()
            answers.append((call.waiting, Unstorable(str(refusal(error)))))
        cursor.execute("RELEASE SAVEPOINT pydra_call")
    return answers
