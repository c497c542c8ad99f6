# SPDX-License-Identifier: MIT
"""
Packages put into a sandbox that runs already: ``<cache>/<package>/<version>/`` becomes
``packages/<package>/``.

Files are hard links, so it costs a millisecond and no space. The cache belongs to the daemon, which is not
trusted here: nothing but its own directories and regular files is taken, and no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from typing import NamedTuple

from pydra.cluster.sandbox.launcher.scratch import open_directory

FILES_LIMIT = 10_000
"""Files and directories of one package."""

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes of one package, where it must be copied."""

SITE = ".site"
"""Installed requirements, which are filled like a package and may be larger."""

SITE_FILES_LIMIT = 100_000
SITE_SIZE_LIMIT = 4 * 1024**3

DEPTH_LIMIT = 32
"""Directories in each other."""

_UNFINISHED = ".filling"
_STRIDE = 64
_CHUNK = 1024 * 1024
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


class FillFault(Exception):
    """The package cannot be put there; the text says why."""


class Source(NamedTuple):
    """The cache: a descriptor of it, whose files are taken, and whether by hard link."""

    cache: int
    owner: int
    linked: bool
    """False where no mount keeps a worker from writing: then it gets copies."""


class _Count:
    """What one filling has taken so far."""

    def __init__(self, site: bool) -> None:
        self.entries = 0
        self.size = 0
        self.most_entries = SITE_FILES_LIMIT if site else FILES_LIMIT
        self.most_size = SITE_SIZE_LIMIT if site else SIZE_LIMIT


def fill(source: Source, package: str, version: str, packages: int) -> Generator[None, None, None]:
    """
    Put a package below the directory ``packages``, step by step; it appears there whole. `FillFault`,
    `OSError`.
    """
    found = _open_version(source, package, version)
    try:
        os.mkdir(_UNFINISHED, 0o755, dir_fd=packages)
        target = open_directory(_UNFINISHED, packages)
        try:
            yield from _fill_directory(source, found, target, _Count(package == SITE), 0)
        finally:
            os.close(target)
        os.rename(_UNFINISHED, package, src_dir_fd=packages, dst_dir_fd=packages)
    finally:
        os.close(found)


def _open_version(source: Source, package: str, version: str) -> int:
    try:
        above = open_directory(package, source.cache)
        try:
            found = open_directory(version, above)
        finally:
            os.close(above)
    except OSError as fault:
        raise FillFault(f"The cache has no version {version} of {package} ({fault.strerror}).") from None
    if os.fstat(found).st_uid != source.owner:
        os.close(found)
        raise FillFault(f"The version {version} of {package} belongs to another user.")
    return found


def _fill_directory(
    source: Source, found: int, target: int, count: _Count, depth: int
) -> Generator[None, None, None]:
    if depth > DEPTH_LIMIT:
        raise FillFault("The package has too many directories in each other.")
    os.fchmod(target, 0o755)
    with os.scandir(found) as entries:
        for entry in entries:
            count.entries += 1
            if count.entries > count.most_entries:
                raise FillFault(f"The package has more than {count.most_entries} files.")
            if count.entries % _STRIDE == 0:
                yield
            status = entry.stat(follow_symlinks=False)
            if status.st_uid != source.owner:
                raise FillFault(f"{entry.name!r} belongs to another user.")
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(entry.name, 0o755, dir_fd=target)
                below, into = open_directory(entry.name, found), open_directory(entry.name, target)
                try:
                    yield from _fill_directory(source, below, into, count, depth + 1)
                finally:
                    os.close(below)
                    os.close(into)
            elif stat.S_ISREG(status.st_mode):
                yield from _fill_file(source, entry.name, status, found, target, count)
            else:
                raise FillFault(f"{entry.name!r} is neither a file nor a directory.")


def _fill_file(
    source: Source, name: str, status: os.stat_result, found: int, target: int, count: _Count
) -> Generator[None, None, None]:
    readable = source.owner == os.geteuid() or status.st_mode & stat.S_IROTH
    if source.linked and readable:
        try:
            os.link(name, name, src_dir_fd=found, dst_dir_fd=target, follow_symlinks=False)
        except OSError as fault:
            if fault.errno not in _NO_LINKS:
                raise
        else:
            return
    yield from _copy(source, name, found, target, count)


def _copy(source: Source, name: str, found: int, target: int, count: _Count) -> Generator[None, None, None]:
    """Copy what cannot be linked: another file system, or a file that only its owner may read."""
    # A FIFO put in its place meanwhile must not stop us, hence O_NONBLOCK; the check is on what was opened.
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found)
    try:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != source.owner:
            raise FillFault(f"{name!r} is not a file of the cache.")
        mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=target)
        try:
            os.fchmod(writing, mode)
            while data := os.read(reading, _CHUNK):
                count.size += len(data)
                if count.size > count.most_size:
                    raise FillFault(f"The package has more than {count.most_size} bytes.")
                while data:
                    data = data[os.write(writing, data) :]
                yield
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def passes(fault: OSError) -> bool:
    """Whether the machine is short of something, which it may have again."""
    return fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
