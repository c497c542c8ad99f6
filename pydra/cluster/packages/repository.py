# SPDX-License-Identifier: MIT
"""
Versions of packages on disk: ``root/<package>/<version>``, each whole or absent.

A version is written beside its place and moved there in one step, after its bytes are on the disk. Files
are 0444 (or 0555), directories 0755; nothing changes them later.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydra.cluster.packages.content import PackageFile, name_problem, read_content
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName, PackageVersion

_UNFINISHED = ".new-"


class Kept(NamedTuple):
    """A version that is here, and the bytes of its files."""

    package: PackageName
    version: PackageVersion
    size: int


class Repository:
    """The package versions below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, source: Path) -> PackageVersion:
        """
        Copy the package in ``source`` and tell its version; one that is there already becomes the newest.

        `PackageRefused` if it breaks a rule, `PackageChanging` if it changed meanwhile: nothing is added
        then.
        """
        problem = name_problem(source.name)
        if problem is not None:
            raise PackageRefused(problem)
        package = PackageName(source.name)
        with VersionWriter(self.root, package) as writer:
            version = read_content(source, writer.write).version
            writer.keep(version)
        return version

    def path(self, package: PackageName, version: PackageVersion) -> Path:
        """Where a version is, or would be."""
        return version_path(self.root, package, version)

    def has(self, package: PackageName, version: PackageVersion) -> bool:
        """True if the version is here, whole."""
        return self.path(package, version).is_dir()

    def touch(self, package: PackageName, version: PackageVersion) -> None:
        """Make a version that is here the newest."""
        os.utime(self.path(package, version))

    def versions(self, package: PackageName) -> list[PackageVersion]:
        """The versions of a package, the newest first."""
        try:
            found = [
                (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
                for entry in os.scandir(self.root / package)
                if entry.is_dir(follow_symlinks=False) and is_version(entry.name)
            ]
        except FileNotFoundError:
            return []
        return [PackageVersion(name) for _, name in sorted(found, reverse=True)]

    def older(self, keep: int) -> set[tuple[PackageName, PackageVersion]]:
        """All versions but the ``keep`` newest of each package."""
        packages = self._packages()
        return {(package, version) for package in packages for version in self.versions(package)[keep:]}

    def everything(self) -> list[Kept]:
        """All versions, the one that came first first."""
        found = [
            (
                self.path(package, version).stat().st_mtime_ns,
                Kept(package, version, self.size(package, version)),
            )
            for package in self._packages()
            for version in self.versions(package)
        ]
        return [kept for _, kept in sorted(found)]

    def size(self, package: PackageName, version: PackageVersion) -> int:
        """Bytes of the files of a version; 0 if it is not here."""
        return sum(
            (Path(directory) / name).lstat().st_size
            for directory, _, names in os.walk(self.path(package, version))
            for name in names
        )

    def remove(self, package: PackageName, version: PackageVersion) -> None:
        """Remove a version, in one step for whoever looks; one that is not here is removed already."""
        place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.root))
        try:
            with suppress(FileNotFoundError):
                self.path(package, version).rename(place / version)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _packages(self) -> Iterator[PackageName]:
        try:
            names = sorted(
                entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False)
            )
        except FileNotFoundError:
            return
        for name in names:
            if name_problem(name) is None:
                yield PackageName(name)

    def sweep(self) -> None:
        """Remove what an earlier process left unfinished; called before anything is added."""
        for left in self.root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)


class VersionWriter:
    """
    A package version in the making; leaving the context removes what was not kept.

    The files come in the order of their paths, each in one or more pieces; the paths have been checked.
    """

    def __init__(self, root: Path, package: PackageName) -> None:
        self.root = root
        self._package = package
        root.mkdir(parents=True, exist_ok=True)
        self._place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root))
        self._content = self._place / package
        self._content.mkdir(mode=0o755)
        self._directories = {self._content: None}
        self._file: PackageFile | None = None
        self._descriptor = -1

    def __enter__(self) -> VersionWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def write(self, file: PackageFile, data: bytes) -> None:
        """More of a file; a new one begins when ``file`` is another than before."""
        if file != self._file:
            self._finish_file()
            target = self._content / file.path
            self._make_directory(target.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(target, flags, 0o600)
            self._file = file
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def keep(self, version: PackageVersion) -> Path:
        """Move all that was written to its place; if another was faster, that one stays."""
        self._finish_file()
        for directory in self._directories:
            directory.chmod(0o755)
            _sync(directory)
        target = version_path(self.root, self._package, version)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        try:
            self._content.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            os.utime(target)
        _sync(target.parent)
        return target

    def abort(self) -> None:
        """Remove what was written and not kept."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        shutil.rmtree(self._place, ignore_errors=True)

    def _make_directory(self, directory: Path) -> None:
        if directory not in self._directories:
            self._make_directory(directory.parent)
            directory.mkdir(mode=0o755)
            self._directories[directory] = None

    def _finish_file(self) -> None:
        if self._descriptor < 0 or self._file is None:
            return
        os.fchmod(self._descriptor, 0o555 if self._file.executable else 0o444)
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1


def version_path(root: Path, package: PackageName, version: PackageVersion) -> Path:
    """The place of a version below ``root``; `PackageRefused` if either name is not one."""
    if not is_version(version) or name_problem(package) is not None:
        raise PackageRefused(f"{package[:100]!r} {version[:100]!r} is no version of a package.")
    return root / package / version


def is_version(text: str) -> bool:
    """True for 64 hexadecimal digits."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
