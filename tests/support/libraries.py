# SPDX-License-Identifier: MIT
"""The master's library of packages on a clock, with packages that describe themselves when a test says so."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.packages.describer import Describer
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.packages.repository import Repository
from pydra.cluster.packages.uploaded import UploadedPackages
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.wire import frames
from pydra.config import Settings
from pydra.events import Event
from pydra.model.ids import PackageVersion, TaskKey
from pydra.model.package import FileError, PackageDescription, TaskDescription
from tests.support.cables import unthreaded
from tests.support.fakes import MemoryStore
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker, ScriptedWorkers

SCAN_S = 2.0

T = TypeVar("T")


class LibraryBench:
    """A library whose packages describe themselves when a test says so."""

    def __init__(self, directory: Path, settings: Settings | None = None) -> None:
        self.clock = Clock()
        self.settings = settings or Settings()
        self.tasks_dir = directory / "tasks"
        self.tasks_dir.mkdir()
        self.store = MemoryStore()
        self.workers = ScriptedWorkers(self.clock)
        self.events: list[Event] = []
        self.added: list[str] = []
        self.directory = directory
        self.new_library()

    def new_library(self) -> None:
        """A master starts anew, with what it has kept."""
        self.repository = Repository(self.directory / "kept")
        add = self.repository.add

        def adding(source: Path) -> PackageVersion:
            self.added.append(source.name)
            return add(source)

        self.repository.add = adding  # type: ignore[method-assign]
        describer = Describer(self.clock, self.clock.seconds, self.workers)
        self.library = PackageLibrary(
            self.clock,
            self.tasks_dir,
            UploadedPackages(self.directory / "uploaded"),
            self.repository,
            self.store,
            describer,
            Environments(self.clock, self.settings, self.repository.root, unthreaded, unthreaded),
            unthreaded,
            self.publish,
            SCAN_S,
        )

    def publish(self, event: Event) -> int:
        """Where events go."""
        self.events.append(event)
        return len(self.events)

    def write(self, package: str = "demo", text: str = "x = 1\n", file: str = "tasks.py") -> Path:
        """A file of a package is saved."""
        path = self.tasks_dir / package / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def look(self) -> Deferred[None]:
        """One look."""
        self.added.clear()
        return Deferred.fromCoroutine(self.library.look())

    def describe(
        self,
        *names: str,
        errors: tuple[FileError, ...] = (),
        worker: ScriptedWorker | None = None,
        late: bool = False,
    ) -> PackageVersion:
        """The last worker (or this one) tells the tasks of its package; its version."""
        worker = worker or self.workers.last
        assert worker.package is not None
        assert worker.version is not None
        tasks = tuple(
            TaskDescription(TaskKey(f"{worker.package}.{name}"), f"This is {name}.") for name in names
        )
        told = PackageDescription(worker.package, worker.version, tasks, errors, late=late)
        worker.says(frames.DESCRIBED, msgspec.msgpack.encode(told))
        return worker.version

    def keys(self) -> list[str]:
        """The keys of all tasks."""
        return [task.key for _, task in self.library.tasks()]

    def result(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """What a coroutine answers at once."""
        return result_of(Deferred.fromCoroutine(coroutine))

    def close(self) -> None:
        """Stop; no timer may be left."""
        self.library.stop()
        self.clock.advance(0)
        assert [] == self.clock.getDelayedCalls()
