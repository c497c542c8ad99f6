# SPDX-License-Identifier: MIT
"""The content of a package names its version; what breaks a rule is refused by name."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pydra.cluster.packages import content
from pydra.cluster.packages.content import find_files, name_problem, path_problem, read_content, stamp
from pydra.cluster.packages.scan import scan
from pydra.errors import PackageChanging, PackageRefused


@pytest.fixture
def package(tmp_path: Path) -> Path:
    directory = tmp_path / "demo"
    (directory / "lib").mkdir(parents=True)
    (directory / "META").write_text("description = demo\n")
    (directory / "tasks.py").write_text("A = 1\n")
    (directory / "lib" / "empty.py").touch()
    return directory


def test_a_file_that_may_not_be_read(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by name, and not taken for one that changes, which would be tried again for ever."""

    def refused(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PackageRefused, match=r"'demo/META' cannot be read by user \d+: Permission denied"):
        read_content(package)


def test_the_files_are_those_of_the_directory(package: Path) -> None:
    """By path, with size and executable bit."""
    (package / "run").write_text("x")
    (package / "run").chmod(0o755)
    found = read_content(package)
    assert [(file.path, file.executable, file.size) for file in found.files] == [
        ("META", False, 19),
        ("lib/empty.py", False, 0),
        ("run", True, 1),
        ("tasks.py", False, 6),
    ]
    assert len(found.version) == 64


def test_the_same_content_is_the_same_version(package: Path) -> None:
    """Neither time, place nor the permissions of others matter."""
    version = read_content(package).version
    os.utime(package / "tasks.py", (1, 1))
    (package / "tasks.py").chmod(0o600)
    moved = package.rename(package.parent / "other")
    assert version == read_content(moved).version


@pytest.mark.parametrize(
    "change",
    [
        lambda package: (package / "tasks.py").rename(package / "renamed.py"),
        lambda package: (package / "tasks.py").write_text("A = 2\n"),
        lambda package: (package / "tasks.py").chmod(0o755),
        lambda package: (package / "lib" / "empty.py").unlink(),
        lambda package: (package / "more.py").touch(),
        lambda package: (package / "lib").rename(package / "bil"),
    ],
)
def test_any_change_is_another_version(package: Path, change: Callable[[Path], object]) -> None:
    """A rename alone, a byte, the executable bit, one file less or more."""
    version, stamped = read_content(package).version, stamp(package)
    change(package)
    assert version != read_content(package).version
    assert stamped != stamp(package)


def test_the_stamp_stays_while_nothing_changes(package: Path) -> None:
    """So a scan need not read what it has read."""
    assert stamp(package) == stamp(package)


def test_names_and_contents_cannot_be_confused(tmp_path: Path) -> None:
    """Bytes moved from a name into a content make another version."""
    versions = set()
    for name, text in (("ab", "c"), ("a", "bc"), ("abc", "")):
        directory = tmp_path / f"p{name}"
        directory.mkdir()
        (directory / name).write_text(text)
        versions.add(read_content(directory).version)
    assert len(versions) == 3


def test_compiled_hidden_and_editors_files_are_no_part(package: Path) -> None:
    """They neither count nor are they refused."""
    version = read_content(package).version
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "tasks.pyc").write_bytes(b"x")
    (package / ".git").mkdir()
    for name in ("tasks.pyc", "tasks.py~", "#tasks.py#", ".tasks.py.swp", ".hidden"):
        (package / name).write_bytes(b"x")
    (package / ".#tasks.py").symlink_to("someone@somewhere")
    assert version == read_content(package).version


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda package: (package / "link.py").symlink_to("tasks.py"), "'link.py' is a symbolic link"),
        (lambda package: (package / "lib" / "up").symlink_to(".."), "'lib/up' is a symbolic link"),
        (lambda package: os.mkfifo(package / "pipe"), "'pipe' is a pipe"),
        (lambda package: make_socket(package / "socket"), "'socket' is a socket"),
        (lambda package: (package / "TASKS.py").touch(), "differ only in case"),
        (lambda package: (package / "two\nlines").touch(), "has a character"),
        (lambda package: (package / "back\\slash").touch(), "has a character"),
        (lambda package: (package / "right\u202eleft").touch(), "has a character"),
        (lambda package: Path(os.fsdecode(bytes(package) + b"/\xff.py")).touch(), "is not UTF-8"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(
    package: Path, make: Callable[[Path], object], words: str
) -> None:
    """The message names the file."""
    make(package)
    with pytest.raises(PackageRefused, match=words.replace("\\", "\\\\")):
        read_content(package)


def test_a_link_to_a_package_is_refused(package: Path) -> None:
    """The directory itself is looked at as well."""
    link = package.parent / "linked"
    link.symlink_to(package)
    with pytest.raises(PackageRefused, match="'linked' is not a directory"):
        read_content(link)


def test_a_huge_file_is_refused_without_reading_it(package: Path) -> None:
    """A terabyte of nothing is known by its size."""
    with (package / "sparse").open("wb") as sparse:
        sparse.truncate(2**40)
    with pytest.raises(PackageRefused, match=r"'sparse': with it the package has more than 256 MiB"):
        read_content(package)


def test_too_many_files_are_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories count as well."""
    monkeypatch.setattr(content, "FILES_LIMIT", 10)
    for number in range(20):
        (package / f"d{number}").mkdir()
    with pytest.raises(PackageRefused, match="more than 10 files"):
        find_files(package)


def test_a_path_that_is_too_deep_is_refused(package: Path) -> None:
    """Deep nesting ends in words."""
    (package / Path(*["d"] * 40)).mkdir(parents=True)
    with pytest.raises(PackageRefused, match="the path is too long"):
        find_files(package)


def test_a_change_while_reading_is_noticed(package: Path) -> None:
    """A file that grows, one that comes and one that goes."""

    def disturbing(change: Callable[[], object]) -> None:
        done: list[object] = []

        def take(_file: object, _data: bytes) -> None:
            if not done:
                done.append(change())

        with pytest.raises(PackageChanging):
            read_content(package, take)

    disturbing(lambda: (package / "tasks.py").write_text("A = 1\nB = 2\n"))
    disturbing(lambda: (package / "new.py").touch())
    disturbing(lambda: (package / "new.py").unlink())
    disturbing(lambda: (package / "META").write_text("description = else\n"))
    read_content(package)


def test_an_absent_package_is_changing(tmp_path: Path) -> None:
    """It was there a moment ago."""
    with pytest.raises(PackageChanging):
        read_content(tmp_path / "absent")


@pytest.mark.parametrize(
    "name", ["", "1a", "a-b", "a.b", "class", "os", "json", "pydra", "django", "x" * 101, "ä", "a/b", ".."]
)
def test_names_that_a_package_cannot_have(name: str) -> None:
    """Not an identifier, or one that belongs to somebody else."""
    assert name_problem(name) is not None


@pytest.mark.parametrize("name", ["demo", "_private", "My_Tasks2"])
def test_names_that_a_package_can_have(name: str) -> None:
    """Identifiers that are nobody's."""
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "a/./b",
        "a/",
        "nul\0",
        "a\nb",
        "a\tb",
        "x" * 256,
        "x/" * 600 + "x",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    """A path within a package is relative, plain and bounded."""
    assert path_problem(path) is not None


def test_candidates_are_the_directories(tmp_path: Path) -> None:
    """Files and hidden ones are not; links are, so that their refusal is told."""
    for name in ("b", "a", ".hidden", "__pycache__", "not-a-name"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.py").touch()
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert [path.name for path in scan(tmp_path)] == ["a", "b", "c", "not-a-name"]
    assert scan(tmp_path / "absent") == []
