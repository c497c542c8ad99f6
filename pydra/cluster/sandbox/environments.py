# SPDX-License-Identifier: MIT
"""The installed requirements of tasks, as a daemon uses them: one installation at a time, if at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.interfaces import InThread
from pydra.cluster.packages.environment import SITE, EnvironmentDirectory, Wheels, environment_key
from pydra.cluster.sandbox.surroundings import find_places
from pydra.errors import LoadError, StoreError
from pydra.model.ids import PackageName, PackageVersion
from pydra.model.package import Needs

FAILURE_S = 60.0
"""Seconds for which a failed installation is not tried again."""

Needed = Callable[[], Collection[str]]
"""Tells the keys of environments that must stay when room is made for a new one."""


class RequirementSettings(Protocol):
    """The settings that matter here."""

    @property
    def ALLOW_REQUIREMENTS(self) -> bool: ...  # noqa: N802, D102 - named and described by the settings
    @property
    def REQUIREMENTS_INDEX(self) -> str: ...  # noqa: N802, D102
    @property
    def REQUIREMENTS_WHEELS(self) -> str: ...  # noqa: N802, D102
    @property
    def PACKAGE_CACHE_MB(self) -> int: ...  # noqa: N802, D102


class Environments:
    """
    Environments in the cache directory of a daemon, from where its launcher fills sandboxes.

    ``install_in_thread`` has a thread of its own, since pip may take minutes.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        settings: RequirementSettings,
        cache: Path,
        in_thread: InThread,
        install_in_thread: InThread,
    ) -> None:
        self._clock = clock
        self.is_allowed = settings.ALLOW_REQUIREMENTS
        self._limit = settings.PACKAGE_CACHE_MB * 2**20
        wheels = Wheels(settings.REQUIREMENTS_INDEX, settings.REQUIREMENTS_WHEELS)
        self._directory = EnvironmentDirectory(cache / SITE, wheels, _interpreter_variables())
        self._in_thread = in_thread
        self._install_in_thread = install_in_thread
        self._failures: dict[str, tuple[float, str]] = {}
        self._under_way: set[str] = set()
        self._turn = DeferredLock()

    async def start(self) -> None:
        """Remove what an earlier daemon left unfinished."""
        await self._in_thread(self._directory.sweep)

    def stop(self) -> None:
        """End an installation that runs."""
        self._directory.stop()

    async def is_ready(self, requirements: Sequence[str], needed: Needed) -> bool:
        """
        Whether these requirements are installed; if not, that is begun, and the next answer may be another.

        `LoadError` if they could not be installed a while ago, or if they are not allowed.
        """
        if not requirements:
            return True
        key = environment_key(requirements)
        if key in self._under_way:
            return False
        self._check(key, requirements)
        if await self._in_thread(self._directory.use, key):
            return True
        if key not in self._under_way:
            self._under_way.add(key)
            begun = Deferred.fromCoroutine(self._install(key, requirements, needed))
            begun.addErrback(self._failed)
            begun.addCallback(lambda _: self._under_way.discard(key))
        return False

    async def ensure(self, requirements: Sequence[str], needed: Needed) -> None:
        """
        Return when these requirements are installed.

        `LoadError` if they cannot be, or are not allowed; `StoreError` if they cannot be kept here.
        """
        if not requirements:
            return
        key = environment_key(requirements)
        self._check(key, requirements)
        if not await self._in_thread(self._directory.use, key):
            await self._install(key, requirements, needed)

    def _check(self, key: str, requirements: Sequence[str]) -> None:
        if not self.is_allowed:
            names = ", ".join(requirements)
            raise LoadError(
                f"It needs {names}, and nothing is installed for tasks here (ALLOW_REQUIREMENTS)."
            )
        now = self._clock.seconds()
        self._failures = {each: told for each, told in self._failures.items() if now < told[0] + FAILURE_S}
        if key in self._failures:
            raise LoadError(self._failures[key][1])

    async def _install(self, key: str, requirements: Sequence[str], needed: Needed) -> None:
        await self._turn.acquire()
        try:
            self._check(key, requirements)  # somebody else may have tried it meanwhile
            self.log.info("Installing {requirements}", requirements=", ".join(requirements))
            await self._install_in_thread(self._directory.install, requirements)
            await self._install_in_thread(self._directory.shrink, self._limit, {key, *needed()})
        except LoadError as fault:
            if key not in self._failures:
                self._failures[key] = (self._clock.seconds(), str(fault))
                self.log.warn("The requirements cannot be installed: {fault}", fault=str(fault))
            raise
        finally:
            self._turn.release()

    def _failed(self, failure: Failure) -> None:
        if failure.check(LoadError, StoreError) is None:
            self.log.failure("An installation failed", failure)


def contents(
    package: PackageName, version: PackageVersion, needs: Needs
) -> list[tuple[PackageName, PackageVersion]]:
    """What a sandbox is filled with: a package, its dependencies, and, named like one, its requirements."""
    filled = [(package, version), *needs.dependencies]
    if needs.requirements:
        filled.append((PackageName(SITE), PackageVersion(environment_key(needs.requirements))))
    return filled


def _interpreter_variables() -> dict[str, str]:
    """What this interpreter needs to start another one like itself."""
    places = find_places()
    if not places.library:
        return {}
    return {"LD_LIBRARY_PATH": os.path.join(places.python, places.library)}
