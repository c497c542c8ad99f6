# SPDX-License-Identifier: MIT
"""The warm pool, with real launchers and sandboxes, does what all workers do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pydra.cluster.interfaces import WorkerListener, WorkerProcess
from pydra.cluster.sandbox.launcher.deadlines import boottime
from pydra.cluster.wire.frames import RUN
from tests.support.launchers import Bench, isolations, launcher
from tests.support.workers_contract import WorkersContract

REST_S = 0.3


class WarmedPool:
    """A warm pool as the suite wants it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def take(self, listener: WorkerListener) -> WorkerProcess:
        """One without a package."""
        return self.bench.wait(self.bench.pool.take(listener, None, None))

    def say(self, worker: WorkerProcess, value: str) -> None:
        """A result of statements is what it answers."""
        worker.send([RUN, f"result = {value!r}"])

    def write(self, worker: WorkerProcess, data: bytes) -> None:
        """Statements that write; their own answer is ``None``."""
        worker.send([RUN, f"import os\nos.write(1, {data!r})"])

    def leave(self, worker: WorkerProcess, status: int) -> None:
        """Statements that end it."""
        worker.send([RUN, f"import os\nos._exit({status})"])

    def until(self, true: Callable[[], object]) -> None:
        """Turn the reactor."""
        self.bench.until(true)

    def rest(self) -> None:
        """Turn the reactor for a while."""
        end = time.monotonic() + REST_S
        while time.monotonic() < end:
            self.bench.reactor.iterate(0.01)

    def now(self) -> float:
        """That of the machine."""
        return boottime()

    def stop(self) -> None:
        """Stop the pool."""
        self.bench.wait(self.bench.pool.stop())


@pytest.fixture(params=isolations())
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WarmedPool]:
    """A pool in each isolation that can be had here."""
    with launcher(tmp_path, request.param) as started:
        bench = Bench(started, request.param)
        try:
            yield WarmedPool(bench)
        finally:
            bench.close()


class TestWarmPool(WorkersContract):
    """The suite, on the warm pool."""
