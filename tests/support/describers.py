# SPDX-License-Identifier: MIT
"""The master's describer, whose workers a test plays."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.packages.describer import Describer
from pydra.cluster.wire import frames, payload
from pydra.model.ids import PackageName, PackageVersion, TaskKey
from pydra.model.package import PackageDescription
from tests.support.instances import VERSION
from tests.support.workers import ScriptedWorkers

WALL = 1_700_000_000.0
DEMO = PackageName("demo")
KEY = TaskKey("demo.tasks.Count")
OTHER = PackageVersion("cd" * 32)


class DescriberBench:
    """A describer whose workers are scripted."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.workers = ScriptedWorkers(self.clock)
        self.describer = Describer(self.clock, lambda: WALL + self.clock.seconds(), self.workers)

    def describe(self) -> Deferred[PackageDescription]:
        """Ask what demo says."""
        return Deferred.fromCoroutine(self.describer.describe(DEMO, VERSION))

    def validate(self, version: PackageVersion = VERSION, **arguments: Any) -> Deferred[dict[str, object]]:
        """Ask whether arguments are good."""
        return Deferred.fromCoroutine(self.describer.validate(DEMO, version, KEY, arguments))

    def answer(self, number: int, valid: bool, value: object) -> None:
        """The last worker answers a validation."""
        self.workers.last.says(frames.VALIDATED, number, valid, payload.pack(value))

    def close(self) -> None:
        """Nothing of it may be left."""
        self.describer.stop()
        self.clock.advance(0)
        assert all(worker.is_gone for worker in self.workers.taken)
        assert [] == self.clock.getDelayedCalls()
