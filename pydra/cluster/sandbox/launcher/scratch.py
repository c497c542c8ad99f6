# SPDX-License-Identifier: MIT
"""
The directories of sandboxes: ``<scratch>/<launcher>/<sandbox>/{packages,work}``, and one ``etc`` for all.

Everything is reached from descriptors, without following links, so whoever owns a directory above cannot
lead the launcher elsewhere. A launcher's directory is locked while it lives; what nobody locks is a dead
one's and removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Generator, Iterator

from pydra.cluster.sandbox.launcher.policy import NETWORK_FILES

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRIDE = 64
"""Entries handled between two looks at the socket."""

_LOCALTIME = "/etc/localtime"


def open_directory(path: str, parent: int | None = None) -> int:
    """A descriptor of the directory; a link in the last part of the path is not followed."""
    return os.open(path, _DIRECTORY, dir_fd=parent)


class Scratch:
    """
    The scratch of this launcher. ``shared`` if its children run under other uids, which must get through.
    """

    def __init__(self, directory: str, visible: str, shared: bool) -> None:
        self._passing = 0o711 if shared else 0o700
        self._parent = open_directory(directory)
        if os.fstat(self._parent).st_uid != os.geteuid():
            raise PermissionError(f"{directory} belongs to another user.")
        os.fchmod(self._parent, self._passing)
        self._name, self._own = self._make_own()
        self.path = os.path.join(visible, self._name)
        """This launcher's directory, by a path that its children can reach."""

    def _make_own(self) -> tuple[str, int]:
        while True:
            name = os.urandom(8).hex()
            os.mkdir(name, 0o700, dir_fd=self._parent)
            own = open_directory(name, self._parent)
            fcntl.flock(own, fcntl.LOCK_EX)
            if name in os.listdir(self._parent):
                os.fchmod(own, self._passing)
                return name, own
            os.close(own)  # another launcher took it for a dead one's before it was locked

    def write_etc(self, *, network: bool = False) -> str:
        """Make the ``/etc`` of all sandboxes, or of those with the network; its visible path."""
        called = "etc-network" if network else "etc"
        os.mkdir(called, 0o755, dir_fd=self._own)
        etc = open_directory(called, self._own)
        try:
            for path in NETWORK_FILES[1:] if network else ():
                os.mkdir(os.path.basename(path), 0o755, dir_fd=etc)
            for name, content in _etc_files(network).items():
                file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=etc)
                with os.fdopen(file, "wb") as opened:
                    opened.write(content)
                    os.fchmod(opened.fileno(), 0o644)
            os.fchmod(etc, 0o755)
        finally:
            os.close(etc)
        return os.path.join(self.path, called)

    def make(self, number: int, uid: int | None) -> int:
        """Directories of one sandbox, whose processes have ``uid``; a descriptor of its ``packages``."""
        name = str(number)
        os.mkdir(name, 0o700, dir_fd=self._own)
        top = open_directory(name, self._own)
        try:
            os.mkdir("work", 0o700, dir_fd=top)
            os.mkdir("packages", 0o755, dir_fd=top)
            packages = open_directory("packages", top)
            os.fchmod(packages, 0o755)
            if uid is not None:
                os.chown("work", uid, uid, dir_fd=top, follow_symlinks=False)
                # Only this uid may pass, so a set-uid file that it plants is of use to nobody else.
                os.fchown(top, -1, uid)
                os.fchmod(top, 0o710)
        finally:
            os.close(top)
        return packages

    def open_work(self, number: int) -> int:
        """A descriptor of the directory in which one sandbox works."""
        top = open_directory(str(number), self._own)
        try:
            return open_directory("work", top)
        finally:
            os.close(top)

    def remove(self, number: int) -> Generator[None, None, None]:
        """Remove the directories of one sandbox, step by step."""
        return remove_tree(self._own, str(number))

    def remove_leftovers(self) -> Generator[None, None, None]:
        """Remove what dead launchers left, step by step."""
        for name in os.listdir(self._parent):
            try:
                found = open_directory(name, self._parent)
            except OSError:
                continue
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield from remove_tree(self._parent, name)
            except OSError:
                continue  # its launcher lives; or the next start removes the rest
            finally:
                os.close(found)

    def close(self) -> None:
        """Remove all that is left of this launcher's scratch."""
        for _ in remove_tree(self._parent, self._name):
            pass
        os.close(self._own)
        os.close(self._parent)


def remove_tree(parent: int, name: str) -> Generator[None, None, None]:
    """
    Remove a tree, step by step, however deep: each directory found is first moved to the top.

    No process may be changing the tree.
    """
    try:
        top = _open_own(parent, name)
    except FileNotFoundError:
        return
    except OSError:
        os.unlink(name, dir_fd=parent)
        return
    try:
        pending: list[str] = []
        tries = 100
        prefix = os.urandom(8).hex()
        moved = iter(f"{prefix}-{number}" for number in range(2**63))
        yield from _empty(top, top, pending, moved)
        while pending:
            below = pending.pop()
            opened = _open_own(top, below)
            try:
                yield from _empty(opened, top, pending, moved)
            finally:
                os.close(opened)
            try:
                os.rmdir(below, dir_fd=top)
            except OSError as fault:
                if fault.errno != errno.ENOTEMPTY or tries == 0:
                    raise
                tries -= 1  # a file system may skip entries of a directory that is being emptied
                pending.append(below)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _open_own(parent: int, name: str) -> int:
    """The directory, made accessible if its owner, who we are then, made it not so."""
    if os.geteuid() and stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.chmod(name, 0o700, dir_fd=parent)
    return open_directory(name, parent)


def _empty(directory: int, top: int, pending: list[str], moved: Iterator[str]) -> Generator[None, None, None]:
    steps = 0
    seen: set[str] = set()
    with os.scandir(directory) as entries:
        for entry in entries:
            steps += 1
            if steps % _STRIDE == 0:
                yield
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=directory)
            elif directory == top:
                seen.add(entry.name)
            else:
                if os.geteuid():
                    os.chmod(entry.name, 0o700, dir_fd=directory)
                name = next(moved)
                os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
                pending.append(name)
    pending.extend(seen)


def _etc_files(network: bool) -> dict[str, bytes]:
    files = {
        "passwd": b"worker:x:1000:1000::/task/work:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
        "group": b"worker:x:1000:\nnogroup:x:65534:\n",
        "hosts": b"127.0.0.1 localhost pydra\n::1 localhost\n",
        "nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files" + (b" dns\n" if network else b"\n"),
    }
    if network:
        files["resolv.conf"] = b""  # the host's is mounted on it
    try:
        with open(_LOCALTIME, "rb") as opened:
            files["localtime"] = opened.read(64 * 1024)
    except OSError:
        pass  # then it is UTC
    return files
