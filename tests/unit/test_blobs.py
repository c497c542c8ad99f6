# SPDX-License-Identifier: MIT
"""Payloads as files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pydra.cluster.store.blobs import CHUNK, PIECE, WRITTEN_TOGETHER, Blobs, begin_writing
from pydra.errors import StoreError

DATA = b"payload" * 100_000
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty directory of blobs, not made yet."""
    return Blobs(tmp_path / "blobs")


def files(blobs: Blobs) -> list[str]:
    """What is in the directory."""
    directory = blobs.path(NAME).parent
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_a_blob_is_named_by_its_bytes(blobs: Blobs) -> None:
    """What was put comes back, whole or in pieces; nothing else is left in the directory."""
    assert NAME == blobs.put(DATA)

    assert blobs.path(NAME).is_file()
    assert DATA == blobs.read(NAME)
    assert DATA == blobs.path(NAME).read_bytes() == b"".join(blobs.chunks(NAME))
    assert max(map(len, blobs.chunks(NAME))) <= CHUNK
    assert [NAME] == files(blobs)


def test_only_its_user_may_read_a_blob(blobs: Blobs) -> None:
    """Neither the file nor the directory is open to others."""
    blobs.put(DATA)

    assert 0o600 == blobs.path(NAME).stat().st_mode & 0o777
    assert 0o700 == blobs.path(NAME).parent.stat().st_mode & 0o777


def test_the_same_bytes_are_one_blob(blobs: Blobs) -> None:
    """A second put changes nothing; the empty blob is one too."""
    assert blobs.put(DATA) == blobs.put(DATA)
    assert b"" == blobs.read(blobs.put(b""))
    assert 2 == len(files(blobs))


def test_a_blob_that_comes_in_pieces_is_checked(blobs: Blobs) -> None:
    """It is kept under the name that was announced."""
    writer = blobs.writer()
    for start in range(0, len(DATA), 1000):
        writer.write(DATA[start : start + 1000])

    assert not blobs.path(NAME).is_file()
    assert len(DATA) == writer.size
    assert NAME == writer.finish(NAME)
    assert DATA == blobs.read(NAME)


def test_other_bytes_than_announced_are_not_kept(blobs: Blobs) -> None:
    """Nothing stays of them."""
    writer = blobs.writer()
    writer.write(b"something else")

    with pytest.raises(StoreError, match="announced"):
        writer.finish(NAME)
    assert [] == files(blobs)


def test_an_aborted_blob_is_not_kept(blobs: Blobs) -> None:
    """Abort may come twice, and after it nothing is written."""
    writer = blobs.writer()
    writer.write(DATA)
    writer.abort()
    writer.abort()

    assert [] == files(blobs)
    for late in (lambda: writer.write(b"x"), lambda: writer.finish()):
        with pytest.raises(StoreError, match="not being written"):
            late()


def test_abort_after_the_end_keeps_the_blob(blobs: Blobs) -> None:
    """Whoever cleans up may always call it."""
    writer = blobs.writer()
    writer.write(DATA)
    writer.finish()
    writer.abort()

    assert blobs.path(NAME).is_file()


@pytest.mark.parametrize(
    "name",
    ["", "..", "../" + NAME, NAME.upper(), NAME + "\n", NAME[:-1], "/etc/passwd", "\x00" * 64, "é" * 64],
)
def test_a_name_that_is_none_touches_no_file(blobs: Blobs, name: str) -> None:
    """Only 64 hexadecimal digits name a blob."""
    for use in (blobs.path, blobs.read, blobs.remove, lambda n: next(blobs.chunks(n))):
        with pytest.raises(StoreError, match="64 hexadecimal digits"):
            use(name)


def test_a_missing_blob_is_told_as_such(blobs: Blobs) -> None:
    """By its name."""
    assert not blobs.path(NAME).is_file()
    with pytest.raises(StoreError, match=f"{NAME} is missing"):
        blobs.read(NAME)


def test_a_damaged_blob_is_not_read(blobs: Blobs) -> None:
    """Its bytes are checked against its name."""
    blobs.put(DATA)
    with blobs.path(NAME).open("r+b") as file:
        file.write(b"X")

    with pytest.raises(StoreError, match="damaged"):
        blobs.read(NAME)


def test_a_blob_that_is_no_file_cannot_be_read(blobs: Blobs) -> None:
    """The error is told in words."""
    blobs.path(NAME).mkdir(parents=True)

    assert not blobs.path(NAME).is_file()
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        blobs.read(NAME)
    with pytest.raises(StoreError, match="cannot be written: Is a directory"):
        blobs.put(DATA)
    assert [NAME] == files(blobs)


def test_what_an_earlier_process_left_is_swept(blobs: Blobs) -> None:
    """Only blobs that somebody wants stay."""
    assert 0 == blobs.sweep(set())
    blobs.put(DATA)
    blobs.put(b"nobody's")
    writer = blobs.writer()
    writer.write(b"never finished")

    assert 2 == blobs.sweep({NAME})
    assert [NAME] == files(blobs)
    writer.abort()


def test_a_removed_blob_is_gone(blobs: Blobs) -> None:
    """Removing it again is nothing."""
    blobs.put(DATA)
    blobs.remove(NAME)
    blobs.remove(NAME)

    assert [] == files(blobs)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """In words."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        Blobs(tmp_path / "file" / "blobs").put(DATA)


def test_no_descriptor_stays_open(blobs: Blobs) -> None:
    """However a writer ends."""
    before = len(os.listdir("/proc/self/fd"))
    blobs.put(DATA)
    blobs.read(NAME)
    for expected in (NAME, None):
        writer = blobs.writer()
        if expected:
            with pytest.raises(StoreError):
                writer.finish(expected)
        writer.abort()

    assert before == len(os.listdir("/proc/self/fd"))


def test_a_reader(tmp_path: Path) -> None:
    """It gives pieces, then nothing; once it is closed, nothing more."""
    blobs = Blobs(tmp_path)
    data = bytes(PIECE) + b"end"
    name = blobs.put(data)
    reader = blobs.reader(name)
    assert [data[:PIECE], b"end", b"", b""] == [reader.read() for _ in range(4)]
    reader.close()
    closed = blobs.reader(name)
    assert data[:PIECE] == closed.read()
    closed.close()
    assert b"" == closed.read()
    (tmp_path / name).write_bytes(b"other")
    damaged = blobs.reader(name)
    assert b"other" == damaged.read()
    with pytest.raises(StoreError, match="damaged"):
        damaged.read()
    damaged.close()
    blobs.remove(name)
    with pytest.raises(StoreError, match="missing"):
        blobs.reader(name).read()


def test_a_reader_that_does_not_check(tmp_path: Path) -> None:
    """Who gets the bytes checks them: a damaged blob is read to its end."""
    blobs = Blobs(tmp_path)
    name = blobs.put(DATA)
    (tmp_path / name).write_bytes(b"other")
    reader = blobs.reader(name, checked=False)
    assert [b"other", b""] == [reader.read() for _ in range(2)]
    reader.close()


def test_a_long_blob_goes_to_the_disk_while_it_comes(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is told of each part once, and the blob is the same."""
    begun: list[tuple[int, int]] = []
    begin = begin_writing

    def recorded(descriptor: int, start: int, size: int) -> None:
        begun.append((start, size))
        begin(descriptor, start, size)

    monkeypatch.setattr("pydra.cluster.store.blobs.begin_writing", recorded)
    piece = bytes(range(256)) * (WRITTEN_TOGETHER // 1024)
    writer = blobs.writer()
    for _ in range(9):
        writer.write(piece)
    name = writer.finish()
    assert [(0, WRITTEN_TOGETHER), (WRITTEN_TOGETHER, WRITTEN_TOGETHER)] == begun
    assert 9 * piece == blobs.read(name)


def test_a_system_that_cannot_begin_to_write(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes all the same, at the end."""
    monkeypatch.setattr("pydra.cluster.store.blobs._sync_file_range", lambda: None)
    data = bytes(WRITTEN_TOGETHER + 1)
    assert data == blobs.read(blobs.put(data))
