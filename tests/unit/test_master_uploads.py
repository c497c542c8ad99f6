# SPDX-License-Identifier: MIT
"""A package that comes through the API is unpacked in a sandbox, described, and then the current one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.master.commands.tasks import TaskCommands
from pydra.cluster.master.packages import uploads
from pydra.cluster.master.packages.unpacking import UNPACK_S, Unpacking
from pydra.cluster.master.packages.uploads import AT_ONCE, Upload, Uploads
from pydra.cluster.packages.archive import pack
from pydra.cluster.wire.frames import FAILED, MORE, PART, UNPACK, UNPACKED, WANTED
from pydra.errors import (
    ClusterError,
    Conflict,
    InvalidParameters,
    NotFound,
    PydraError,
    RequestError,
    SandboxError,
    TooManyRequests,
)
from pydra.model.ids import PackageName
from tests.support.cables import unthreaded
from tests.support.libraries import LibraryBench
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker

DEMO = PackageName("demo")


class Bench(LibraryBench):
    """A library with uploads; the test plays the sandbox."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        unpacking = Unpacking(self.clock, self.workers, self.repository, unthreaded)
        self.uploads = Uploads(directory / "uploads", self.library, unpacking, unthreaded)
        self.source = directory / "source" / "demo"
        self.source.mkdir(parents=True)
        (self.source / "tasks.py").write_text("x = 1\n")
        self.archive = b"".join(pack(self.source))

    def begin(self, packed: bytes = b"packed", package: str = "demo") -> Upload:
        """A package comes, and is not finished."""
        upload = self.uploads.open(package)
        result_of(Deferred.fromCoroutine(upload.write(packed)))
        return upload

    def upload(self, packed: bytes = b"packed") -> Deferred[Any]:
        """All of a package came."""
        return Deferred.fromCoroutine(self.begin(packed).finish())

    def unpack(self) -> None:
        """The sandbox reads all and tells the archive in two parts."""
        worker = self.workers.last
        worker.says(WANTED)
        worker.says(WANTED)
        worker.says(PART, self.archive[:10])
        worker.says(PART, self.archive[10:])
        worker.says(UNPACKED, "ignored")

    @property
    def kept(self) -> list[str]:
        """Versions in the repository."""
        return [str(version) for version in self.repository.versions(DEMO)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """No packages; no worker may be left."""
    bench = Bench(tmp_path)
    yield bench
    bench.clock.advance(0)
    assert all(worker.is_gone or worker.is_killed for worker in bench.workers.taken)
    assert 0 == bench.uploads._under_way
    bench.close()


def test_an_upload_becomes_the_current_version(bench: Bench) -> None:
    """The sandbox gets its bytes as it asks for them; the answer has its version, tasks and errors."""
    uploaded = bench.upload(b"packed")
    sandbox: ScriptedWorker = bench.workers.last
    assert (None, [[UNPACK, "demo"]]) == (sandbox.package, sandbox.sent)
    bench.unpack()
    assert [[MORE, b"packed"], [MORE, b""], [MORE, b""], [MORE, b""]] == sandbox.sent[1:]
    assert sandbox.is_killed
    version = bench.describe("tasks.One")
    listed = result_of(uploaded)
    assert ("demo", version, ["demo.tasks.One"], []) == (
        listed["package"],
        listed["version"],
        listed["tasks"],
        listed["errors"],
    )
    assert [version] == bench.kept
    assert "demo.tasks.One" == bench.library.find("demo.tasks.One")[1].key
    assert [] == list((bench.directory / "uploads").iterdir())


def test_it_stays_after_a_restart(bench: Bench) -> None:
    """And is not described again."""
    uploaded = bench.upload()
    bench.unpack()
    bench.describe("tasks.One")
    result_of(uploaded)
    bench.new_library()
    result_of(bench.look())
    assert ["demo.tasks.One"] == bench.keys()


def test_it_can_be_removed(bench: Bench) -> None:
    """Then there is no such task; its files stay for what was accepted."""
    uploaded = bench.upload()
    bench.unpack()
    bench.describe("tasks.One")
    result_of(uploaded)
    commands = TaskCommands(bench.library, bench.store)
    assert [True] == [each["uploaded"] for each in bench.result(commands.package_list())]
    assert bench.result(commands.package_remove("demo"))
    assert not bench.result(commands.package_remove("demo"))
    assert not bench.result(commands.package_remove("../etc"))
    with pytest.raises(NotFound):
        bench.library.find("demo.tasks.One")
    assert 1 == len(bench.kept)


def test_a_package_in_tasks_dir_counts_more(bench: Bench) -> None:
    """Another one of its name is refused; one that was uploaded before gives way to it."""
    uploaded = bench.upload()
    bench.unpack()
    bench.describe("tasks.One")
    result_of(uploaded)
    bench.write("demo", "y = 2\n")
    looked = bench.look()
    bench.describe("tasks.Two")
    result_of(looked)
    assert ["demo.tasks.Two"] == bench.keys()
    with pytest.raises(Conflict, match="is in TASKS_DIR"):
        bench.uploads.open("demo")


def test_files_that_are_gone(bench: Bench) -> None:
    """An uploaded version without files says so."""
    uploaded = bench.upload()
    bench.unpack()
    version = bench.describe("tasks.One")
    result_of(uploaded)
    bench.repository.remove(DEMO, version)
    bench.new_library()
    result_of(bench.look())
    [description] = bench.library.packages()
    assert "upload it again" in description.errors[0].message


@pytest.mark.parametrize(
    ("said", "fault", "words"),
    [
        (
            [[FAILED, "package", "'../x': this is no path within a package.", ""]],
            InvalidParameters,
            "no path",
        ),
        ([[FAILED, "sandbox", "No space left.", ""]], RequestError, "No space left"),
        ([[99]], RequestError, "protocol"),
        ([[WANTED, 1]], RequestError, "protocol"),
        ([[PART, "text"]], RequestError, "protocol"),
        ([[UNPACKED, None]], RequestError, "protocol"),
        ([[UNPACKED, "x"]], InvalidParameters, "ended before the last file"),
        ([[PART, b"no archive"]], InvalidParameters, "no stream of a package"),
        ([[WANTED]] * 20, RequestError, "protocol"),
    ],
)
def test_what_the_sandbox_tells_is_not_trusted(
    bench: Bench, said: list[list[object]], fault: type[PydraError], words: str
) -> None:
    """What is no package, or breaks the protocol, is refused in words; nothing of it is kept."""
    uploaded = bench.upload()
    for frame in said:
        bench.workers.last.says(*frame)
    if not uploaded.called:
        bench.workers.last.exits(WorkerExit(1, "protocol"))
    with pytest.raises(fault, match=words):
        result_of(uploaded)
    assert ([], {}) == (bench.kept, bench.library._uploaded.versions())


def test_a_hostile_archive_from_the_sandbox(bench: Bench) -> None:
    """Each name is checked once more by whoever writes it."""
    archive = bench.archive.replace(b"tasks.py", b"../../xx")
    uploaded = bench.upload()
    bench.workers.last.says(PART, archive)
    with pytest.raises(InvalidParameters, match="no path within a package"):
        result_of(uploaded)
    assert [] == bench.kept


def test_a_sandbox_that_dies(bench: Bench) -> None:
    """It is told how."""
    uploaded = bench.upload()
    bench.workers.last.exits(WorkerExit(137, "out of memory"))
    with pytest.raises(RequestError, match="out of memory"):
        result_of(uploaded)


def test_a_sandbox_that_hangs(bench: Bench) -> None:
    """It has a minute."""
    uploaded = bench.upload()
    bench.clock.advance(UNPACK_S)
    with pytest.raises(RequestError, match="longer than 60 s"):
        result_of(uploaded)


def test_no_sandbox(bench: Bench) -> None:
    """The same upload may succeed later."""
    bench.workers.fault = SandboxError("No worker can be started.")
    with pytest.raises(SandboxError, match="No worker can be started"):
        result_of(bench.upload())


def test_a_description_that_cannot_be_had_now(bench: Bench) -> None:
    """The package is taken, and that is told."""
    uploaded = bench.upload()
    bench.workers.fault = SandboxError("No worker can be started.")
    bench.unpack()
    with pytest.raises(ClusterError, match="is not described yet"):
        result_of(uploaded)
    assert 1 == len(bench.library._uploaded.versions())


@pytest.mark.parametrize("name", ["", "..", "a/b", "json", "x" * 200, "\x00"])
def test_names_that_are_none(bench: Bench, name: str) -> None:
    """Nothing is opened for them."""
    with pytest.raises(InvalidParameters):
        bench.uploads.open(name)


def test_no_bytes_are_no_package(bench: Bench) -> None:
    """No sandbox is asked."""
    with pytest.raises(InvalidParameters, match="no bytes"):
        result_of(Deferred.fromCoroutine(bench.uploads.open("demo").finish()))
    assert [] == bench.workers.taken


def test_only_so_many_at_once(bench: Bench) -> None:
    """One that ends makes room."""
    begun = [bench.begin() for _ in range(AT_ONCE)]
    with pytest.raises(TooManyRequests):
        bench.uploads.open("demo")
    for each in begun:
        each.abort()
        each.abort()
    bench.uploads.open("demo").abort()


def test_too_many_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not written."""
    monkeypatch.setattr(uploads, "PACKED_LIMIT", 10)
    upload = bench.begin(zlib.compress(b"x"))
    with pytest.raises(RequestError, match="may have"):
        result_of(Deferred.fromCoroutine(upload.write(b"y" * 10)))
    upload.abort()
