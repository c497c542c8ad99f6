# SPDX-License-Identifier: MIT
"""
Which packages were uploaded, and the current version of each.

One small file for each package, named like it, holds the version; its files are in the repository, as those
of any version.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydra.cluster.packages.content import name_problem
from pydra.cluster.packages.repository import is_version
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName, PackageVersion

_NEW = ".new"


class UploadedPackages:
    """The record in ``directory``, which is made when it is needed; all of it blocks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def versions(self) -> dict[PackageName, PackageVersion]:
        """The current version of every package; a file that holds none is left out."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return {}
        found = {}
        for name in names:
            if name_problem(name) is None and is_version(text := self._read(name)):
                found[PackageName(name)] = PackageVersion(text)
        return found

    def put(self, package: PackageName, version: PackageVersion) -> None:
        """Make this the current version, durably; `PackageRefused` if it has no good name."""
        path = self._path(package)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.directory / f"{_NEW}-{package}"
        with new.open("w") as file:
            file.write(version)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        self._sync()

    def remove(self, package: PackageName) -> bool:
        """Forget a package; False if it was not uploaded."""
        try:
            self._path(package).unlink()
        except FileNotFoundError:
            return False
        self._sync()
        return True

    def _path(self, package: PackageName) -> Path:
        problem = name_problem(package)
        if problem is not None:
            raise PackageRefused(problem)
        return self.directory / package

    def _read(self, name: str) -> str:
        try:
            with (self.directory / name).open(errors="replace") as file:
                return file.read(100)
        except OSError:
            return ""

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
