# SPDX-License-Identifier: MIT
"""A version is kept whole or not at all, and travels as a stream that is checked."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from pydra.cluster.packages.archive import MARK, Unpacker, pack
from pydra.cluster.packages.content import PackageFile, VersionDigest, read_content
from pydra.cluster.packages.repository import Repository
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName, PackageVersion

DEMO = PackageName("demo")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "tasks" / "demo"
    (directory / "lib" / "deep").mkdir(parents=True)
    (directory / "tasks.py").write_text("A = 1\n")
    (directory / "lib" / "deep" / "empty.py").touch()
    (directory / "run").write_bytes(os.urandom(600_000))
    (directory / "run").chmod(0o777)
    return directory


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def left(tmp_path: Path, root: str = "repository") -> list[str]:
    """What is below a root besides the package."""
    return sorted(path.name for path in (tmp_path / root).iterdir() if path.name != "demo")


def test_a_package_is_added_under_its_version(tmp_path: Path, source: Path, repository: Repository) -> None:
    """The copy has the same content, cannot be written, and nothing else is left."""
    version = repository.add(source)
    path = repository.path(DEMO, version)
    assert read_content(source) == read_content(path)
    assert repository.has(DEMO, version)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.rglob("*")}
    assert modes == {"tasks.py": 0o444, "run": 0o555, "lib": 0o755, "deep": 0o755, "empty.py": 0o444}
    assert left(tmp_path) == []


def test_versions_are_told_with_the_newest_first(source: Path, repository: Repository) -> None:
    """One that is added again is the newest again."""
    first = repository.add(source)
    os.utime(repository.path(DEMO, first), (1, 1))
    (source / "tasks.py").write_text("A = 2\n")
    second = repository.add(source)
    assert repository.versions(DEMO) == [second, first]
    (source / "tasks.py").write_text("A = 1\n")
    os.utime(repository.path(DEMO, second), (2, 2))
    assert repository.add(source) == first
    assert repository.versions(DEMO) == [first, second]
    assert repository.versions(PackageName("absent")) == []


def test_a_refused_package_leaves_nothing(tmp_path: Path, source: Path, repository: Repository) -> None:
    """Neither a version nor a part of one."""
    (source / "zz").symlink_to("tasks.py")
    with pytest.raises(PackageRefused):
        repository.add(source)
    assert repository.versions(DEMO) == []
    assert left(tmp_path) == []
    with pytest.raises(PackageRefused):
        repository.add(source.rename(source.parent / "os"))


@pytest.mark.parametrize("version", ["", "..", "x" * 64, "0" * 63, "A" * 64, "../" + "0" * 61])
def test_a_version_is_never_a_path(repository: Repository, version: str) -> None:
    """What is no version is refused before any file is looked at."""
    with pytest.raises(PackageRefused):
        repository.path(DEMO, PackageVersion(version))
    with pytest.raises(PackageRefused):
        repository.path(PackageName(".."), PackageVersion("0" * 64))


def test_a_sweep_removes_what_was_left_unfinished(
    tmp_path: Path, source: Path, repository: Repository
) -> None:
    """Whole versions stay."""
    version = repository.add(source)
    (tmp_path / "repository" / ".new-x" / "demo").mkdir(parents=True)
    repository.sweep()
    assert left(tmp_path) == []
    assert repository.has(DEMO, version)


@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_a_version_travels(tmp_path: Path, source: Path, repository: Repository, size: int) -> None:
    """However the stream is cut, the same version arrives."""
    if size == 1:
        (source / "run").write_bytes(b"short")
    version = repository.add(source)
    stream = b"".join(pack(repository.path(DEMO, version)))
    unpacker = Unpacker(tmp_path / "there", DEMO, version)
    for start in range(0, len(stream), size):
        unpacker.write(stream[start : start + size])
    place = unpacker.finish()
    assert place == tmp_path / "there" / "demo" / version
    assert read_content(place) == read_content(source)
    assert left(tmp_path, "there") == []


def test_a_version_that_is_there_already_stays(tmp_path: Path, source: Path, repository: Repository) -> None:
    """Two that bring the same are both served."""
    version = repository.add(source)
    chunks = list(pack(repository.path(DEMO, version)))
    unpackers = [Unpacker(tmp_path / "there", DEMO, version) for _ in range(2)]
    for unpacker in unpackers:
        for chunk in chunks:
            unpacker.write(chunk)
    assert unpackers[0].finish() == unpackers[1].finish()
    assert left(tmp_path, "there") == []


def test_links_made_while_packing_do_not_disturb(
    source: Path, repository: Repository, tmp_path: Path
) -> None:
    """A sandbox takes its files from the repository by hard links, at any time."""
    path = repository.path(DEMO, repository.add(source))
    stream = b""
    for chunk in pack(path):
        os.link(path / "run", tmp_path / f"run{len(stream)}")
        os.link(path / "tasks.py", tmp_path / f"tasks{len(stream)}")
        stream += chunk
    assert stream.endswith(b"A = 1\n")


def stream_of(files: list[tuple[str, bool, int]], data: bytes = b"", head: bytes | None = None) -> bytes:
    listed = msgspec.msgpack.encode(files) if head is None else head
    return MARK + len(listed).to_bytes(4, "big") + listed + data


@pytest.mark.parametrize(
    "stream",
    [
        b"not a package at all",
        b"",
        MARK,
        MARK + b"\xff\xff\xff\xff",
        stream_of([], head=b"\xc1"),
        stream_of([], head=b"\x91" * 100_000),
        stream_of([], head=msgspec.msgpack.encode({"a": 1})),
        stream_of([], head=msgspec.msgpack.encode([[1, 2, 3]])),
        stream_of([("../up", False, 1)], b"x"),
        stream_of([("/etc/x", False, 1)], b"x"),
        stream_of([("a\0", False, 1)], b"x"),
        stream_of([("a\n", False, 1)], b"x"),
        stream_of([("a", False, -1)], b"x"),
        stream_of([("a", False, 2**40)], b"x"),
        stream_of([("a", False, 2**63 - 1)], b"x"),
        stream_of([("b", False, 1), ("a", False, 1)], b"xx"),
        stream_of([("a", False, 1), ("a", False, 1)], b"xx"),
        stream_of([("a", False, 1), ("a/b", False, 1)], b"xx"),
        stream_of([("A", False, 1), ("a", False, 1)], b"xx"),
        stream_of([("A/x", False, 1), ("a/y", False, 1)], b"xx"),
        stream_of([("a", False, 2)], b"x"),
        stream_of([("a", False, 1)], b"xx"),
        stream_of([("a", False, 1)], b"x"),
        stream_of([(f"{n:05}", False, 0) for n in range(10_001)]),
    ],
)
def test_a_stream_that_is_not_right_is_refused(tmp_path: Path, stream: bytes) -> None:
    """Nothing of it is kept, and nothing outside was touched."""
    unpacker = Unpacker(tmp_path / "there", DEMO, PackageVersion("0" * 64))

    def whole() -> None:
        unpacker.write(stream)
        unpacker.finish()

    with pytest.raises(PackageRefused):
        whole()
    unpacker.abort()
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_name_with_no_utf8_is_refused(tmp_path: Path) -> None:
    """Bytes that are no text are no list of files."""
    unpacker = Unpacker(tmp_path / "there", DEMO, PackageVersion("0" * 64))
    with pytest.raises(PackageRefused):
        unpacker.write(stream_of([], head=b"\x91\x93\xa1\xff\xc2\x00"))
    unpacker.abort()


def test_changed_content_under_a_known_version_is_refused(tmp_path: Path) -> None:
    """The version is computed from what came."""
    digest = VersionDigest()
    digest.begin(PackageFile("a", False, 1))
    digest.update(b"x")
    for data, good in ((b"y", False), (b"x", True)):
        unpacker = Unpacker(tmp_path / "there", DEMO, digest.version())
        unpacker.write(stream_of([("a", False, 1)], data))
        if good:
            assert (unpacker.finish() / "a").read_bytes() == b"x"
        else:
            with pytest.raises(PackageRefused, match="The package that came is version"):
                unpacker.finish()
            unpacker.abort()


def test_old_versions_are_told_and_removed(tmp_path: Path, source: Path, repository: Repository) -> None:
    """All but the newest, of each package; what is no package is left alone."""
    versions = []
    for number in range(3):
        (source / "tasks.py").write_text(f"A = {number}\n")
        versions.append(repository.add(source))
        os.utime(repository.path(DEMO, versions[-1]), (number, number))
    (repository.root / "not a package").mkdir()
    assert {(DEMO, versions[0])} == repository.older(2)
    assert 600_006 == repository.size(DEMO, versions[0])
    assert [(DEMO, version, 600_006) for version in versions] == repository.everything()
    repository.remove(DEMO, versions[0])
    repository.remove(DEMO, versions[0])
    assert versions[:0:-1] == repository.versions(DEMO)
    assert set() == repository.older(2)
    assert 0 == repository.size(DEMO, versions[0])
    assert ["not a package"] == left(tmp_path)


def test_nothing_is_old_where_nothing_is(repository: Repository) -> None:
    """Before the first package there is not even a directory."""
    assert (set(), []) == (repository.older(1), repository.everything())


@pytest.mark.parametrize("version", ["", "..", "x" * 64, "../" * 21 + "a"])
def test_only_versions_are_removed(repository: Repository, source: Path, version: str) -> None:
    """Nothing else can be named."""
    repository.add(source)
    with pytest.raises(PackageRefused):
        repository.remove(DEMO, PackageVersion(version))
