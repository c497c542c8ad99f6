# SPDX-License-Identifier: MIT
"""A package is compressed for the way, and what is no such thing is refused."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pydra.cluster.packages import upload
from pydra.cluster.packages.archive import pack
from pydra.cluster.packages.upload import PIECE, Inflater, compress
from pydra.cluster.packages.uploaded import UploadedPackages
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName, PackageVersion

DEMO, VERSION, OTHER = PackageName("demo"), PackageVersion("ab" * 32), PackageVersion("cd" * 32)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a file that does not compress."""
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "tasks.py").write_text("x = 1\n")
    (directory / "noise").write_bytes(os.urandom(700_000))
    return directory


def inflated(data: bytes, size: int) -> bytes:
    """All of it, fed in pieces of this size."""
    inflater = Inflater()
    plain = b""
    for start in range(0, len(data), size):
        for piece in inflater.feed(data[start : start + size]):
            assert PIECE >= len(piece)
            plain += piece
    inflater.finish()
    return plain


@pytest.mark.parametrize("size", [1000, 65_536, 10**7])
def test_what_is_compressed_inflates_to_the_archive(package: Path, size: int) -> None:
    """Whatever the pieces in which it comes."""
    assert b"".join(pack(package)) == inflated(compress(package), size)


@given(some.binary(max_size=2000), some.integers(1, 500))
def test_any_bytes_come_back(data: bytes, size: int) -> None:
    """Pieces of any size."""
    assert data * 400 == inflated(zlib.compress(data * 400), size)


@pytest.mark.parametrize(
    "data", [b"", b"no zlib", zlib.compress(b"x" * 1000)[:-1], zlib.compress(b"x") + b"y"]
)
def test_what_is_not_compressed_is_refused(data: bytes) -> None:
    """Too little and too much as well."""
    with pytest.raises(PackageRefused):
        inflated(data, 10)


def test_a_bomb_inflates_piece_by_piece() -> None:
    """Whoever takes the pieces can stop at any of them."""
    pieces = Inflater().feed(zlib.compress(bytes(100 * PIECE)))
    assert [PIECE] * 3 == [len(next(pieces)) for _ in range(3)]


def test_a_package_that_is_too_large_is_not_sent(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told before any of it is sent."""
    monkeypatch.setattr(upload, "PACKED_LIMIT", 600_000)
    with pytest.raises(PackageRefused, match="more than"):
        compress(package)


def test_the_record_of_uploads(tmp_path: Path) -> None:
    """Keeps the current version of each package, over restarts."""
    record = UploadedPackages(tmp_path / "uploaded")
    assert ({}, False) == (record.versions(), record.remove(DEMO))
    record.put(DEMO, VERSION)
    record.put(DEMO, OTHER)
    record.put(PackageName("second"), VERSION)
    assert {"demo": OTHER, "second": VERSION} == UploadedPackages(tmp_path / "uploaded").versions()
    assert record.remove(DEMO)
    assert not record.remove(DEMO)
    assert {"second": VERSION} == record.versions()


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    """Other files, other contents, directories; and names that are none are refused."""
    record = UploadedPackages(tmp_path)
    (tmp_path / "demo").write_bytes(b"\xff" * 10_000)
    (tmp_path / "json").write_text(VERSION)
    (tmp_path / ".new-second").write_text(VERSION)
    (tmp_path / "third").mkdir()
    assert {} == record.versions()
    for name in ("", "..", "a/b", "json"):
        with pytest.raises(PackageRefused):
            record.put(PackageName(name), VERSION)
        with pytest.raises(PackageRefused):
            record.remove(PackageName(name))
