# SPDX-License-Identifier: MIT
"""The file in which a node keeps what the master has not recorded."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from pydra.cluster.node.journal import RECORD_LIMIT, Journal, framed

DATA = b"blob" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_records(tmp_path: Path) -> None:
    """What was written is read back, in order, over any number of starts."""
    path = tmp_path / "outbox"
    for number in range(3):
        journal = Journal(path)
        assert [b"%d" % each for each in range(2 * number)] == journal.open()
        journal.append([b"%d" % (2 * number), b"%d" % (2 * number + 1)], sync=number == 1)
        journal.close()


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    """At whichever byte: the whole records before it are there, and it goes on after them."""
    records = [b"one", b"two" * 9, b"3"]
    whole = framed(records)
    for length in range(len(whole)):
        (tmp_path / "journal").write_bytes(whole[:length])
        journal = Journal(tmp_path)
        found = journal.open()
        assert records[: len(found)] == found
        assert journal.size == len(framed(found)) <= length
        journal.append([b"more"], sync=False)
        journal.close()
        again = Journal(tmp_path)
        assert [*found, b"more"] == again.open()
        again.close()


@pytest.mark.parametrize(
    "tail",
    [
        bytes(8),
        bytes(100),
        b"\xff" * 100,
        (RECORD_LIMIT + 1).to_bytes(4, "big") + bytes(100),
        framed([b"changed"])[:-1] + b"x",
    ],
)
def test_what_is_no_record(tmp_path: Path, tail: bytes) -> None:
    """It ends the file, with all after it."""
    (tmp_path / "journal").write_bytes(framed([b"one"]) + tail + framed([b"two"]))
    journal = Journal(tmp_path)
    assert [b"one"] == journal.open()
    journal.close()


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took in part is no record; what was there stays, and what comes later is whole."""
    journal = Journal(tmp_path)
    journal.open()
    journal.append([b"one"], sync=False)
    write, left = os.pwrite, [10]

    def full(file: int, data: bytes, position: int) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: left.pop()], position)

    monkeypatch.setattr("pydra.cluster.node.journal.os.pwrite", full)
    with pytest.raises(OSError, match="No space"):
        journal.append([b"two", b"three"], sync=False)
    left.append(10)
    with pytest.raises(OSError, match="No space"):
        journal.rewrite([b"two", b"three"], sync=False)
    monkeypatch.undo()
    journal.append([b"four"], sync=False)
    journal.close()
    with pytest.raises(OSError, match="not open"):
        journal.append([b"five"], sync=False)
    again = Journal(tmp_path)
    assert [b"one", b"four"] == again.open()
    again.close()


@pytest.mark.parametrize("sync", [True, False])
def test_rewrite(tmp_path: Path, sync: bool) -> None:
    """A file made anew has what it was given, and goes on."""
    journal = Journal(tmp_path)
    journal.open()
    journal.append([b"one", b"two"], sync)
    journal.rewrite([b"two"], sync)
    journal.append([b"three"], sync)
    journal.sync()
    journal.close()
    (tmp_path / "journal.new").write_bytes(b"of a start that was killed")
    again = Journal(tmp_path)
    assert [b"two", b"three"] == again.open()
    again.close()


def test_blobs(tmp_path: Path) -> None:
    """A blob is there until it is removed; at a start, what is not what its name says goes."""
    journal = Journal(tmp_path)
    journal.open()
    journal.write_blob(DIGEST, DATA, sync=True)
    journal.write_blob("ab" * 32, DATA, sync=False)
    (tmp_path / "something").write_bytes(b"x")
    journal.append([b"one"], sync=False)
    assert {DIGEST: len(DATA)} == journal.blobs()
    assert [DIGEST, "journal"] == sorted(path.name for path in tmp_path.iterdir())
    assert DATA[10:30] == journal.read_blob(DIGEST, 10, 20)
    journal.remove_blob(DIGEST)
    journal.remove_blob(DIGEST)
    assert {} == journal.blobs()
    journal.close()


def test_a_link_in_the_place_of_the_file(tmp_path: Path) -> None:
    """It is not followed."""
    (tmp_path / "elsewhere").write_bytes(b"x")
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Journal(tmp_path).open()
