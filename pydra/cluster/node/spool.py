# SPDX-License-Identifier: MIT
"""Large arguments and results on their way through the node: in files, not in memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.cluster.node.ahead import Ahead
from pydra.errors import StoreError

WAITING_LIMIT = 4 * 1024 * 1024
"""Bytes that wait to be written, above which no more is read of a worker."""

READ_SIZE = 2 * 1024 * 1024
"""Bytes that who reads behind takes at a time."""

_PREFIX = ".spool-"

_log = Logger()


class Spool:
    """
    Bytes that come in pieces, in a file of ``directory``; they may be read while they come.

    The file goes, in a thread, when nobody has this object any more, unless it was given a name of its own. A
    file that a crash left is removed with everything else in the directory that the journal does not know.
    """

    def __init__(self, directory: Path, in_thread: InThread) -> None:
        self._directory = directory
        self._in_thread = in_thread
        self._digest = hashlib.sha256()
        self._file: _File | None = None
        self.size = 0
        """Bytes that came; they are written soon."""
        self.ahead: Ahead | None = None
        """Its way to the master, if it goes there while it comes."""
        self._turn = DeferredLock()
        self._last = b""
        """What was written last."""
        self._written = 0
        self._has_ended = False
        self._fault: Exception | None = None
        self._waiting: list[Deferred[None]] = []

    async def write(self, data: bytes) -> None:
        """The next bytes, once those before are written. `OSError`."""
        self.size += len(data)
        await self._turn.acquire()
        try:
            await self._in_thread(self._write, data)
        finally:
            self._turn.release()
        self._last = data
        self._written += len(data)
        self._tell()

    def end(self, fault: Exception | None = None) -> None:
        """Nothing more comes: that was all, or it is good for nothing; what is told first counts."""
        if not self._has_ended:
            self._has_ended, self._fault = True, fault
            self._last = b""
            self._tell()

    async def chunks(self) -> AsyncIterator[bytes]:
        """
        All bytes, as they come. `OSError`.

        Nobody may act on them before the end: it is known only then whether they are good. The fault is
        raised if they are not.
        """
        start = 0
        while await self._has_more(start):
            if start == self._written - len(self._last):
                piece = self._last
            elif not (piece := await self.read(start, min(READ_SIZE, self._written - start))):
                raise OSError("The file is shorter than it was.")
            start += len(piece)
            yield piece

    async def _has_more(self, start: int) -> bool:
        """Whether there are bytes from a position on, when that is known."""
        while self._fault is None and self._written <= start:
            if self._has_ended:
                return False
            told: Deferred[None] = Deferred()
            self._waiting.append(told)
            await told
        if self._fault is not None:
            raise self._fault
        return True

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def read(self, start: int, size: int) -> bytes:
        """Up to so many bytes from a position on. `OSError`."""
        data: bytes = await self._in_thread(self._read, start, size)
        return data

    @property
    def digest(self) -> str:
        """The SHA-256 (hex) of what was written."""
        return self._digest.hexdigest()

    @property
    def is_named(self) -> bool:
        """The file has a name of its own."""
        return self._file is not None and not self._file.path

    def give_name(self, path: Path, sync: bool) -> None:
        """In a thread: let the file be this one, whatever becomes of the spool. `OSError`."""
        file = self._opened()
        if sync:
            os.fsync(file.descriptor)
        if file.path:
            os.replace(file.path, path)
            file.path = ""

    def _write(self, data: bytes) -> None:
        descriptor = self._opened().descriptor
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def _read(self, start: int, size: int) -> bytes:
        return os.pread(self._opened().descriptor, size, start)

    def _opened(self) -> _File:
        if self._file is None:
            descriptor, path = tempfile.mkstemp(prefix=_PREFIX, dir=self._directory)
            self._file = _File(descriptor, path)
            removal = weakref.finalize(self, _remove_later, self._in_thread, self._file)
            removal.atexit = False
        return self._file


class _File:
    """An open file; ``path`` is empty if it has a name that is not the spool's."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    def remove(self) -> None:
        os.close(self.descriptor)
        if self.path:
            os.unlink(self.path)


def _remove_later(in_thread: InThread, file: _File) -> None:
    async def remove() -> None:
        await in_thread(file.remove)

    removed = Deferred.fromCoroutine(remove())
    removed.addErrback(lambda fault: _log.failure("A spool was not cleared away", fault))


class SpooledAnswer:
    """
    An answer of a worker that is too long for memory, into a spool as it comes.

    ``pause`` is told to read no more of the worker, and to go on; ``failed`` is called at most once, with an
    `OSError` of the disk or with what else went wrong, and then nothing more is written.
    """

    def __init__(
        self, spool: Spool, pause: Callable[[bool], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._spool = spool
        self._pause = pause
        self._failed = failed
        self.size = 0
        """Bytes that came."""
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._is_paused = False
        self._is_writing = False
        self._is_over = False
        self._whole: Callable[[Spool], None] | None = None

    def add(self, part: bytes) -> None:
        """The next part."""
        self.size += len(part)
        if self._is_over:
            return
        self._waiting.append(part)
        self._waiting_size += len(part)
        self._balance()
        self._go_on()

    def finish(self, whole: Callable[[Spool], None]) -> None:
        """That was all; ``whole`` is called when it is written."""
        self._whole = whole
        self._go_on()

    def abandon(self) -> None:
        """Nobody wants it any more, or it is written."""
        self._is_over = True
        self._spool.end(StoreError("The result does not come."))
        self._waiting, self._waiting_size = [], 0
        self._balance()

    def _balance(self) -> None:
        is_much = self._waiting_size > WAITING_LIMIT
        if is_much is not self._is_paused:
            self._is_paused = is_much
            self._pause(is_much)

    def _go_on(self) -> None:
        if not self._is_writing and not self._is_over:
            self._is_writing = True
            written = Deferred.fromCoroutine(self._write())
            written.addErrback(self._fault)

    async def _write(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            self._waiting_size = 0
            self._balance()
            await self._spool.write(b"".join(waiting))
        self._is_writing = False
        if self._whole is not None and not self._is_over:
            self._is_over = True
            self._spool.end()
            self._whole(self._spool)

    def _fault(self, fault: object) -> None:
        cause = getattr(fault, "value", None)
        if not isinstance(cause, OSError):
            _log.error("An answer of a worker could not be written: {fault}", fault=fault)
        if not self._is_over:
            self.abandon()
            self._failed(cause if isinstance(cause, BaseException) else OSError("unknown"))
