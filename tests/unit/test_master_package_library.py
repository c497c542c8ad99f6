# SPDX-License-Identifier: MIT
"""The look at ``TASKS_DIR``: what is new, changed, gone or broken, and what is not read again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.master.packages.describer import DESCRIBE_S
from pydra.cluster.packages.archive import Unpacker
from pydra.errors import NotFound, PackageChanging, PydraError, SandboxError
from pydra.events import PackageChanged
from pydra.model.ids import PackageName, PackageVersion, TaskKey
from pydra.model.package import FileError
from tests.support.cables import unthreaded
from tests.support.libraries import SCAN_S, LibraryBench
from tests.support.pumps import result_of

DEMO = PackageName("demo")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LibraryBench]:
    """No packages."""
    bench = LibraryBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def taken(bench: LibraryBench) -> LibraryBench:
    """Package demo is there, with one task."""
    bench.write()
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)
    bench.events.clear()
    return bench


def test_new(bench: LibraryBench) -> None:
    """A new package is kept, described, stored, and then its tasks can be found."""
    bench.write()
    looked = bench.look()
    assert not looked.called
    assert [] == bench.keys()
    version = bench.describe("tasks.One", "tasks.Two")
    assert result_of(looked) is None
    assert ["demo.tasks.One", "demo.tasks.Two"] == bench.keys()
    assert [PackageChanged(DEMO, version)] == bench.events
    assert bench.repository.has(DEMO, version)
    description, task = bench.library.find("demo.tasks.Two")
    assert (version, "This is tasks.Two.") == (description.version, task.description)
    assert description == result_of(Deferred.fromCoroutine(bench.store.package(DEMO, version)))


def test_unchanged(taken: LibraryBench) -> None:
    """What did not change is neither read nor described again."""
    assert result_of(taken.look()) is None
    assert [] == taken.added
    assert [] == taken.events
    assert 1 == len(taken.workers.taken)


def test_changed(taken: LibraryBench) -> None:
    """A change makes a new version, which is the current one when it is described; the old one stays."""
    old = taken.library.packages()[0]
    taken.write(text="x = 2\n")
    looked = taken.look()
    assert old == taken.library.packages()[0]
    new = taken.describe("tasks.Other")
    result_of(looked)
    assert ["demo.tasks.Other"] == taken.keys()
    assert [PackageChanged(DEMO, new)] == taken.events
    assert taken.repository.has(DEMO, old.version)
    text = Deferred.fromCoroutine(taken.library.description(DEMO, old.version, TaskKey("demo.tasks.One")))
    assert "This is tasks.One." == result_of(text)


def test_changed_and_back(taken: LibraryBench) -> None:
    """A version that was described before is not asked again."""
    old = taken.library.packages()[0].version
    taken.write(text="x = 2\n")
    looked = taken.look()
    taken.describe("tasks.Other")
    result_of(looked)
    taken.write(text="x = 1\n")
    result_of(taken.look())
    assert [old] == [description.version for description in taken.library.packages()]
    assert ["demo.tasks.One"] == taken.keys()
    assert 2 == len(taken.workers.taken)


def test_touched_only(taken: LibraryBench) -> None:
    """A file that was saved without a change is read again, and is the same version."""
    os.utime(taken.tasks_dir / "demo" / "tasks.py", (5, 5))
    result_of(taken.look())
    assert ["demo"] == taken.added
    assert ["demo.tasks.One"] == taken.keys()
    assert 1 == len(taken.workers.taken)


def test_made_executable(taken: LibraryBench) -> None:
    """The mode of a file is part of the version, and its change is noticed."""
    (taken.tasks_dir / "demo" / "tasks.py").chmod(0o755)
    looked = taken.look()
    assert 2 == len(taken.workers.taken)
    taken.describe("tasks.One")
    result_of(looked)


def test_gone(taken: LibraryBench) -> None:
    """A package that is gone has no tasks any more; its versions stay."""
    version = taken.library.packages()[0].version
    (taken.tasks_dir / "demo" / "tasks.py").unlink()
    (taken.tasks_dir / "demo").rmdir()
    result_of(taken.look())
    assert [] == taken.library.packages()
    assert [PackageChanged(DEMO, None)] == taken.events
    assert taken.repository.has(DEMO, version)
    with pytest.raises(NotFound, match="no package 'demo'"):
        taken.library.find("demo.tasks.One")


def test_without_tasks_dir(taken: LibraryBench) -> None:
    """Without ``TASKS_DIR`` there are no packages."""
    taken.tasks_dir.rename(taken.directory / "elsewhere")
    result_of(taken.look())
    assert [] == taken.library.packages()


def test_broken_files(bench: LibraryBench) -> None:
    """A broken file hides its own tasks alone, and who asks for them learns why."""
    bench.write()
    looked = bench.look()
    bench.describe("tasks.One", errors=(FileError("other.py", "SyntaxError: invalid syntax"),))
    result_of(looked)
    assert ["demo.tasks.One"] == bench.keys()
    with pytest.raises(NotFound, match=r"other\.py: SyntaxError"):
        bench.library.find("demo.other.Two")
    with pytest.raises(NotFound, match="in package 'demo'"):
        bench.library.find("demo.tasks.Two")


@pytest.mark.parametrize("key", ["", ".", "demo", "demo.", ".demo", "a.b.c.d", "\x00", "x" * 10_000])
def test_keys_of_nothing(taken: LibraryBench, key: str) -> None:
    """A key that is none names nothing."""
    with pytest.raises(NotFound):
        taken.library.find(key)


def test_refused(bench: LibraryBench) -> None:
    """A package that breaks a rule is shown with the reason, and not read again until it changes."""
    path = bench.write()
    (path.parent / "link.py").symlink_to("/etc/passwd")
    result_of(bench.look())
    [description] = bench.library.packages()
    assert ((), "") == (description.tasks, description.errors[0].file)
    assert "link.py" in description.errors[0].message
    with pytest.raises(NotFound, match=r"link\.py"):
        bench.library.find("demo.tasks.One")
    result_of(bench.look())
    assert [] == bench.added
    (path.parent / "link.py").unlink()
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)
    assert ["demo.tasks.One"] == bench.keys()


def test_refused_later(taken: LibraryBench) -> None:
    """While a package cannot be taken, the version before stays current."""
    (taken.tasks_dir / "demo" / "link.py").symlink_to("/etc/passwd")
    result_of(taken.look())
    assert ["demo.tasks.One"] == taken.keys()


def test_refused_and_gone(bench: LibraryBench) -> None:
    """A package that could never be read is forgotten when it is gone."""
    bench.write()

    def failing(source: Path) -> PackageVersion:
        raise OSError("Input/output error")

    add, bench.repository.add = bench.repository.add, failing  # type: ignore[method-assign]
    result_of(bench.look())
    assert "Input/output error" in bench.library.packages()[0].errors[0].message
    bench.repository.add = add  # type: ignore[method-assign]
    (bench.tasks_dir / "demo" / "tasks.py").unlink()
    (bench.tasks_dir / "demo").rmdir()
    result_of(bench.look())
    assert [] == bench.library.packages()


def test_changing(bench: LibraryBench) -> None:
    """A package that is being saved is looked at again, without a word."""
    bench.write()
    add = bench.repository.add

    def changing(source: Path) -> PackageVersion:
        raise PackageChanging

    bench.repository.add = changing  # type: ignore[method-assign]
    result_of(bench.look())
    assert [] == bench.library.packages()
    bench.repository.add = add  # type: ignore[method-assign]
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)


def test_impossible_names(bench: LibraryBench) -> None:
    """A directory whose name is none for a package is shown with the reason; its neighbour is taken."""
    bench.write("json")
    bench.write("demo")
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)
    assert ["demo.tasks.One"] == bench.keys()
    assert ["demo", "json"] == [description.package for description in bench.library.packages()]


def test_sandbox_away(taken: LibraryBench) -> None:
    """Without a sandbox the old version stays; when it is back, the new one is described."""
    taken.write(text="x = 2\n")
    taken.workers.fault = SandboxError("No worker can be started.")
    for _ in range(2):
        result_of(taken.look())
        assert ["demo.tasks.One"] == taken.keys()
    taken.workers.fault = None
    looked = taken.look()
    taken.describe("tasks.Other")
    result_of(looked)
    assert ["demo.tasks.Other"] == taken.keys()


def test_store_away(bench: LibraryBench) -> None:
    """While the store refuses, a package is not shown; then it is described again."""
    bench.write()
    bench.store.refuse("locked")
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)
    assert [] == bench.keys()
    bench.store.accept()
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)
    assert ["demo.tasks.One"] == bench.keys()


def test_code_that_cannot_be_asked(bench: LibraryBench) -> None:
    """Code that hangs or crashes is shown with the reason; the next look does not ask again, a start does."""
    bench.write()
    looked = bench.look()
    bench.clock.advance(DESCRIBE_S)
    result_of(looked)
    assert "longer than 10 s" in bench.library.packages()[0].errors[0].message
    result_of(bench.look())
    assert 1 == len(bench.workers.taken)
    bench.new_library()
    looked = bench.look()
    bench.workers.last.exits(WorkerExit(1, "it exited"))
    result_of(looked)
    assert "it exited" in bench.library.packages()[0].errors[0].message
    bench.new_library()
    looked = bench.look()
    bench.describe("tasks.One")
    result_of(looked)
    assert ["demo.tasks.One"] == bench.keys()


def test_restart(taken: LibraryBench) -> None:
    """A master that starts anew reads the packages, and describes only what it does not know."""
    taken.new_library()
    result_of(taken.look())
    assert ["demo.tasks.One"] == taken.keys()
    assert 1 == len(taken.workers.taken)


def test_again_and_again(bench: LibraryBench) -> None:
    """It looks at its start, and then every few seconds, one look at a time, until it is stopped."""
    bench.write()
    bench.library.start()
    bench.clock.advance(SCAN_S)
    assert ["demo"] == bench.added
    bench.describe("tasks.One")
    bench.write(text="x = 2\n")
    bench.clock.advance(SCAN_S - 0.1)
    assert 1 == len(bench.workers.taken)
    bench.clock.advance(0.1)
    assert 2 == len(bench.workers.taken)
    bench.library.stop()
    bench.clock.advance(60)
    assert ["demo.tasks.One"] == bench.keys()
    assert 2 == len(bench.workers.taken)


def test_a_look_that_fails(bench: LibraryBench) -> None:
    """Whatever goes wrong with one look, the next one comes."""

    async def broken(*_: Any) -> Any:
        raise ValueError("a fault")

    bench.library._in_thread = broken
    bench.library.start()
    bench.library._in_thread = unthreaded
    bench.write()
    bench.clock.advance(SCAN_S)
    bench.describe("tasks.One")
    assert ["demo.tasks.One"] == bench.keys()


def test_stream(taken: LibraryBench, tmp_path: Path) -> None:
    """A version is sent as an archive that makes the same version."""
    version = taken.library.packages()[0].version
    unpacker = Unpacker(tmp_path / "node", DEMO, version)

    async def unpack() -> None:
        async for chunk in taken.library.stream(DEMO, version):
            unpacker.write(chunk)

    result_of(Deferred.fromCoroutine(unpack()))
    assert "x = 1\n" == (unpacker.finish() / "tasks.py").read_text()


@pytest.mark.parametrize(
    ("package", "version"), [("demo", "ab" * 32), ("other", "ab" * 32), ("..", ""), ("demo", "../../etc")]
)
def test_stream_of_nothing(taken: LibraryBench, package: str, version: str) -> None:
    """What is not there cannot be sent, whatever it is called."""

    async def first() -> object:
        return await anext(taken.library.stream(PackageName(package), PackageVersion(version)))

    with pytest.raises(PydraError, match=r"no version"):
        result_of(Deferred.fromCoroutine(first()))


def test_description_of_nothing(taken: LibraryBench) -> None:
    """Of a version or task that is not known there is no description."""
    for version, key in [(PackageVersion("ab" * 32), "demo.tasks.One"), (PackageVersion(""), "")]:
        text = Deferred.fromCoroutine(taken.library.description(DEMO, version, TaskKey(key)))
        assert "" == result_of(text)


def test_a_slow_package_does_not_keep_others_waiting(bench: LibraryBench) -> None:
    """Two are described at a time."""
    for package in ("a", "b", "c", "d"):
        bench.write(package)
    looked = bench.look()
    assert ["a", "b"] == [worker.package for worker in bench.workers.taken]
    for _ in range(3):
        bench.describe("tasks.One")
    assert ["b.tasks.One", "c.tasks.One", "d.tasks.One"] == bench.keys()
    assert not looked.called
    bench.describe("tasks.One", worker=bench.workers.taken[0])
    assert looked.called
    assert 4 == len(bench.keys())


@pytest.mark.parametrize("fault", [RuntimeError("odd"), PermissionError("not allowed")])
def test_whatever_goes_wrong_with_packages(bench: LibraryBench, fault: Exception) -> None:
    """Packages that cannot be settled, for whatever reason, keep no other one away, and are tried again."""
    packages = ("a", "b", "c", "d")
    for package in packages:
        bench.write(package)
    describe = bench.library._describer.describe

    async def failing(package: PackageName, *rest: Any) -> Any:
        if package in ("a", "b"):
            raise fault
        return await describe(package, *rest)

    bench.library._describer.describe = failing  # type: ignore[method-assign]
    looked = bench.look()
    for worker in list(bench.workers.taken):
        bench.describe("tasks.One", worker=worker)
    assert looked.called
    assert ["c.tasks.One", "d.tasks.One"] == bench.keys()
    bench.library._describer.describe = describe  # type: ignore[method-assign]
    looked = bench.look()
    for worker in bench.workers.taken[2:]:
        bench.describe("tasks.One", worker=worker)
    assert looked.called
    assert [f"{package}.tasks.One" for package in packages] == bench.keys()
