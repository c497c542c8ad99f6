# SPDX-License-Identifier: MIT
"""When a file of a package ends the sandbox for all, each is looked at in a sandbox of its own."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.master.packages.describer import ANSWER_LIMIT, DESCRIBE_S
from pydra.cluster.wire import frames
from pydra.model.ids import TaskKey
from pydra.model.package import FileError, PackageDescription, TaskDescription
from tests.support.describers import DEMO, DescriberBench
from tests.support.instances import VERSION
from tests.support.pumps import result_of


@pytest.fixture
def bench() -> Iterator[DescriberBench]:
    """A describer."""
    bench = DescriberBench()
    yield bench
    bench.close()


def one_by_one(bench: DescriberBench, *files: str) -> Deferred[PackageDescription]:
    """The package has these files, and one of them has ended the sandbox for all."""
    described = Deferred.fromCoroutine(bench.describer.describe(DEMO, VERSION, files=files))
    bench.workers.last.exits(WorkerExit(137, "killed by SIGKILL"))
    return described


def tells(
    bench: DescriberBench, file: str, *keys: str, size: int = 0, errors: tuple[FileError, ...] = ()
) -> None:
    """The last worker was asked for this file, and tells these tasks."""
    assert [file] == bench.workers.last.sent[0][-1]
    tasks = tuple(TaskDescription(TaskKey(key), "x" * size) for key in keys)
    told = PackageDescription(DEMO, VERSION, tasks, errors)
    bench.workers.last.says(frames.DESCRIBED, msgspec.msgpack.encode(told))


def test_describe_one_by_one(bench: DescriberBench) -> None:
    """A file that ends the sandbox hides only itself, and one that names others tells nothing of them."""
    described = one_by_one(bench, "bad.py", "broken.py", "tasks.py")
    bench.workers.last.exits(WorkerExit(137, "killed by SIGKILL"))
    tells(bench, "broken.py", errors=(FileError("tasks.py", "No such module."),))
    tells(bench, "tasks.py", "demo.tasks.One", "demo.broken.Two", "other.tasks.Three")
    description = result_of(described)
    assert ["demo.tasks.One"] == [task.key for task in description.tasks]
    assert ["bad.py", "broken.py"] == [error.file for error in description.errors]
    assert "killed by SIGKILL" in description.errors[0].message
    assert "No such module." == description.errors[1].message
    assert 4 == len(bench.workers.taken)


def test_describe_one_by_one_has_an_end(bench: DescriberBench) -> None:
    """In time, and in what is told."""
    described = one_by_one(bench, *(f"f{number}.py" for number in range(10)))
    for _ in range(6):
        bench.clock.advance(DESCRIBE_S)
    messages = [error.message for error in result_of(described).errors]
    assert 10 == len(messages)
    assert 3 == sum("longer than 10 s" in message for message in messages)
    assert 7 == sum("not looked at" in message for message in messages)
    described = one_by_one(bench, "a.py", "b.py", "c.py")
    tells(bench, "a.py", "demo.a.T", size=ANSWER_LIMIT // 2)
    tells(bench, "b.py", "demo.b.T", size=ANSWER_LIMIT // 2)
    assert ["c.py"] == [error.file for error in result_of(described).errors]
