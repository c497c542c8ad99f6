# SPDX-License-Identifier: MIT
"""
A package version as one stream: a mark, the length and the MessagePack of the list of files, then their
bytes.

It is no tar: it can hold regular files and nothing else. The receiver checks every name and size before
it writes, and the version of all before it keeps anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pydra.cluster.packages.content import (
    CHUNK_SIZE,
    FILES_LIMIT,
    SIZE_LIMIT,
    PackageFile,
    VersionDigest,
    find_files,
    path_problem,
    read_file,
)
from pydra.cluster.packages.repository import VersionWriter, version_path
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName, PackageVersion

MARK = b"pydra-package-1\n"

LIST_LIMIT = 16 * 1024 * 1024
"""Bytes of the list of files."""

_HEADER = len(MARK) + 4


def pack(directory: Path) -> Iterator[bytes]:
    """The stream of the package in ``directory``, in large pieces; raises as ``read_content`` on the way."""
    states = find_files(directory)
    listed = msgspec.msgpack.encode([state.file for state in states])
    held = bytearray(MARK + len(listed).to_bytes(4, "big") + listed)
    for state in states:
        for data in read_file(directory, state):
            held += data
            if len(held) >= CHUNK_SIZE:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)


class Unpacker:
    """
    Takes the stream of one package version and puts it below ``root``; without ``version`` any is taken.

    `PackageRefused` from any method means that nothing was and nothing will be kept; then, and to give
    up, call ``abort``.
    """

    def __init__(self, root: Path, package: PackageName, version: PackageVersion | None) -> None:
        version_path(root, package, version or PackageVersion("0" * 64))
        self._version = version
        self._head = bytearray()
        self._files: tuple[PackageFile, ...] | None = None
        self._index = 0
        self._left = 0
        self._digest = VersionDigest()
        self._writer = VersionWriter(root, package)

    def write(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._files is None:
            data = self._take_head(data)
        rest = memoryview(data)
        while rest:
            if self._files is None or self._index >= len(self._files):
                raise PackageRefused("Bytes follow the last file of the package.")
            piece = bytes(rest[: self._left])
            rest = rest[len(piece) :]
            self._digest.update(piece)
            self._writer.write(self._files[self._index], piece)
            self._left -= len(piece)
            if not self._left:
                self._index += 1
                self._begin()

    def finish(self) -> Path:
        """All bytes are here: verify the version and move it to its place, which is returned."""
        if self._files is None or self._index < len(self._files):
            raise PackageRefused("The stream ended before the last file of the package.")
        version = self._digest.version()
        if version != (self._version or version):
            raise PackageRefused(
                f"The package that came is version {version[:12]}, not {(self._version or '')[:12]}."
            )
        place = self._writer.keep(version)
        self._writer.abort()
        return place

    def abort(self) -> None:
        """Remove what was written; after ``finish`` this changes nothing."""
        self._writer.abort()

    def _take_head(self, data: bytes) -> bytes:
        """Collect the list of files; what follows it is returned."""
        self._head += data
        if not MARK.startswith(self._head[: len(MARK)]):
            raise PackageRefused("This is no stream of a package.")
        if len(self._head) < _HEADER:
            return b""
        size = int.from_bytes(self._head[len(MARK) : _HEADER], "big")
        if size > LIST_LIMIT:
            raise PackageRefused(f"The list of files has {size} bytes; the limit is {LIST_LIMIT}.")
        if len(self._head) < _HEADER + size:
            return b""
        self._files = _checked(bytes(self._head[_HEADER : _HEADER + size]))
        rest = bytes(self._head[_HEADER + size :])
        self._head.clear()
        self._begin()
        return rest

    def _begin(self) -> None:
        """Begin the next file; empty ones are done at once."""
        assert self._files is not None
        while self._index < len(self._files):
            file = self._files[self._index]
            self._digest.begin(file)
            self._left = file.size
            if file.size:
                return
            self._writer.write(file, b"")
            self._index += 1


def _checked(data: bytes) -> tuple[PackageFile, ...]:
    """The list of files; `PackageRefused` if it is not what `pack` makes of a package."""
    try:
        files = msgspec.msgpack.decode(data, type=tuple[PackageFile, ...])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise PackageRefused("The list of files of a package cannot be read.") from None
    if len(files) > FILES_LIMIT:
        raise PackageRefused(f"The package has more than {FILES_LIMIT:,} files.")
    if any(file.size < 0 for file in files) or sum(file.size for file in files) > SIZE_LIMIT:
        raise PackageRefused(f"The package has more than {SIZE_LIMIT // 2**20} MiB.")
    if [file.path for file in files] != sorted({file.path for file in files}):
        raise PackageRefused("The list of files of a package is not in order.")
    names: dict[str, str] = {}
    paths = {file.path for file in files}
    for file in files:
        problem = path_problem(file.path)
        if problem is not None:
            raise PackageRefused(problem)
        parts = file.path.split("/")
        for end in range(1, len(parts) + 1):
            prefix = "/".join(parts[:end])
            if end < len(parts) and prefix in paths:
                raise PackageRefused(f"{prefix!r} is a file and a directory.")
            if names.setdefault(prefix.casefold(), prefix) != prefix:
                raise PackageRefused(f"{prefix!r} and {names[prefix.casefold()]!r} differ only in case.")
    return files
