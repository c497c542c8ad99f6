# SPDX-License-Identifier: MIT
"""The highest epoch of a master that this node has seen, over all its starts."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock

from pydra.cluster.interfaces import InThread
from pydra.errors import StoreError


class EpochFile:
    """
    Refuses masters of the past.

    The file is written when a master starts anew, not on the way of any work.
    """

    def __init__(self, path: Path, in_thread: InThread) -> None:
        self._path = path
        self._in_thread = in_thread
        self._highest = 0
        self._written = 0
        self._writing = DeferredLock()

    async def load(self) -> None:
        """Read it; once, before there can be a link. `StoreError` if there is a file that is none."""
        self._highest = self._written = await self._in_thread(_read, self._path)

    async def accept(self, epoch: int) -> bool:
        """True if no higher epoch was seen; it is on the disk before this returns. `OSError`."""
        self._highest = max(self._highest, epoch)
        if epoch > self._written:
            await self._writing.run(lambda: Deferred.fromCoroutine(self._write()))
        return epoch == self._highest

    async def _write(self) -> None:
        if (epoch := self._highest) > self._written:
            await self._in_thread(_replace, self._path, epoch)
            self._written = epoch


def _read(path: Path) -> int:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return 0
    if not text.isdigit() or len(text) > len(str(2**63)):
        raise StoreError(
            f"The file {path} does not tell the highest epoch of a master that this node obeyed. "
            "If no second master may be about, remove it."
        )
    return int(text)


def _replace(path: Path, epoch: int) -> None:
    """Another file, which a power cut does not take away."""
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(str(epoch))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
