# SPDX-License-Identifier: MIT
"""An uploaded package is unpacked by a worker, which tells a plain archive of it or why there is none."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest

from pydra.cluster.packages.archive import MARK, Unpacker, pack
from pydra.cluster.packages.content import PackageFile, read_content
from pydra.cluster.packages.upload import compress
from pydra.cluster.wire.frames import FAILED, MORE, PART, READY, UNPACK, UNPACKED, WANTED
from pydra.model.ids import PackageName, PackageVersion
from tests.support.runtimes import Runtime

DEMO = PackageName("demo")


def unpacked(
    directory: Path, packed: bytes, name: str = "demo", piece: int = 1000
) -> tuple[bytes, list[object]]:
    """The archive that a worker tells, and its last frame; its scratch is in the directory."""
    archive = b""
    with Runtime(directory, preparation=f"import os; os.chdir({str(directory)!r})") as runtime:
        assert [READY] == runtime.frame()
        runtime.send([UNPACK, name])
        for frame in runtime.frames():
            if frame == [WANTED]:
                runtime.send([MORE, packed[:piece]])
                packed = packed[piece:]
            elif frame[0] == PART:
                assert isinstance(frame[1], bytes)
                archive += frame[1]
                runtime.send([MORE, b""])
            else:
                return archive, frame
    raise AssertionError("The worker gave no answer.")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package."""
    directory = tmp_path / "source" / "demo"
    (directory / "lib").mkdir(parents=True)
    (directory / "tasks.py").write_text("x = 1\n")
    (directory / "lib" / "large.py").write_text("# nothing\n" * 100_000)
    (directory / "run.sh").write_text("#!/bin/sh\n")
    (directory / "run.sh").chmod(0o755)
    return directory


def test_a_package_comes_out_as_it_went_in(tmp_path: Path, package: Path) -> None:
    """With its version, which whoever keeps it finds again."""
    version = read_content(package).version
    archive, last = unpacked(tmp_path, compress(package))
    assert [UNPACKED, version] == last
    unpacker = Unpacker(tmp_path / "kept", DEMO, version)
    unpacker.write(archive)
    assert read_content(unpacker.finish()) == read_content(package)


def stream(*files: tuple[str, int], content: bytes = b"") -> bytes:
    """A compressed archive whose list says anything."""
    listed = msgspec.msgpack.encode([PackageFile(path, False, size) for path, size in files])
    return zlib.compress(MARK + len(listed).to_bytes(4, "big") + listed + content)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "ends too early"),
        (b"\x1f\x8b is gzip", "no compressed archive"),
        (zlib.compress(b"no archive at all"), "no stream of a package"),
        (zlib.compress(MARK + b"\xff" * 4), "The list of files has"),
        (zlib.compress(MARK + b"\x00\x00\x00\x01\xc1"), "cannot be read"),
        (zlib.compress(bytes(10**8)), "no stream of a package"),
        (stream(("../up.py", 1), content=b"x"), "no path within a package"),
        (stream(("/etc/passwd", 1), content=b"x"), "no path within a package"),
        (stream(("a.py", 1), ("A.py", 1), content=b"xx"), "in order"),
        (stream(("A.py", 1), ("a.py", 1), content=b"xx"), "differ only in case"),
        (stream(("a", 1), ("a/b", 1), content=b"xx"), "a file and a directory"),
        (stream(("a.py", 2**40), content=b"x"), "more than 256 MiB"),
        (stream(("a.py", 5), content=b"x"), "ended before the last file"),
        (stream(("a.py", 1), content=b"xyz"), "Bytes follow"),
        (stream(("a.py", 1), content=b"x") + b"more", "Bytes follow"),
    ],
)
def test_what_is_no_package_is_refused_in_words(tmp_path: Path, packed: bytes, words: str) -> None:
    """None of it is told as an archive."""
    archive, last = unpacked(tmp_path, packed, piece=100_000)
    assert (b"", FAILED, "package") == (archive, last[0], last[1])
    assert words in str(last[2])


@pytest.mark.parametrize("name", ["..", "", "a/b", "json", "two words"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, package: Path, name: str) -> None:
    """Whoever asks for it."""
    assert FAILED == unpacked(tmp_path, compress(package), name)[1][0]


def test_an_empty_package_is_a_package(tmp_path: Path) -> None:
    """Whoever describes it finds nothing in it."""
    (tmp_path / "demo").mkdir()
    archive, last = unpacked(tmp_path, compress(tmp_path / "demo"))
    assert (b"".join(pack(tmp_path / "demo")), UNPACKED) == (archive, last[0])
    assert PackageVersion(str(last[1])) == read_content(tmp_path / "demo").version
