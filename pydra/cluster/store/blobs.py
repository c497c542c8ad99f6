# SPDX-License-Identifier: MIT
"""
Payloads that are too large for a row, as files named by the SHA-256 of their bytes.

A file appears under its name only when it is whole and on the disk. Everything here blocks: it is called in
threads. One daemon owns a directory.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydra.errors import StoreError

CHUNK = 256 * 1024
"""Bytes that ``chunks`` reads at a time."""

PIECE = 1024 * 1024
"""Bytes that a ``BlobReader`` gives at a time."""

WRITTEN_TOGETHER = 8 * 1024 * 1024
"""Bytes of a blob that the system begins to write to the disk while more come: the end waits for less."""

_SYNC_FILE_RANGE_WRITE = 2
_NAME = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"


class Blobs:
    """The blobs of one directory, which is made when the first is written."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, sha256: str) -> Path:
        """Where the blob of this name is or would be; `StoreError` if that is no name of a blob."""
        if not _NAME.fullmatch(sha256):
            raise StoreError("A blob is named by 64 hexadecimal digits.")
        return self._root / sha256

    def put(self, data: bytes) -> str:
        """Keep these bytes; their SHA-256 (hex). They are on the disk when this returns."""
        writer = self.writer()
        try:
            writer.write(data)
            return writer.finish()
        finally:
            writer.abort()

    def writer(self) -> BlobWriter:
        """A blob that comes in pieces."""
        return BlobWriter(self)

    def read(self, sha256: str) -> bytes:
        """All bytes of a blob; `StoreError` if it is missing or its bytes are not those it was named for."""
        return b"".join(self.chunks(sha256))

    def reader(self, sha256: str, *, checked: bool = True) -> BlobReader:
        """A blob that is read in pieces, by threads in turn; not ``checked`` if who gets them does that."""
        return BlobReader(self.path(sha256), sha256, checked=checked)

    def chunks(self, sha256: str) -> Iterator[bytes]:
        """
        The bytes of a blob in pieces.

        `StoreError` if it is missing or cannot be read, or after the last piece if the bytes are not those it
        was named for.
        """
        digest = hashlib.sha256()
        try:
            with self.path(sha256).open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    yield chunk
        except FileNotFoundError as error:
            raise StoreError(f"The blob {sha256} is missing.") from error
        except OSError as error:
            raise StoreError(f"The blob {sha256} cannot be read: {error.strerror}.") from error
        if digest.hexdigest() != sha256:
            raise StoreError(f"The blob {sha256} is damaged.")

    def remove(self, sha256: str) -> None:
        """The blob is not here any more, if it ever was."""
        self.path(sha256).unlink(missing_ok=True)

    def sweep(self, wanted: Container[str]) -> int:
        """
        Remove what nobody wants, and tell how many.

        That is what writers of an earlier process left unfinished, and every blob that is not among the names
        ``wanted``: results of instances that were cancelled meanwhile, or that came twice. Done at start.
        """
        left = list(self._root.glob(f"{_UNFINISHED}*"))
        left += [path for path in self._root.glob("[0-9a-f]" * 64) if path.name not in wanted]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _open(self) -> tuple[int, Path]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._root)
        return descriptor, Path(name)

    def _keep(self, unfinished: Path, sha256: str) -> None:
        """Give a file that is on the disk its name."""
        unfinished.rename(self.path(sha256))
        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class BlobReader:
    """One blob that is being read; ``close`` may be called at any time, from anywhere."""

    def __init__(self, path: Path, sha256: str, *, checked: bool = True) -> None:
        self._checked = checked
        self._path = path
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._is_closed = False
        self._reading = threading.Lock()

    def read(self) -> bytes:
        """
        The next piece; nothing after the last.

        `StoreError` as of ``chunks``: in the place of the end, if the bytes are not those of its name.
        """
        try:
            with self._reading:
                piece = self._read()
        except FileNotFoundError as error:
            raise StoreError(f"The blob {self._sha256} is missing.") from error
        except OSError as error:
            raise StoreError(f"The blob {self._sha256} cannot be read: {error.strerror}.") from error
        finally:
            if self._is_closed:
                self._close_file()
        if self._checked and not piece and not self._is_closed and self._digest.hexdigest() != self._sha256:
            raise StoreError(f"The blob {self._sha256} is damaged.")
        return piece

    def close(self) -> None:
        """Read no more; a read that is under way closes the file at its end."""
        self._is_closed = True
        # Not under a read: its descriptor might be another file's before it reads.
        if self._reading.acquire(blocking=False):
            self._close_file()
            self._reading.release()

    def _read(self) -> bytes:
        if self._is_closed:
            return b""
        if self._file is None:
            self._file = self._path.open("rb", buffering=0)
        piece = self._file.read(PIECE)
        if self._checked:
            self._digest.update(piece)
        return piece

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()


class BlobWriter:
    """One blob that is being written; ended by ``finish`` or ``abort``, whichever is first."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._digest = hashlib.sha256()
        self.size = 0
        """Bytes so far."""
        self._begun = 0
        """Bytes that are on their way to the disk."""
        with _told():
            self._descriptor, self._path = blobs._open()
        self._ended = False

    @property
    def sha256(self) -> str:
        """The name of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Add bytes; `StoreError` if the disk does not take them, and then the blob is aborted."""
        if self._ended:
            raise StoreError("This blob is not being written any more.")
        rest = memoryview(data)
        try:
            with _told():
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except StoreError:
            self.abort()
            raise
        self._digest.update(data)
        self.size += len(data)
        if self.size - self._begun >= WRITTEN_TOGETHER:
            begin_writing(self._descriptor, self._begun, self.size - self._begun)
            self._begun = self.size

    def finish(self, expected: str | None = None) -> str:
        """
        Keep the blob and tell its name; it is on the disk when this returns.

        `StoreError` if the bytes are not those of the expected name; then nothing is kept.
        """
        if self._ended:
            raise StoreError("This blob is not being written any more.")
        sha256 = self._digest.hexdigest()
        try:
            if expected is not None and expected != sha256:
                raise StoreError("The bytes that came are not those of the blob that was announced.")
            with _told():
                os.fsync(self._descriptor)
                self._blobs._keep(self._path, sha256)
        finally:
            self.abort()
        return sha256

    def abort(self) -> None:
        """Keep nothing; after the end this does nothing."""
        if not self._ended:
            self._ended = True
            os.close(self._descriptor)
            self._path.unlink(missing_ok=True)


def begin_writing(descriptor: int, start: int, size: int) -> None:
    """Have the system write these bytes of a file to the disk from now on; it promises nothing."""
    begin = _sync_file_range()
    if begin is not None:
        begin(descriptor, ctypes.c_int64(start), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[..., int] | None:
    """What Python has no name for, nor every system."""
    return getattr(ctypes.CDLL(None), "sync_file_range", None)


@contextmanager
def _told() -> Iterator[None]:
    """An error of the system is told as a `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"A blob cannot be written: {error.strerror}.") from error
