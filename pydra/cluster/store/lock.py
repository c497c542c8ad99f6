# SPDX-License-Identifier: MIT
"""The lock that keeps a second master away from a store."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pydra.errors import StoreError


class StoreLock:
    """
    An exclusive lock on a file beside the database.

    The kernel releases it when the process ends, however it ends. The file stays: removing it would let two
    masters lock two files of the same name.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}.lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; `StoreError` if another process, or another store of this one, has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise StoreError(f"The lock file {self.path} cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreError(
                f"Another master uses this store: {self.path} is locked by process {holder or 'unknown'}. "
                "Stop that master, or give this one a DATABASE of its own."
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"The lock file {self.path} cannot be used: {error.strerror}.") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
