# SPDX-License-Identifier: MIT
"""
Removes package versions that nothing needs any more.

A version stays while it is one of the newest of its package, while the current version of a package is it or
depends on it, and while an instance that is not final does. It is removed when it was not needed at two looks
in a row: an instance that is being accepted now has a version and is not in the queue yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.interfaces import InThread
from pydra.cluster.master.repeated import Repeated
from pydra.cluster.packages.repository import Repository
from pydra.model.ids import InstanceId, PackageName, PackageVersion
from pydra.model.instance import Instance
from pydra.model.package import PackageDescription

PAUSE_S = 60.0
"""Seconds between two looks."""

Versions = set[tuple[PackageName, PackageVersion]]


class Library(Protocol):
    """Where the current versions are."""

    def packages(self) -> list[PackageDescription]:
        """The current version of each package."""
        ...


class OldVersions:
    """Looks for old versions again and again; ``live`` are the instances that are not final."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        repository: Repository,
        in_thread: InThread,
        library: Library,
        live: Mapping[InstanceId, Instance],
        keep: int,
    ) -> None:
        self._repository = repository
        self._in_thread = in_thread
        self._library = library
        self._live = live
        self._keep = keep
        self._unused: Versions = set()
        self._looks = Repeated(clock, self.look, self._look_failed, PAUSE_S)

    def start(self) -> None:
        """Look after a pause, and again and again."""
        self._looks.begin_in(PAUSE_S)

    def stop(self) -> None:
        """Look no more."""
        self._looks.stop()

    async def look(self) -> None:
        """Remove what was not needed at the last look and is not needed now."""
        old: Versions = await self._in_thread(self._repository.older, self._keep)
        unused = old - self._used() if old else old
        for package, version in sorted(unused & self._unused):
            await self._in_thread(self._repository.remove, package, version)
            self.log.info(
                "Version {version} of package {package} is removed: nothing needs it",
                package=package,
                version=version[:12],
            )
        self._unused = unused - self._unused

    def _used(self) -> Versions:
        users: list[Iterable[PackageDescription | Instance]] = [self._library.packages(), self._live.values()]
        return {each for those in users for user in those for each in _versions(user)}

    def _look_failed(self, fault: Failure) -> None:
        self.log.failure("Old package versions could not be removed", fault)


def _versions(user: PackageDescription | Instance) -> Iterable[tuple[PackageName, PackageVersion]]:
    return ((user.package, user.version), *user.needs.dependencies)
