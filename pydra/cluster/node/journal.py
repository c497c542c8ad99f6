# SPDX-License-Identifier: MIT
"""
A file that only grows: records, each whole or not there, and blobs as files beside it. All of it blocks.

A record is four bytes of length, four of CRC-32 (both big-endian) and its bytes. What is read back are the
records up to the first that is not whole: of a file that was cut off anywhere, those that came first.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pydra.cluster.node.spool import Spool

RECORD_LIMIT = 4 * 1024 * 1024
"""Bytes of a record; a longer announcement is none."""

HEAD_SIZE = 8
"""Bytes before a record."""

_FILE, _NEW = "journal", "journal.new"
_BLOB = re.compile(r"[0-9a-f]{64}")


class Journal:
    """The journal in a directory of its own; one thread at a time may use it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file: int | None = None
        self.size = 0
        """Bytes of whole records in the file."""

    def open(self) -> list[bytes]:
        """Make the directory if it is not there, and read all records. `OSError`."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / _NEW).unlink(missing_ok=True)
        self._file = self._opened(_FILE)
        with open(self._file, "rb", closefd=False) as file:
            records, self.size = records_in(file)
        os.ftruncate(self._file, self.size)
        return records

    def append(self, records: Sequence[bytes], sync: bool) -> None:
        """
        Write records after those that are there. `OSError`.

        Afterwards they outlive this process, and with ``sync`` the machine.
        """
        if self._file is None:
            raise OSError("The journal is not open.")
        data = framed(records)
        try:
            _write(self._file, data, self.size)
            if sync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """All that was written outlives the machine. `OSError`."""
        if self._file is not None:
            os.fsync(self._file)

    def rewrite(self, records: Sequence[bytes], sync: bool) -> None:
        """Have these records and no others: a crash leaves either all that was there, or these. `OSError`."""
        (self.directory / _NEW).unlink(missing_ok=True)
        file = self._opened(_NEW)
        try:
            data = framed(records)
            _write(file, data, 0)
            if sync:
                os.fsync(file)
            (self.directory / _NEW).replace(self.directory / _FILE)
        except BaseException:
            os.close(file)
            raise
        self.close()
        self._file, self.size = file, len(data)
        if sync:
            self._sync_directory()

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # Blobs.

    def write_blob(self, digest: str, data: bytes, sync: bool) -> None:
        """Keep a blob under its digest. `OSError`."""
        path = self.directory / digest
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write(file, data, 0)
            if sync:
                os.fsync(file)
        finally:
            os.close(file)
        if sync:
            self._sync_directory()

    def name_blob(self, digest: str, spool: Spool, sync: bool) -> None:
        """Keep what was spooled under its digest; doing it again changes nothing. `OSError`."""
        spool.give_name(self.directory / digest, sync)
        if sync:
            self._sync_directory()

    def read_blob(self, digest: str, start: int, size: int) -> bytes:
        """Up to so many bytes of a blob, from a position on. `OSError`."""
        file = os.open(self.directory / digest, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(file, size, start)
        finally:
            os.close(file)

    def remove_blob(self, digest: str) -> None:
        """It is not needed any more. `OSError`."""
        (self.directory / digest).unlink(missing_ok=True)

    def blobs(self) -> dict[str, int]:
        """Bytes of each blob that is what its name says; everything else in the directory is removed."""
        found: dict[str, int] = {}
        for path in self.directory.iterdir():
            if path.name in (_FILE, _NEW):
                continue
            if _BLOB.fullmatch(path.name) and _digest(path) == path.name:
                found[path.name] = path.stat().st_size
            else:
                path.unlink()
        return found

    def _opened(self, name: str) -> int:
        return os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def framed(records: Sequence[bytes]) -> bytes:
    """Records as they stand in the file."""
    pieces: list[bytes] = []
    for record in records:
        pieces.append(len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big"))
        pieces.append(record)
    return b"".join(pieces)


def records_in(file: BinaryIO) -> tuple[list[bytes], int]:
    """The whole records at the begin of a file, and the position after them."""
    records: list[bytes] = []
    at = 0
    while len(head := file.read(HEAD_SIZE)) == HEAD_SIZE:
        size = int.from_bytes(head[:4], "big")
        record = file.read(size) if 0 < size <= RECORD_LIMIT else b""
        if len(record) != size or zlib.crc32(record) != int.from_bytes(head[4:], "big") or not record:
            break
        records.append(record)
        at += HEAD_SIZE + size
    return records, at


def _write(file: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        position += written
        view = view[written:]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
