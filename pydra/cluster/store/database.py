# SPDX-License-Identifier: MIT
"""Connections of the store's threads: opened, brought to the present schema, closed; what errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from pydra.cluster.store.settings import database_settings
from pydra.errors import StoreError, StoreFull

LABEL = "pydra_store"

MARK = "?"
"""What stands for a value in the text of a statement that goes to the driver as it is."""

SWITCH_S = 0.001
"""
Seconds after which the reactor's thread gives the interpreter away if a thread of the store wants it: each
statement needs it again, and by Python's default of five milliseconds a busy reactor would starve the writer.
"""

DirectCursor = sqlite3.Cursor
"""A cursor of the driver's own."""

# Such an error says that the disk or the file is bad: what was written before may be gone too.
_FATAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# This one only says that a full disk had no room for the index of the journal.
_NOT_FATAL = sqlite3.SQLITE_IOERR_SHMSIZE
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


@contextmanager
def thread_connection(database: Path, read_only: bool) -> Iterator[BaseDatabaseWrapper]:
    """
    The default database of Django in this thread, and in no other, is the store in this file.

    `StoreError` if it cannot be opened.
    """
    settings = {**connections["default"].settings_dict, **database_settings(database)}
    connection = DatabaseWrapper(settings, "default")
    connections["default"] = connection
    try:
        with explained(database):
            if not read_only:
                _create(database)
            with connection.cursor() as cursor:
                # Not as an init_command of Django's, which leaves the connection open if that fails.
                cursor.execute("PRAGMA journal_mode = WAL")
                if cursor.fetchone() != ("wal",):
                    raise StoreError(
                        f"{database} is not on a local disk: SQLite has no write-ahead log there."
                    )
                # What was answered is on the disk.
                cursor.execute("PRAGMA synchronous = FULL")
                # The journals of savepoints, which hold for a moment, need no file.
                cursor.execute("PRAGMA temp_store = MEMORY")
                if read_only:
                    cursor.execute("PRAGMA query_only = ON")
        yield connection
    finally:
        connection.close()
        del connections["default"]


def direct_cursor(connection: BaseDatabaseWrapper) -> DirectCursor:
    """
    A cursor without Django's, which rewrites each text; it raises the errors of the driver.

    They become Django's inside ``connection.wrap_database_errors``.
    """
    raw = connection.connection
    assert isinstance(raw, sqlite3.Connection)
    return raw.cursor()


def _create(database: Path) -> None:
    """The file exists, and if it is new, only its user may read it."""
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextmanager
def explained(database: Path) -> Iterator[None]:
    """Errors of the database and of the system become a `StoreError` that names the file."""
    try:
        yield
    except (DatabaseError, OSError) as error:
        raise StoreError(f"The store {database} cannot be used: {error}.") from error


def bring_up_to_date(connection: BaseDatabaseWrapper) -> None:
    """Apply the missing migrations; `StoreError` if the store was made by a newer Pydra."""
    executor = MigrationExecutor(connection)
    loader = executor.loader
    newer = sorted(
        name
        for app, name in loader.applied_migrations
        if app == LABEL and (app, name) not in loader.disk_migrations
    )
    if newer:
        raise StoreError(f"The store was made by a newer Pydra (it has {newer[-1]}); start that one.")
    executor.migrate(loader.graph.leaf_nodes(LABEL))


def raise_epoch(connection: BaseDatabaseWrapper) -> int:
    """Raise the stored epoch by one and tell it; it is on the disk when this returns."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute(
            "INSERT INTO pydra_store_state (id, epoch) VALUES (1, 1) "
            "ON CONFLICT (id) DO UPDATE SET epoch = pydra_store_state.epoch + 1"
        )
        cursor.execute("SELECT epoch FROM pydra_store_state WHERE id = 1")
        (epoch,) = cursor.fetchone()
        cursor.execute("COMMIT")
    return int(epoch)


def roll_back(connection: BaseDatabaseWrapper) -> None:
    """No transaction is open; SQLite ends one by itself after some errors."""
    raw = connection.connection
    if raw is not None and raw.in_transaction:
        raw.rollback()


def checkpoint(connection: BaseDatabaseWrapper) -> None:
    """The write-ahead log is empty, everything is in the database's own file."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fatal_reason(error: BaseException) -> str | None:
    """Why no further commit may be tried, or None if the store can go on after this error."""
    code = _code(error)
    if code is None or code == _NOT_FATAL or code & 0xFF not in _FATAL:
        return None
    return f"the store's disk or file is bad: {error}"


def refusal(error: BaseException) -> StoreError:
    """What the one is told whose changes were not made"""
    if _code(error) in _FULL:
        return StoreFull()
    return StoreError(f"The store refused, nothing was changed: {error}.")


def _code(error: BaseException) -> int | None:
    """SQLite's extended error code behind an error of Django's."""
    code = getattr(error.__cause__ or error, "sqlite_errorcode", None)
    return code if isinstance(code, int) else None
