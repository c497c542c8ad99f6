# SPDX-License-Identifier: MIT
"""Uids for workers, leased by lock files, so that two launchers on one machine never share one."""

from __future__ import annotations

import fcntl
import os


class NoSlot(Exception):
    """All uids of the range are in use."""


class SlotLeases:
    """
    The uids that this launcher holds.

    A uid stays leased until the launcher ends, and is given to one sandbox after the other. The lock of a
    killed launcher is gone a moment before its sandboxes are, so a uid that still has processes is passed
    over.
    """

    def __init__(self, directory: str, first: int, last: int, processes: str = "/proc") -> None:
        self._directory = directory
        self._range = range(first, last + 1)
        self._processes = processes
        self._locks: dict[int, int] = {}
        self._free: list[int] = []

    def lease(self) -> int:
        """A uid that no process on this machine has; `NoSlot` if there is none."""
        if self._free:
            return self._free.pop()
        busy: set[int] | None = None
        for uid in self._range:
            if uid in self._locks or not self._lock(uid):
                continue
            if busy is None:
                busy = self._uids()
            if uid not in busy:
                return uid
            os.close(self._locks.pop(uid))
        raise NoSlot(f"No slot uid is free in {self._range.start}..{self._range.stop - 1}.")

    def release(self, uid: int) -> None:
        """No process has the uid any more."""
        self._free.append(uid)

    def close(self) -> None:
        """Give all uids back to the machine."""
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()
        self._free.clear()

    def _lock(self, uid: int) -> bool:
        path = os.path.join(self._directory, str(uid))
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._locks[uid] = lock
        return True

    def _uids(self) -> set[int]:
        """The uids of all processes, looked at after the lock was taken."""
        found: set[int] = set()
        with os.scandir(self._processes) as entries:
            for entry in entries:
                if entry.name.isdigit():
                    try:
                        found.add(entry.stat(follow_symlinks=False).st_uid)
                    except OSError:
                        continue  # it ended meanwhile
        return found
