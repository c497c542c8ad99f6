# SPDX-License-Identifier: MIT
"""The scripted workers do what all workers do; the real ones are held to it in tests/integration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import WorkerExit, WorkerListener, WorkerProcess
from pydra.cluster.wire.frames import RESULT
from pydra.model.ids import PackageName, PackageVersion
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker, ScriptedWorkers
from tests.support.workers_contract import Recorder, WorkersContract


class ScriptedPool:
    """Scripted workers as the suite wants them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.workers = ScriptedWorkers(self.clock)
        result_of(Deferred.fromCoroutine(self.workers.start()))

    def take(self, listener: WorkerListener) -> WorkerProcess:
        """One without a package."""
        return result_of(Deferred.fromCoroutine(self.workers.take(listener, None, None)))

    def say(self, worker: WorkerProcess, value: str) -> None:
        """It answers."""
        assert isinstance(worker, ScriptedWorker)
        worker.says(RESULT, value)

    def write(self, worker: WorkerProcess, data: bytes) -> None:
        """It writes."""
        assert isinstance(worker, ScriptedWorker)
        worker.writes(data)

    def leave(self, worker: WorkerProcess, status: int) -> None:
        """It ends."""
        assert isinstance(worker, ScriptedWorker)
        worker.exits(WorkerExit(status, "it ended"))

    def until(self, true: Callable[[], object]) -> None:
        """One turn is enough."""
        self.rest()
        assert true()

    def rest(self) -> None:
        """One turn."""
        self.clock.advance(0)

    def now(self) -> float:
        """The clock of the test."""
        return self.clock.seconds()

    def stop(self) -> None:
        """At once."""
        result_of(Deferred.fromCoroutine(self.workers.stop()))


@pytest.fixture
def pool() -> Iterator[ScriptedPool]:
    """Started, and stopped in the end."""
    pool = ScriptedPool()
    yield pool
    pool.stop()
    pool.rest()
    assert [] == pool.clock.getDelayedCalls()


class TestScriptedWorkers(WorkersContract):
    """The suite, on scripted workers."""

    def test_what_a_test_may_look_at(self, pool: ScriptedPool) -> None:
        """The package, and what was sent, read back from its bytes."""
        taken = pool.workers.take(Recorder(), PackageName("demo"), PackageVersion("ab" * 32))
        worker = result_of(Deferred.fromCoroutine(taken))
        worker.send([1, ("a", b"b"), {"c": None}])
        assert ("demo", "ab" * 32) == (worker.package, worker.version)
        assert [[1, ["a", b"b"], {"c": None}]] == worker.sent
