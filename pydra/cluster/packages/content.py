# SPDX-License-Identifier: MIT
"""
What a package consists of, and the version that names exactly that.

A package is regular files in directories. Compiled files, hidden ones and what editors leave are not part
of it; links, devices, names that another system could read differently, and too much of anything are
refused by name.
"""

from __future__ import annotations

import hashlib
import keyword
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pydra.errors import PackageChanging, PackageRefused
from pydra.model.ids import PackageVersion

FILES_LIMIT = 10_000
"""Files, and directories, of a package."""

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes of all files of a package."""

PATH_LIMIT = 1024
"""Bytes of a path within a package."""

DEPTH_LIMIT = 32
"""Directories within directories."""

CHUNK_SIZE = 256 * 1024

_RESERVED = frozenset({"pydra", "msgpack", "msgspec", "django", "twisted", "site", "test"})


class PackageFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of a package: its path with slashes, whether it may be executed, and its size in bytes."""

    path: str
    executable: bool
    size: int


class PackageContent(msgspec.Struct, frozen=True):
    """The files of a package, by path, and the version that they make."""

    version: PackageVersion
    files: tuple[PackageFile, ...]


class FileState(msgspec.Struct, frozen=True):
    """A file as it was found; any change of it makes another state."""

    file: PackageFile
    device: int
    inode: int
    modified_ns: int
    changed_ns: int


class VersionDigest:
    """SHA-256 over the sorted files: path, executable bit, size and content of each."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"pydra-package-1\n")

    def begin(self, file: PackageFile) -> None:
        """The next file; its content follows by ``update``."""
        path = file.path.encode()
        self._hash.update(b"%d:%s:%d:%d\n" % (len(path), path, file.executable, file.size))

    def update(self, data: bytes) -> None:
        """More of the content of the file."""
        self._hash.update(data)

    def version(self) -> PackageVersion:
        """The version of what was given so far."""
        return PackageVersion(self._hash.hexdigest())


def name_problem(name: str) -> str | None:
    """Why a package cannot have this name; None if it can."""
    if not name.isidentifier() or not name.isascii() or len(name) > 100:
        return f"The package name {name!r} is no Python identifier of ASCII letters."
    if keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _RESERVED:
        return f"The package name {name!r} belongs to Python or to Pydra; rename the directory."
    return None


def path_problem(path: str) -> str | None:
    """Why a file of a package cannot have this path (with slashes); None if it can."""
    parts = path.split("/")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return f"{path!r}: the name is not UTF-8."
    if size > PATH_LIMIT or len(parts) > DEPTH_LIMIT:
        limits = f"{PATH_LIMIT} bytes and {DEPTH_LIMIT} directories"
        return f"{path[:80]!r}: the path is too long; the limits are {limits}."
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        return f"{path[:80]!r}: this is no path within a package."
    if not path.isprintable() or "\\" in path:
        return f"{path!r}: the name has a character that names of files must not have."
    return None


def is_skipped(name: str) -> bool:
    """True for what is not part of a package: hidden, compiled, or left by an editor."""
    return (
        name.startswith(".")
        or name == "__pycache__"
        or name.endswith((".pyc", ".pyo", "~"))
        or (name.startswith("#") and name.endswith("#"))
    )


def find_files(directory: Path) -> list[FileState]:
    """
    The files of a package in the order of their paths, without reading them.

    `PackageRefused` names what breaks a rule, `PackageChanging` what vanished meanwhile.
    """
    found: list[FileState] = []
    total = 0
    entries = 0
    try:
        for path, status in _walk(directory, "", directory.lstat()):
            entries += 1
            if entries > FILES_LIMIT:
                raise PackageRefused(
                    f"{path!r}: the package has more than {FILES_LIMIT:,} files and directories."
                )
            if stat.S_ISDIR(status.st_mode):
                continue
            total += status.st_size
            if total > SIZE_LIMIT:
                raise PackageRefused(
                    f"{path!r}: with it the package has more than {SIZE_LIMIT // 2**20} MiB."
                )
            found.append(_state(path, status))
    except FileNotFoundError as fault:
        raise PackageChanging(f"{_name(fault, directory)!r} vanished while the package was read.") from None
    except OSError as fault:
        raise _unreadable(_name(fault, directory), fault) from None
    return sorted(found, key=lambda one: one.file.path)


def read_content(directory: Path, take: Callable[[PackageFile, bytes], None] | None = None) -> PackageContent:
    """
    The files of a package and its version; ``take`` is given every file's content in pieces (once, if empty).

    `PackageRefused` as `find_files`; `PackageChanging` if anything changed before all was read.
    """
    states = find_files(directory)
    digest = VersionDigest()
    for state in states:
        digest.begin(state.file)
        for data in read_file(directory, state):
            digest.update(data)
            if take is not None:
                take(state.file, data)
    if find_files(directory) != states:
        raise PackageChanging()
    return PackageContent(digest.version(), tuple(state.file for state in states))


def read_file(directory: Path, state: FileState) -> Iterator[bytes]:
    """
    The content of a file in pieces, an empty one if it has none; `PackageChanging` if it changed,
    `PackageRefused` if it may not be read.
    """
    path = state.file.path
    try:
        descriptor = os.open(directory / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as fault:
        raise _unreadable(os.path.join(directory.name, path), fault) from None
    except OSError:
        raise PackageChanging(f"{path!r} changed while it was read.") from None
    with os.fdopen(descriptor, "rb", buffering=0) as source:
        read = 0
        if _is_same(_state(path, os.fstat(descriptor)), state):
            if not state.file.size:
                yield b""
            while read < state.file.size and (data := source.read(min(CHUNK_SIZE, state.file.size - read))):
                read += len(data)
                yield data
        if read != state.file.size or not _is_same(_state(path, os.fstat(descriptor)), state):
            raise PackageChanging(f"{path!r} changed while it was read.")


def stamp(directory: Path) -> str:
    """
    A digest of the states of all files, without reading them: as long as it stays, the version does.

    Raises as `find_files`.
    """
    return hashlib.sha256(msgspec.msgpack.encode(find_files(directory))).hexdigest()


def _walk(directory: Path, prefix: str, status: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below a directory with what lstat says of it; directories before what is in them."""
    if not stat.S_ISDIR(status.st_mode):
        raise PackageRefused(f"{prefix.rstrip('/') or directory.name!r} is not a directory.")
    folded: dict[str, str] = {}
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries if not is_skipped(entry.name))
    for name in names:
        path = prefix + name
        twin = folded.setdefault(name.casefold(), name)
        problem = path_problem(path)
        if problem is not None:
            raise PackageRefused(problem)
        if twin != name:
            raise PackageRefused(f"{path!r} and {prefix + twin!r} differ only in case.")
        found = (directory / name).lstat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise PackageRefused(
                f"{path!r} is {_kind(found.st_mode)}; a package holds files and directories only."
            )
        yield path, found
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(directory / name, path + "/", found)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _state(path: str, status: os.stat_result) -> FileState:
    executable = bool(status.st_mode & 0o111)
    return FileState(
        PackageFile(path, executable, status.st_size),
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _is_same(one: FileState, other: FileState) -> bool:
    """True for the same file, whatever was linked to it meanwhile: that changes ``changed_ns`` alone."""
    return msgspec.structs.replace(one, changed_ns=0) == msgspec.structs.replace(other, changed_ns=0)


def _unreadable(name: str, fault: OSError) -> PackageRefused:
    """A refusal that says for whom: a daemon that root started is not root any more."""
    return PackageRefused(f"{name!r} cannot be read by user {os.geteuid()}: {fault.strerror}.")


def _name(fault: OSError, directory: Path) -> str:
    return (
        os.path.relpath(os.fsdecode(fault.filename), directory.parent) if fault.filename else directory.name
    )
