# SPDX-License-Identifier: MIT
"""What tasks wrote: appended, read from a position on, bounded."""

from __future__ import annotations

import errno
import io
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master import task_logs
from pydra.cluster.master.task_logs import TaskLogs, as_text
from pydra.model.ids import InstanceId
from pydra.model.instance import LogLine
from tests.support.cables import unthreaded
from tests.support.pumps import result_of

ONE, TWO = InstanceId(1), InstanceId(2)
LIMIT = 10_000


def line(text: str, at: float = 5.0) -> LogLine:
    """A line."""
    return LogLine(at, "INFO", "stdout", text)


class Bench:
    """Logs below a directory; ``told`` lists the instances that somebody was woken for."""

    def __init__(self, directory: Path) -> None:
        self.told: list[InstanceId] = []
        self.directory = directory / "logs"
        self.logs = TaskLogs(self.directory, unthreaded, self.told.append, LIMIT)

    def append(self, *texts: str, instance: InstanceId = ONE) -> None:
        """Lines come."""
        self.logs.append(instance, [line(text) for text in texts])

    def read(self, after: int = 0, instance: InstanceId = ONE) -> tuple[list[str], int]:
        """The texts from a position on, and the next position."""
        lines, position = result_of(Deferred.fromCoroutine(self.logs.read(instance, after)))
        return [each.text for each in lines], position

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
    assert [([], 0)] * 3 == [bench.read(after) for after in (0, 5, -5)]
    assert not bench.directory.exists()


def test_positions(bench: Bench) -> None:
    """A reader goes on where the last reading ended."""
    bench.append("one", "two")
    texts, position = bench.read()
    assert ["one", "two"] == texts
    assert ([], position) == bench.read(position)
    bench.append("three")
    assert ["three"] == bench.read(position)[0]
    assert ["one", "two", "three"] == bench.read()[0]


def test_each_instance_has_its_own(bench: Bench) -> None:
    """Lines of one instance are not those of another, and each is told."""
    bench.append("one")
    bench.append("two", instance=TWO)
    assert [["one"], ["two"]] == [bench.read(instance=instance)[0] for instance in (ONE, TWO)]
    assert [ONE, TWO] == bench.told


def test_lines_come_back_whole(bench: Bench) -> None:
    """Time, level, stream and text survive."""
    written = [LogLine(0.0, "ERROR", "stderr", ""), LogLine(1e9 + 0.25, "INFO", "log", "é\x00\n\U0001f600")]
    bench.logs.append(ONE, written)
    assert written == result_of(Deferred.fromCoroutine(bench.logs.read(ONE, 0)))[0]


def test_limit(bench: Bench) -> None:
    """Beyond twice the limit nothing is added, and what is there can be read."""
    for _ in range(30):
        bench.append("x" * 1000)
    assert 19 == len(bench.read()[0])
    assert LIMIT * 2 >= bench.file.stat().st_size


def test_much_is_read_in_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reading covers a bounded part, and ends at the end of a line."""
    monkeypatch.setattr(task_logs, "READ_LIMIT", 300)
    bench.append(*[f"{number:050}" for number in range(20)])
    texts: list[str] = []
    position, readings = 0, 0
    while True:
        more, position = bench.read(position)
        if not more:
            break
        texts += more
        readings += 1
    assert [f"{number:050}" for number in range(20)] == texts
    assert 5 <= readings < 10


def test_the_largest_line(bench: Bench) -> None:
    """A line as large as a message can bring is within one reading."""
    assert len(msgspec.msgpack.encode(line("x" * 384 * 1024))) < task_logs.READ_LIMIT


@pytest.mark.parametrize("after", [-1, -(2**70), 2**63, 2**70, 10**9])
def test_positions_out_of_the_file(bench: Bench, after: int) -> None:
    """From a position that is outside there is nothing, and the next one is the end."""
    bench.append("one")
    assert ([], bench.file.stat().st_size) == bench.read(after)


def test_positions_within_a_line(bench: Bench) -> None:
    """From a position that was never given out there may be nothing, but it is no error."""
    bench.append("one", "\U0001f600\xff", "\x91" * 50, "three")
    for after in range(bench.file.stat().st_size + 1):
        texts, position = bench.read(after)
        assert after <= position <= bench.file.stat().st_size
        assert set(texts) <= {"one", "\U0001f600\xff", "\x91" * 50, "three"}


@pytest.mark.parametrize(
    "row",
    [
        b"\xc1",
        b"\x94\xcb" + bytes(8) + b"\xa0\xa0\xa2\xff\xfe",
        b"\x91" * 5000,
        msgspec.msgpack.encode([math.nan, "INFO", "log", "x"]),
        msgspec.msgpack.encode([1e300, "INFO", "log", "x"]),
    ],
)
def test_bytes_that_are_no_line(bench: Bench, row: bytes) -> None:
    """What is no line is not read; the lines before it are."""
    bench.append("one")
    with bench.file.open("ab") as file:
        file.write(len(row).to_bytes(4, "big") + row)
    assert ["one"] == bench.read()[0]


def test_half_a_line(bench: Bench) -> None:
    """A line that is not whole yet is not read, and the position stays before it."""
    bench.append("one")
    whole = bench.file.stat().st_size
    with bench.file.open("ab") as file:
        file.write(b"\x00\x00\x00\x20\x94")
    assert (["one"], whole) == bench.read()


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
    """Lines that do not fit are lost whole: what is written later can be read."""
    bench.append("one")
    file = FullDisk(bench.file)
    with monkeypatch.context() as full:
        full.setattr(Path, "open", lambda *_, **__: file)
        bench.append("lost")
    assert file.closed
    bench.append("three")
    assert ["one", "three"] == bench.read()[0]
    assert [ONE, ONE] == bench.told


def test_a_directory_that_cannot_be_made(bench: Bench) -> None:
    """Lines that cannot be written are logged and lost; nobody is woken, and nothing is raised."""
    bench.directory.write_text("in the way")
    bench.append("lost")
    assert [] == bench.told


def test_as_text() -> None:
    """Lines as people read them."""
    lines = [LogLine(0.5, "INFO", "stdout", "one"), LogLine(1_700_000_000.0, "CRITICAL", "log", "two")]
    assert (
        "1970-01-01 00:00:00.500000 INFO     stdout: one\n2023-11-14 22:13:20.000000 CRITICAL log: two\n"
    ) == as_text(lines)
