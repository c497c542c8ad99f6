# SPDX-License-Identifier: MIT
"""What an attempt writes: cut, limited, held and grouped."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import pytest
from twisted.internet.task import Clock

from pydra.cluster.node.task_log import FLUSH_S, GROUP_LIMIT, HOLD_LIMIT, LINE_LIMIT, RATE_LIMIT, TaskLog
from pydra.cluster.wire.messages import BATCH_LIMIT, UnitLog, encode
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine

WALL = 1_700_000_000.0
KILOBYTE = "x" * 1024


class Bench:
    """A log whose groups are kept; ``is_linked`` says whether there is somebody to send to."""

    def __init__(self, limit: int = 100_000_000) -> None:
        self.clock = Clock()
        self.groups: list[tuple[LogLine, ...]] = []
        self.is_linked = True
        self.log = TaskLog(self.clock, lambda: WALL + self.clock.seconds(), self.send, limit)

    def send(self, lines: tuple[LogLine, ...]) -> bool:
        """Where groups go."""
        if self.is_linked:
            self.groups.append(lines)
        return self.is_linked

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
    assert [(LogLine(1.5, "ERROR", "stderr", "one"), LogLine(1.0, "INFO", "log", "two"))] == bench.groups


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


def test_held_without_a_link(bench: Bench) -> None:
    """Without a link up to 1 MiB of lines wait, in order; the rest is dropped and counted."""
    bench.is_linked = False
    for number in range(30):
        bench.write(*[f"{number:<1024}"] * 100)
        bench.clock.advance(1)
    assert HOLD_LIMIT + 5000 >= bench.log._waiting_size
    bench.is_linked = True
    bench.log.flush()
    texts = bench.texts()
    lines = [text for text in texts if not text.startswith("[")]
    assert HOLD_LIMIT // 1100 < len(lines) <= HOLD_LIMIT // 1024
    assert sorted(lines, key=int) == lines
    dropped = [int(text[1:].split()[0]) for text in texts if text.startswith("[")]
    assert 3000 == len(lines) + sum(dropped)


def test_groups_fit(bench: Bench) -> None:
    """No group is larger than what travels in one message, whatever the lines are made of."""
    for text in ("x" * LINE_LIMIT, "\U0001f600" * LINE_LIMIT, "", "é" * 100):
        bench.write(*[text] * 15)
        bench.clock.advance(1)
    bench.log.flush()
    for group in bench.groups:
        size = len(encode(UnitLog(Attempt(1, 2**60), InstanceId(2**60), group)))
        assert GROUP_LIMIT + 100 >= size
        assert BATCH_LIMIT > size
    assert 60 == len(bench.texts())


def test_many_empty_lines(bench: Bench) -> None:
    """Lines without text cost something too, so they cannot fill the memory."""
    bench.is_linked = False
    bench.log.output(b"\n" * 33_000)
    assert HOLD_LIMIT // 32 >= len(bench.log._waiting)


def test_note(bench: Bench) -> None:
    """A line of ours is an error."""
    bench.log.note("The disk is full.")
    bench.log.flush()
    assert LogLine(WALL, "ERROR", "log", "The disk is full.") == bench.groups[0][0]


def test_nothing_is_sent_twice(bench: Bench) -> None:
    """Flushing again sends nothing again."""
    bench.write("one")
    bench.log.flush()
    bench.log.flush()
    bench.log.finish()
    assert ["one"] == bench.texts()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(bench.groups[0])) == [[1.0, "INFO", "log", "one"]]
