# SPDX-License-Identifier: MIT
"""The files of task logs: records added once, read from a position on, merged by time, bounded, removed."""

from __future__ import annotations

import errno
import io
import math
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pydra.cluster.master.logs import archive
from pydra.cluster.master.logs.archive import FULL, Choice, LogArchive, Page
from pydra.cluster.wire.log_records import LogRecord, framed, pack_lines
from pydra.errors import WireError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine

ONE, TWO = InstanceId(1), InstanceId(2)
FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)
LIMIT = 10_000


def record(first: int, *texts: str, at: float = 5.0, attempt: Attempt = FIRST, **fields: Any) -> LogRecord:
    """Lines of one time."""
    lines = [LogLine(at, "INFO", "stdout", text) for text in texts]
    return msgspec.structs.replace(LogRecord(attempt, first, len(lines), pack_lines(lines)), **fields)


class Bench:
    """An archive below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "logs"
        self.start()

    def start(self) -> None:
        """A master begins."""
        self.archive = LogArchive(self.directory, LIMIT)

    def add(self, first: int, *texts: str, instance: InstanceId = ONE, **fields: Any) -> int | Exception:
        """A record comes; what is answered."""
        [answer] = self.archive.append([(instance, record(first, *texts, **fields))])
        return answer

    def texts(self, after: int = 0, instance: InstanceId = ONE, choice: Choice = archive.ALL) -> list[str]:
        """The texts from a position on."""
        return [line.text for line in self.archive.read(instance, after, choice).lines]

    @property
    def file(self) -> Path:
        """The file of instance 1."""
        [file] = self.directory.rglob("1.log")
        return file


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """No logs."""
    return Bench(tmp_path)


def test_nothing(bench: Bench) -> None:
    """An instance that wrote nothing has no lines, from whatever position, and no file is made for it."""
    assert [Page([], [], 0, False, False)] * 3 == [bench.archive.read(ONE, after) for after in (0, 5, -5)]
    assert 0 == bench.add(0)
    assert not bench.directory.exists()


def test_positions(bench: Bench) -> None:
    """A reader goes on where the last reading ended."""
    bench.add(0, "one", "two")
    page = bench.archive.read(ONE, 0)
    assert ["one", "two"] == [line.text for line in page.lines]
    assert not page.has_more
    assert Page([], [], page.next, False, False) == bench.archive.read(ONE, page.next)
    bench.add(2, "three")
    assert ["three"] == bench.texts(page.next)
    assert ["one", "two", "three"] == bench.texts()


def test_each_instance_has_its_own(bench: Bench) -> None:
    """Lines of one instance are not those of another."""
    bench.add(0, "one")
    bench.add(0, "two", instance=TWO)
    assert [["one"], ["two"]] == [bench.texts(instance=instance) for instance in (ONE, TWO)]


def test_lines_come_back_whole(bench: Bench) -> None:
    """Time to the microsecond, level, stream and text survive."""
    written = [
        LogLine(0.0, "ERROR", "stderr", ""),
        LogLine(1.7e9 + 0.123456, "INFO", "log", "é\x00\n\U0001f600"),
    ]
    bench.archive.append([(ONE, LogRecord(FIRST, 0, 2, pack_lines(written)))])
    assert written == bench.archive.read(ONE, 0).lines


@pytest.mark.parametrize("is_new", [False, True])
def test_what_comes_again_is_added_once(bench: Bench, is_new: bool) -> None:
    """Whole or in part, and also if the master was restarted in between."""
    assert 3 == bench.add(0, "0", "1", "2")
    if is_new:
        bench.start()
    assert 3 == bench.add(0, "0", "1", "2")
    assert 3 == bench.add(1, "1")
    assert 5 == bench.add(2, "2", "3", "4")
    assert 5 == bench.add(0)
    assert ["0", "1", "2", "3", "4"] == bench.texts()


def test_a_gap_is_a_gap(bench: Bench) -> None:
    """Lines that a node lost do not keep back those after them."""
    bench.add(0, "0")
    assert 6 == bench.add(5, "5")
    assert ["0", "5"] == bench.texts()


def test_attempts_count_for_themselves(bench: Bench) -> None:
    """Each attempt begins at line 0."""
    bench.add(0, "one")
    bench.add(0, "two", attempt=SECOND)
    bench.start()
    assert [1, 1] == [bench.add(0, "x"), bench.add(0, "x", attempt=SECOND)]
    assert ["one", "two"] == bench.texts()


def test_more_attempts_than_are_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that are held are found in the file, whichever attempt comes again."""
    monkeypatch.setattr(archive, "REMEMBERED", 3)
    attempts = [Attempt(1, number) for number in range(1, 9)]
    for attempt in attempts:
        assert 1 == bench.add(0, "a line", attempt=attempt)
    for attempt in attempts:
        bench.start()
        assert 1 == bench.add(0, "a line", attempt=attempt)
        assert 1 == bench.add(0, "a line", attempt=attempts[0])
    assert 0 == bench.archive._held(ONE, Attempt(1, 9))
    assert 8 == len(bench.texts())


def test_work_units_are_chosen(bench: Bench) -> None:
    """By subtask, by index, by both; the root has neither."""
    bench.add(0, "root")
    bench.add(1, "a7", subtask="A", unit=7)
    bench.add(2, "a8", subtask="A", unit=8)
    bench.add(3, "b7", subtask="B", unit=7)
    found = {
        (subtask, unit): bench.texts(choice=Choice(subtask, unit))
        for subtask in (None, "A", "B", "C")
        for unit in (None, 7)
    }
    assert {
        (None, None): ["root", "a7", "a8", "b7"],
        (None, 7): ["a7", "b7"],
        ("A", None): ["a7", "a8"],
        ("A", 7): ["a7"],
        ("B", None): ["b7"],
        ("B", 7): ["b7"],
        ("C", None): [],
        ("C", 7): [],
    } == found
    assert ["", "A:7", "A:8", "B:7"] == bench.archive.read(ONE, 0).units


def test_lines_are_merged_by_time(bench: Bench) -> None:
    """Over units and attempts; what has the same time stays in the order in which it came."""
    bench.add(0, "at 5", "at 5 too", subtask="A", unit=1)
    bench.add(0, "at 3", at=3.0, attempt=SECOND)
    bench.add(2, "at 4", at=4.0)
    bench.add(1, "at 5 as well", attempt=SECOND)
    assert ["at 3", "at 4", "at 5", "at 5 too", "at 5 as well"] == bench.texts()


def test_limit(bench: Bench) -> None:
    """A log that is full says so once, whatever comes after; what it does not keep counts as stored."""
    for number in range(30):
        assert number + 1 == bench.add(number, "x" * 1000)
    bench.start()
    assert 31 == bench.add(30, "x" * 1000)
    assert ["x" * 1000] * 10 + [FULL] == bench.texts()
    assert LIMIT + 1500 >= bench.file.stat().st_size


def test_much_is_read_in_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reading covers a bounded part, ends at the end of a record, and says that there is more."""
    monkeypatch.setattr(archive, "READ_LIMIT", 400)
    for number in range(20):
        bench.add(number, f"{number:050}")
    texts: list[str] = []
    position, more = 0, [True]
    while more[-1]:
        page = bench.archive.read(ONE, position)
        texts += [line.text for line in page.lines]
        position = page.next
        more.append(page.has_more)
    assert [f"{number:050}" for number in range(20)] == texts
    assert 5 <= len(more) <= 15


def test_the_largest_record() -> None:
    """A record as large as a message can bring is within one reading."""
    assert len(framed(record(0, "x" * 384 * 1024))) < archive.READ_LIMIT


@pytest.mark.parametrize("after", [-1, -(2**70), 2**63, 2**70, 10**9])
def test_positions_out_of_the_file(bench: Bench, after: int) -> None:
    """From a position that is outside there is nothing, and the next one is the end."""
    bench.add(0, "one")
    assert Page([], [], bench.file.stat().st_size, False, False) == bench.archive.read(ONE, after)


def test_positions_within_a_record(bench: Bench) -> None:
    """From a position that was never given out there may be nothing, but it is no error."""
    for number, text in enumerate(["one", "\U0001f600\xff", "\x91" * 50, "three"]):
        bench.add(number, text)
    for after in range(bench.file.stat().st_size + 1):
        page = bench.archive.read(ONE, after)
        assert after <= page.next <= bench.file.stat().st_size
        assert {line.text for line in page.lines} <= {"one", "\U0001f600\xff", "\x91" * 50, "three"}


@pytest.mark.parametrize(
    "row",
    [
        b"\xc1",
        b"\x91" * 5000,
        b"",
        msgspec.msgpack.encode([{"epoch": 1, "number": 1}, 1, 1, b"", b"\xff", 0]),
        msgspec.msgpack.encode([5.0, "INFO", "log", "x"]),
    ],
)
def test_bytes_that_are_no_record(bench: Bench, row: bytes) -> None:
    """What is no record is not read; what is before it is, and the next record takes its place."""
    bench.add(0, "one")
    with bench.file.open("ab") as file:
        file.write(len(row).to_bytes(4, "big") + row)
    assert ["one"] == bench.texts()
    bench.start()
    bench.add(1, "two")
    assert ["one", "two"] == bench.texts()


@pytest.mark.parametrize("cut", range(1, 60))
def test_killed_in_the_midst_of_a_write(bench: Bench, cut: int) -> None:
    """Half a record is none: the node sends it again, and nothing is hidden by it."""
    bench.add(0, "one")
    whole = bench.file.stat().st_size
    bench.add(1, "two")
    os.truncate(bench.file, max(whole, bench.file.stat().st_size - cut))
    bench.start()
    assert ["one"] == bench.texts()
    assert 2 == bench.add(1, "two")
    assert ["one", "two"] == bench.texts()


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_line_of_no_time(bench: Bench, at: float) -> None:
    """It is dropped, since it could not be shown, and counts as stored."""
    lines = [LogLine(at, "INFO", "log", "bad"), LogLine(5.0, "INFO", "log", "good")]
    assert [2] == bench.archive.append([(ONE, LogRecord(FIRST, 0, 2, pack_lines(lines)))])
    assert ["good"] == bench.texts()
    bench.file.write_bytes(framed(LogRecord(FIRST, 0, 2, pack_lines(lines))))
    assert ["good"] == bench.texts()


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 2},
        {"count": 0},
        {"count": -1},
        {"first": -1},
        {"lines": b""},
        {"lines": b"\x91\xc1"},
        {"lines": b"\x91" * 5000},
        {"lines": pack_lines([])},
        {"subtask": "x" * 1025},
    ],
)
def test_a_record_that_lies(bench: Bench, fields: dict[str, Any]) -> None:
    """It is refused, and the others of its batch are kept."""
    lie = msgspec.structs.replace(record(0, "x"), **fields)
    batch = [(ONE, record(0, "one")), (TWO, lie), (ONE, record(1, "two"))]
    before, refused, after = bench.archive.append(batch)
    assert (1, 2) == (before, after)
    assert isinstance(refused, WireError)
    assert [] == bench.texts(instance=TWO)


class FullDisk(io.RawIOBase):
    """A file on a disk that takes five bytes more; it is cut back as a real one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("ab", buffering=0)
        self._left = 5

    def tell(self) -> int:
        """The end."""
        return self._file.tell()

    def write(self, data: Any) -> int:
        """Take what fits."""
        if not self._left:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, self._left = data[: self._left], max(0, self._left - len(data))
        return self._file.write(taken)

    def truncate(self, size: int | None = None) -> int:
        """Cut back."""
        return self._file.truncate(size)

    def close(self) -> None:
        """Close."""
        self._file.close()
        super().close()


def test_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is not kept at all, and is taken when it comes again."""
    bench.add(0, "one")
    file = FullDisk(bench.file)
    with monkeypatch.context() as full:
        full.setattr(Path, "open", lambda *_, **__: file)
        assert isinstance(bench.add(1, "two"), OSError)
    assert file.closed
    assert 2 == bench.add(1, "two")
    assert ["one", "two"] == bench.texts()


def test_a_directory_that_cannot_be_made(bench: Bench) -> None:
    """What cannot be written is told."""
    bench.directory.write_text("in the way")
    assert isinstance(bench.add(0, "lost"), OSError)


def test_removed(bench: Bench) -> None:
    """A log that was removed is remembered as such, and no other is."""
    for number in (1, 2, 999, 1000, 12_345):
        bench.add(0, "x", instance=InstanceId(number))
    for number in (2, 12_345):
        assert bench.archive.remove(InstanceId(number), math.inf)
        assert not bench.archive.remove(InstanceId(number), math.inf)
    found = [
        number
        for number in (1, 2, 3, 999, 1000, 12_345, 12_346)
        if bench.archive.was_removed(InstanceId(number))
    ]
    assert [2, 12_345] == found
    assert Page([], [], 0, False, True) == bench.archive.read(TWO, 0)
    assert ["x"] == bench.texts()


def test_a_log_that_was_written_to_meanwhile_stays(bench: Bench) -> None:
    """What was last written to after it was looked at is not removed."""
    bench.add(0, "one")
    os.utime(bench.file, (1000.0, 1000.0))
    assert not bench.archive.remove(ONE, 999.0)
    assert bench.archive.remove(ONE, 1000.0)


def test_lines_after_the_removal(bench: Bench) -> None:
    """They are kept, and that others were removed is still told."""
    bench.add(0, "one")
    bench.archive.remove(ONE, math.inf)
    bench.add(1, "two")
    assert (["two"], True) == (bench.texts(), bench.archive.read(ONE, 0).was_removed)


def test_sizes_and_ages(bench: Bench) -> None:
    """Of every log, and of nothing else that lies about."""
    bench.add(0, "one")
    bench.add(0, "two", instance=InstanceId(5000))
    bench.archive.remove(ONE, math.inf)
    os.utime(bench.directory / "5" / "5000.log", (7.0, 7.0))
    for name in ("x.log", "-1.log", "1.txt", f"{'9' * 30}.log", "²".zfill(2) + ".log"):
        (bench.directory / "5" / name).write_bytes(b"x")
    [(at, size, instance)] = bench.archive.sizes_and_ages()
    assert (7.0, 5000) == (at, instance)
    assert size > 0
