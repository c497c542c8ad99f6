# SPDX-License-Identifier: MIT
"""Describing a package whose files end the sandbox: they are found by quarters of it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.master.packages.describer import APART_S, DESCRIBE_S, Describer
from pydra.cluster.wire import frames
from pydra.model.ids import PackageName, TaskKey
from pydra.model.package import FileError, PackageDescription, TaskDescription
from tests.support.instances import VERSION
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorkers

DEMO = PackageName("demo")
KEY = TaskKey("demo.tasks.Count")


class Bench:
    """A describer whose workers are scripted."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.workers = ScriptedWorkers(self.clock)
        self.describer = Describer(self.clock, self.clock.seconds, self.workers)

    def describe(self, *files: str) -> Deferred[PackageDescription]:
        """Ask what demo says, which has these files."""
        return Deferred.fromCoroutine(self.describer.describe(DEMO, VERSION, files=files))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A describer; nothing of it may be left."""
    bench = Bench()
    yield bench
    bench.clock.advance(0)
    assert all(worker.is_gone for worker in bench.workers.taken)
    assert [] == bench.clock.getDelayedCalls()


def die_with(bench: Bench, described: Deferred[PackageDescription], *killers: str) -> list[list[str]]:
    """All runs of these files die; others tell a task for each of theirs. The files of each run."""
    asked: list[list[str]] = []
    while not described.called:
        worker = bench.workers.last
        files: list[str] = worker.sent[0][4]  # type: ignore[assignment]
        asked.append(files)
        if set(files) & set(killers):
            worker.exits(WorkerExit(137, "killed by SIGKILL"))
        else:
            tasks = tuple(TaskDescription(TaskKey(f"demo.{file[:-3]}.T"), "") for file in files)
            told = PackageDescription(DEMO, VERSION, tasks, (FileError(files[0], "odd"),))
            worker.says(frames.DESCRIBED, msgspec.msgpack.encode(told))
    return asked


def test_describe_apart(bench: Bench) -> None:
    """If files end the sandbox they are found; each says so, and the others are told."""
    described = bench.describe(*(f"f{number}.py" for number in range(8)))
    bench.workers.last.exits(WorkerExit(137, "killed by SIGKILL"))
    asked = die_with(bench, described, "f2.py", "f7.py")
    description = result_of(described)
    assert not description.late
    assert [f"demo.f{number}.T" for number in (0, 1, 3, 4, 5, 6)] == [task.key for task in description.tasks]
    told = {error.file: error.message for error in description.errors}
    assert told["f2.py"] == told["f7.py"] == "The package's own code ended its process: killed by SIGKILL."
    assert ["f0.py", "f2.py", "f3.py", "f4.py", "f6.py", "f7.py"] == [
        each.file for each in description.errors
    ]
    assert [2, 2, 2, 2, 1, 1, 1, 1] == [len(each) for each in asked]


@pytest.mark.parametrize("count", [50, 500])
def test_describe_apart_takes_too_long(bench: Bench, count: int) -> None:
    """After a while the files that are left are told not to have been looked at, and no more is started."""
    described = bench.describe(*(f"f{number}.py" for number in range(count)))
    while not described.called:
        bench.clock.advance(DESCRIBE_S)
        assert APART_S + 2 * DESCRIBE_S > bench.clock.seconds()
    description = result_of(described)
    assert description.late
    errors = description.errors
    assert (50 if count == 50 else 1) == len(errors)
    assert "not looked at: " in errors[0].message


def test_a_large_package_with_one_such_file(bench: Bench) -> None:
    """A few sandboxes find it among thousands."""
    described = bench.describe(*(f"f{number}.py" for number in range(5000)))
    bench.workers.last.exits(WorkerExit(137, "killed by SIGKILL"))
    asked = die_with(bench, described, "f4321.py")
    assert 4999 == len(result_of(described).tasks)
    assert 40 > len(asked)
