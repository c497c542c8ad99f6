# SPDX-License-Identifier: MIT
"""What an attempt writes: cut, limited and grouped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
from twisted.internet.task import Clock

from pydra.cluster.node.task_log import FLUSH_S, LEAST_SIZE, LINE_LIMIT, RATE_LIMIT, TaskLog
from pydra.cluster.wire.log_records import GROUP_LIMIT, LogRecord, pack_lines
from pydra.cluster.wire.messages import BATCH_LIMIT, UnitLog, encode
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine

WALL = 1_700_000_000.0
KILOBYTE = "x" * 1024


class Bench:
    """A log whose groups are kept; ``has_room`` says whether they can be."""

    def __init__(self, limit: int = 100_000_000) -> None:
        self.clock = Clock()
        self.groups: list[list[LogLine]] = []
        self.has_room = True
        self.ends = 0
        self.log = TaskLog(self.clock, lambda: WALL + self.clock.seconds(), self.keep, self.ended, limit)

    def keep(self, lines: Sequence[LogLine]) -> bool:
        """Where groups go."""
        if self.has_room:
            self.groups.append(list(lines))
        return self.has_room

    def ended(self) -> None:
        """Nothing more comes."""
        self.ends += 1

    def write(self, *texts: str) -> None:
        """The task logs lines."""
        self.log.lines([[1.0, "INFO", "log", text] for text in texts])

    def texts(self) -> list[str]:
        """All that was sent."""
        return [line.text for group in self.groups for line in group]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A log with room."""
    bench = Bench()
    yield bench
    bench.log.finish()
    assert [] == bench.clock.getDelayedCalls()


def test_lines_travel_together(bench: Bench) -> None:
    """Lines of the same moment are one group, after a moment."""
    bench.log.lines([[1.5, "ERROR", "stderr", "one"]])
    bench.write("two")
    assert [] == bench.groups
    bench.clock.advance(FLUSH_S)
    assert [[LogLine(1.5, "ERROR", "stderr", "one"), LogLine(1.0, "INFO", "log", "two")]] == bench.groups
    assert 2 == bench.log.kept


@pytest.mark.parametrize(
    "rows",
    [
        None,
        5,
        "text",
        {"a": 1},
        [None],
        [[]],
        ["text"],
        [[1.0, "INFO", "log"]],
        [[1.0, "INFO", "log", "text", 5]],
        [[1, "INFO", "log", "text"]],
        [["1", "INFO", "log", "text"]],
        [[1.0, "LOUD", "log", "text"]],
        [[1.0, "INFO", "stdin", "text"]],
        [[1.0, "INFO", "log", b"text"]],
        [[1.0, ["INFO"], "log", "text"]],
    ],
)
def test_hostile_rows(bench: Bench, rows: object) -> None:
    """What is no line is dropped, and that is told; the good ones beside it stay."""
    bench.log.lines(rows)
    bench.write("good")
    bench.log.flush()
    assert "good" == bench.texts()[0]
    assert bench.texts()[1:] in ([], ["[1 lines were dropped]"])
    assert isinstance(rows, list) is (len(bench.texts()) == 2)


@pytest.mark.parametrize("at", [math.nan, math.inf, -1.0, 1e18])
def test_a_time_that_is_none(bench: Bench, at: float) -> None:
    """A line whose time is no date gets ours."""
    bench.log.lines([[at, "INFO", "log", "text"]])
    bench.log.flush()
    assert WALL == bench.groups[0][0].time


def test_output(bench: Bench) -> None:
    """Raw output is cut into lines, wherever its pieces end; what is unfinished waits for the end."""
    for piece in (b"on", b"e\ntw", b"o\n\nthr"):
        bench.log.output(piece)
    bench.clock.advance(FLUSH_S)
    assert ["one", "two", ""] == bench.texts()
    bench.log.finish()
    assert LogLine(WALL + FLUSH_S, "INFO", "stdout", "thr") == bench.groups[-1][0]


def test_output_that_is_no_text(bench: Bench) -> None:
    """Bytes that are no UTF-8 are shown as such."""
    bench.log.output(b"\xff\xfe\n")
    bench.log.flush()
    assert ["\ufffd\ufffd"] == bench.texts()


def test_long_lines(bench: Bench) -> None:
    """A long line is cut, and never held whole."""
    bench.write("x" * (LINE_LIMIT + 5))
    for _ in range(100):
        bench.log.output(b"y" * 1000)
    assert LINE_LIMIT >= len(bench.log._raw)
    bench.log.output(b"\n")
    bench.log.flush()
    assert all(len(text) <= LINE_LIMIT for text in bench.texts())
    assert "x" * LINE_LIMIT == bench.texts()[0]
    assert 100_000 >= sum(text.count("y") for text in bench.texts()) > 90_000


@pytest.mark.parametrize("raw", [False, True])
def test_rate(bench: Bench, raw: bool) -> None:
    """Above 1 MiB a second lines are dropped and counted; in the next second it goes on."""
    if raw:
        bench.log.output(f"{KILOBYTE}\n".encode() * 2048)
    else:
        bench.write(*[KILOBYTE] * 2048)
    bench.log.flush()
    kept = bench.texts().count(KILOBYTE)
    assert RATE_LIMIT // 1100 < kept <= RATE_LIMIT // 1024
    assert f"[{2048 - kept} lines were dropped]" == bench.texts()[-1]
    bench.clock.advance(1)
    bench.write("next second")
    bench.log.flush()
    assert "next second" == bench.texts()[-1]


def test_rows_that_are_no_lines_count_to_the_rate(bench: Bench) -> None:
    """They cost as much to look at, so after many of them no other row of the second is looked at."""
    count = RATE_LIMIT // LEAST_SIZE + 1
    bench.log.lines([*[None] * count, [1.0, "INFO", "log", "late"]])
    bench.write("later")
    bench.log.flush()
    assert [f"[{count + 2} lines were dropped]"] == bench.texts()
    bench.clock.advance(1)
    bench.write("next second")
    bench.log.flush()
    assert "next second" == bench.texts()[-1]


def test_a_full_log_has_a_rate_too() -> None:
    """Lines that are not kept any more are not even looked at, above so many a second."""
    bench = Bench(limit=1000)
    bench.write(*[KILOBYTE] * 2000)
    bench.log.finish()
    looked_at = RATE_LIMIT // (len(KILOBYTE) + LEAST_SIZE) + 1
    assert 2000 - looked_at == bench.log._dropped


def test_limit() -> None:
    """After its limit the log says that it is full, once, and keeps nothing more."""
    bench = Bench(limit=10_000)
    bench.write(*[KILOBYTE] * 20)
    bench.log.output(b"more\n")
    bench.log.finish()
    texts = bench.texts()
    assert 9 == texts.count(KILOBYTE)
    assert "The log is full" in texts[-1]
    assert 10 == len(texts)


def test_without_room(bench: Bench) -> None:
    """What finds no room is dropped, and all of it counted, however often that happens."""
    bench.has_room = False
    for _ in range(3):
        bench.write("lost", "lost too")
        bench.clock.advance(1)
    bench.has_room = True
    bench.write("found")
    bench.log.flush()
    assert ["found", "[6 lines were dropped]"] == bench.texts()
    assert 2 == bench.log.kept


def test_groups_fit(bench: Bench) -> None:
    """No group is larger than what travels in one message, whatever the lines are made of."""
    for text in ("x" * LINE_LIMIT, "\U0001f600" * LINE_LIMIT, "", "é" * 100):
        bench.write(*[text] * 15)
        bench.clock.advance(1)
    bench.log.flush()
    for group in bench.groups:
        record = LogRecord(Attempt(1, 2**60), 2**60, len(group), pack_lines(group), "x" * 1000, 2**60)
        size = len(encode(UnitLog(InstanceId(2**60), bytes(16), record)))
        assert GROUP_LIMIT + 1500 >= size
        assert BATCH_LIMIT > size
    assert 60 == len(bench.texts())


def test_many_empty_lines(bench: Bench) -> None:
    """Lines without text cost something too, so they cannot fill the memory."""
    bench.log.output(b"\n" * 33_000)
    assert RATE_LIMIT // 32 >= len(bench.log._waiting)


def test_silence() -> None:
    """Who writes nothing costs no timer and no call, but for the one that says it is over."""
    bench = Bench()
    bench.log.lines([])
    bench.log.flush()
    assert ([], [], 0) == (bench.clock.getDelayedCalls(), bench.groups, bench.ends)
    bench.log.finish()
    assert ([], [], 1) == (bench.clock.getDelayedCalls(), bench.groups, bench.ends)


def test_note(bench: Bench) -> None:
    """A line of ours is an error, unless told."""
    bench.log.note("The disk is full.")
    bench.log.flush()
    bench.log.note("Attempt 2 begins.", "INFO")
    bench.log.flush()
    assert LogLine(WALL, "ERROR", "log", "The disk is full.") == bench.groups[0][0]
    assert LogLine(WALL, "INFO", "log", "Attempt 2 begins.") == bench.groups[1][0]


def test_nothing_is_sent_twice(bench: Bench) -> None:
    """Flushing again sends nothing again."""
    bench.write("one")
    bench.log.flush()
    bench.log.flush()
    bench.log.finish()
    assert ["one"] == bench.texts()
