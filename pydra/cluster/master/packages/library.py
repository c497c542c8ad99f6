# SPDX-License-Identifier: MIT
"""
Looks after ``TASKS_DIR`` and what was uploaded: every version of every package, kept, described and ready to
be sent.

A look compares what ``stat`` says of each package's files with the last look, and reads only what changed. A
new version becomes the current one when it is described; instances that were accepted before keep theirs, and
the versions of what it depends on. A package is described anew when one of those has another version.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.interfaces import InThread, Store
from pydra.cluster.master.packages.describer import Describer
from pydra.cluster.master.packages.late import LatePackages
from pydra.cluster.master.repeated import Repeated
from pydra.cluster.packages import archive
from pydra.cluster.packages.content import stamp
from pydra.cluster.packages.dependencies import Resolved, resolve
from pydra.cluster.packages.environment import environment_key
from pydra.cluster.packages.limits import limits_of
from pydra.cluster.packages.manifest import FILE as MANIFEST
from pydra.cluster.packages.manifest import Manifest, read_manifest
from pydra.cluster.packages.repository import Repository
from pydra.cluster.packages.scan import scan
from pydra.cluster.packages.uploaded import UploadedPackages
from pydra.cluster.sandbox.environments import Environments
from pydra.errors import (
    ClusterError,
    Conflict,
    LoadError,
    NotFound,
    PackageChanging,
    PackageRefused,
    PydraError,
)
from pydra.events import Event, PackageChanged
from pydra.model.changes import PutPackage
from pydra.model.ids import PackageName, PackageVersion, TaskKey
from pydra.model.package import FileError, Needs, PackageDescription, TaskDescription, TaskLimits
from pydra.model.unit import SESSION_TASK

AT_ONCE = 2
"""Packages that are described at the same time."""

_UPLOADED = "uploaded "
"""Begins the state of a package that was uploaded; its version follows."""

_OF_THE_WHOLE = ("", MANIFEST)
"""What an error names as its file if it keeps all tasks of a package away."""


class _Taken(msgspec.Struct, frozen=True):
    """A version that is kept, and what its META says."""

    version: PackageVersion
    manifest: Manifest
    limits: TaskLimits
    errors: tuple[str, ...]
    """What is wrong with META."""
    files: tuple[str, ...]
    """Files that may have tasks."""


class _Wanted(msgspec.Struct, frozen=True):
    """What should be current: a version with what it needs, or with the reason why it cannot have that."""

    version: PackageVersion
    needs: Needs
    problem: str


class PackageLibrary:
    """The packages of the cluster and the current version of each."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        tasks_dir: Path,
        uploaded: UploadedPackages,
        repository: Repository,
        store: Store,
        describer: Describer,
        environments: Environments,
        in_thread: InThread,
        publish: Callable[[Event], int],
        scan_s: float,
    ) -> None:
        self._tasks_dir = tasks_dir
        self._uploaded = uploaded
        self._repository = repository
        self._store = store
        self._describer = describer
        self._environments = environments
        self._in_thread = in_thread
        self._publish = publish
        self._turn = DeferredLock()
        """Of looking: one look at a time."""
        self._stamps: dict[PackageName, str] = {}
        self._taken: dict[PackageName, _Taken] = {}
        self._refused: dict[PackageName, str] = {}
        """Why the present files of a package cannot be taken; an earlier version of it may stay in use."""
        self._settled: dict[PackageName, _Wanted] = {}
        self._is_settled = True
        self._late = LatePackages(clock.seconds)
        self._current: dict[PackageName, PackageDescription] = {}
        self._looks = Repeated(clock, self.look, self._look_failed, scan_s)

    def start(self) -> None:
        """Look now, and again and again."""
        self._looks.begin()

    def stop(self) -> None:
        """Look no more."""
        self._looks.stop()

    def _look_failed(self, fault: Failure) -> None:
        if fault.check(PydraError):
            self.log.error("The packages cannot be looked at: {fault}", fault=str(fault.value))
        else:
            self.log.failure("Looking at the packages failed", fault)

    def packages(self) -> list[PackageDescription]:
        """The current version of each package, by name."""
        return sorted(self._current.values(), key=lambda description: description.package)

    def tasks(self) -> Iterator[tuple[PackageDescription, TaskDescription]]:
        """Every task that can be run, with its package."""
        for description in self.packages():
            for task in description.tasks:
                yield description, task

    def find(self, task_key: str) -> tuple[PackageDescription, TaskDescription]:
        """A task and the current version of its package; `NotFound` with the nearest reason."""
        package, _, rest = task_key.partition(".")
        description = self._current.get(PackageName(package))
        if task_key == SESSION_TASK:
            raise NotFound(f"{SESSION_TASK} is opened over /ws; see docs/reference/session.md.")
        if description is None:
            raise NotFound(f"There is no task {task_key!r}: there is no package {package!r}.")
        for task in description.tasks:
            if task.key == task_key:
                return description, task
        file = rest.partition(".")[0] + ".py"
        for error in sorted(description.errors, key=lambda error: error.file != file):
            if error.file in (file, *_OF_THE_WHOLE):
                raise NotFound(f"There is no task {task_key!r}: {error.file or package}: {error.message}")
        raise NotFound(f"There is no task {task_key!r} in package {package!r}.")

    async def description(self, package: PackageName, version: PackageVersion, key: TaskKey) -> str:
        """The description of a task in the version that an instance ran with; empty if it is not known."""
        found = await self._store.package(package, version)
        return next((task.description for task in found.tasks if task.key == key), "") if found else ""

    async def stream(self, package: PackageName, version: PackageVersion) -> AsyncIterator[bytes]:
        """The archive of a version, for a node; `NotFound` if there is none."""
        if not await self._in_thread(self._repository.has, package, version):
            raise NotFound(f"There is no version {version[:12]} of package {package}.")
        chunks = archive.pack(self._repository.path(package, version))
        while (chunk := await self._in_thread(next, chunks, None)) is not None:
            yield chunk

    def check_uploadable(self, package: PackageName) -> None:
        """`Conflict` if a package of this name is in TASKS_DIR."""
        if package in self._stamps and not self.is_uploaded(package):
            raise Conflict(
                f"The package {package} is in TASKS_DIR, which counts more than what is uploaded; "
                "change it there, or remove it there first."
            )

    def is_uploaded(self, package: PackageName) -> bool:
        """The current version was uploaded."""
        return self._stamps.get(package, "").startswith(_UPLOADED)

    async def put_uploaded(self, package: PackageName, version: PackageVersion) -> PackageDescription:
        """
        Make a version that is in the repository the current one; its description.

        `Conflict` as for ``check_uploadable``; `ClusterError` if it cannot be described now.
        """
        self.check_uploadable(package)
        await self._in_thread(self._uploaded.put, package, version)
        await self.look()
        current = self._current.get(package)
        if current is None or current.version != version:
            raise ClusterError("The package was taken, and is not described yet; see: pydra task list.")
        return current

    async def remove_uploaded(self, package: PackageName) -> bool:
        """Forget an uploaded package; False if there is none of this name."""
        is_removed: bool = await self._in_thread(self._uploaded.remove, package)
        await self.look()
        return is_removed

    async def look(self) -> None:
        """Find packages that are new, changed or gone."""
        await self._turn.acquire()
        try:
            await self._look()
        finally:
            self._turn.release()

    async def _look(self) -> None:
        found: dict[PackageName, str] = await self._in_thread(_stamps, self._tasks_dir, self._uploaded)
        for package in (self._stamps.keys() | self._current.keys()) - found.keys():
            self._is_settled = False
            for known in (self._stamps, self._taken, self._refused, self._settled):
                known.pop(package, None)
            self._late.forget(package)
            if self._current.pop(package, None) is not None:
                self.log.info("Package {package} is gone", package=package)
                self._publish(PackageChanged(package, None))
        for package, state in sorted(found.items()):
            if self._stamps.get(package) != state and await self._take(package, state):
                self._stamps[package] = state
        for package in self._late.due():
            self._settled.pop(package, None)
            self._is_settled = False
        if not self._is_settled:
            self._is_settled = True
            depends = {name: each.manifest.depends for name, each in self._taken.items()}
            unusable = {name: why for name, why in self._refused.items() if name not in self._taken}
            waiting = iter(sorted(self._taken.keys() - self._refused.keys()))

            async def settle_next() -> None:
                for package in waiting:
                    try:
                        await self._settle(package, resolve(package, depends, unusable))
                    # An edge: the others are not kept waiting, and this one is tried again.
                    except Exception:  # noqa: BLE001
                        self.log.failure("Package {package} could not be settled", package=package)
                        self._is_settled = False

            # Side by side, so that a package whose description takes long does not keep the others waiting.
            await DeferredList([Deferred.fromCoroutine(settle_next()) for _ in range(AT_ONCE)])

    async def _take(self, package: PackageName, state: str) -> bool:
        """Keep the present version of a package; False if it should be tried again."""
        try:
            taken: _Taken = await self._in_thread(_keep, self._repository, self._tasks_dir / package, state)
        except PackageChanging:
            return False
        except (PydraError, OSError) as fault:
            self._refuse(package, str(fault))
            return not isinstance(fault, OSError)
        self._taken[package] = taken
        self._refused.pop(package, None)
        self._is_settled = False
        return True

    async def _settle(self, package: PackageName, resolved: Resolved) -> None:
        """Make the taken version of a package, with what it needs now, the current one."""
        taken = self._taken[package]
        dependencies = tuple((name, self._taken[name].version) for name in resolved.dependencies)
        installed = {each for name in (package, *resolved.dependencies) for each in self._required(name)}
        needs = Needs(dependencies, taken.limits, tuple(sorted(installed)))
        wanted = _Wanted(taken.version, needs, resolved.problem)
        if self._settled.get(package) == wanted:
            return
        try:
            if not wanted.problem and not await self._environments.is_ready(needs.requirements, self._needed):
                self._is_settled = False
                return
            description = await self._described(package, taken, wanted)
        except LoadError as fault:
            # It may be possible later: another index, more room, or another setting.
            self._is_settled = False
            self._settled.pop(package, None)
            description = PackageDescription(package, taken.version, (), (FileError(MANIFEST, str(fault)),))
            if self._current.get(package) != description:
                self.log.error("Package {package} cannot be used: {fault}", package=package, fault=str(fault))
                self._current[package] = description
                self._publish(PackageChanged(package, taken.version))
            return
        except (PydraError, OSError) as fault:
            self.log.error(
                "Package {package} cannot be described now: {fault}", package=package, fault=str(fault)
            )
            self._is_settled = False
            return
        self._settled[package] = wanted
        self._current[package] = description
        self._late.described(description)
        self.log.info(
            "Package {package} is at version {version}: {tasks} tasks, {errors} errors",
            package=package,
            version=taken.version[:12],
            tasks=len(description.tasks),
            errors=len(description.errors),
        )
        self._publish(PackageChanged(package, taken.version))

    def _required(self, package: PackageName) -> tuple[str, ...]:
        return self._taken[package].manifest.requirements

    def _needed(self) -> set[str]:
        """The environments of what is current."""
        return {environment_key(each.needs.requirements) for each in self._current.values()}

    async def _described(self, package: PackageName, taken: _Taken, wanted: _Wanted) -> PackageDescription:
        """What the version says of itself, asked once; `SandboxError` or `StoreError` if not now."""
        told = [*taken.errors, *([wanted.problem] if wanted.problem else [])]
        errors = tuple(FileError(MANIFEST, message) for message in told)
        if wanted.problem:
            return PackageDescription(package, wanted.version, (), errors)
        known = await self._store.package(package, wanted.version)
        if known is not None and known.needs == wanted.needs and not known.late:
            return known
        description = await self._describer.describe(package, wanted.version, wanted.needs, taken.files)
        description = msgspec.structs.replace(description, errors=errors + description.errors)
        if description.tasks or all(error.file for error in description.errors):
            await self._store.commit([PutPackage(description)])
        # What could not be asked at all may answer at the next start.
        return description

    def _refuse(self, package: PackageName, reason: str) -> None:
        """The files cannot be taken: show why; a version that was good before stays current."""
        self.log.warn("Package {package} cannot be taken: {reason}", package=package, reason=reason)
        self._refused[package] = reason
        self._settled.pop(package, None)
        self._is_settled = False
        before = self._current.get(package)
        if before is None or not before.tasks:
            self._current[package] = PackageDescription(
                package, PackageVersion(""), (), (FileError("", reason),)
            )


def _keep(repository: Repository, directory: Path, state: str) -> _Taken:
    """Keep the present version of a package, and read what it says of itself; blocking."""
    package = PackageName(directory.name)
    if state.startswith(_UPLOADED):
        version = PackageVersion(state.removeprefix(_UPLOADED))
        if not repository.has(package, version):
            raise PackageRefused("The files of the uploaded version are gone; upload it again.")
        repository.touch(package, version)
    else:
        version = repository.add(directory)
    path = repository.path(package, version)
    manifest = read_manifest(path)
    errors = list(manifest.errors)
    limits = limits_of(manifest.values, errors)
    files = sorted(file.name for file in path.glob("*.py") if file.stem.isidentifier())
    return _Taken(version, manifest, limits, tuple(errors), tuple(files))


def _stamps(tasks_dir: Path, uploaded: UploadedPackages) -> dict[PackageName, str]:
    """A text for the state of every package, which changes with its files; blocking."""
    found = {package: f"{_UPLOADED}{version}" for package, version in uploaded.versions().items()}
    return found | {PackageName(directory.name): _stamp(directory) for directory in scan(tasks_dir)}


def _stamp(directory: Path) -> str:
    try:
        return stamp(directory)
    except (PackageRefused, OSError) as fault:
        return f"refused: {fault}"
