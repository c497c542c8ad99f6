# SPDX-License-Identifier: MIT
"""A task log as one text."""

from __future__ import annotations

import datetime
import random

import pytest

from pydra.cluster.master.logs import text
from pydra.cluster.master.logs.archive import Page
from pydra.cluster.master.logs.text import CUT, LatestLines, as_text
from pydra.cluster.wire.log_records import LAST_TIME
from pydra.model.instance import LogLine


def page(*rows: tuple[float, str], unit: str = "") -> Page:
    """A page with lines of these times and texts."""
    lines = [LogLine(at, "INFO", "stdout", said) for at, said in rows]
    return Page(lines, [unit] * len(lines), 0, False, False)


def texts(latest: LatestLines) -> list[str]:
    """What the lines say."""
    return [line.rpartition(": ")[2] for line in latest.text().splitlines()]


def test_lines_as_people_read_them() -> None:
    """UTC to the microsecond, level, work unit and stream."""
    rows = [
        (LogLine(0.5, "INFO", "stdout", "one"), ""),
        (LogLine(0.75, "INFO", "stdout", "two"), "Sub:8"),
        (LogLine(1_700_000_000.000001, "CRITICAL", "log", "three"), ""),
    ]
    assert [
        "1970-01-01 00:00:00.500000 INFO     stdout: one",
        "1970-01-01 00:00:00.750000 INFO     Sub:8 stdout: two",
        "2023-11-14 22:13:20.000001 CRITICAL log: three",
    ] == as_text(rows).splitlines()
    assert "" == LatestLines().text()


def test_times() -> None:
    """They are those of datetime, whatever comes before them."""
    source = random.Random(3)
    times = [0.0, 0.9999996, 59.9999999, LAST_TIME, *(source.random() * 4e9 for _ in range(200))]
    lines = as_text((LogLine(at, "INFO", "log", "x"), "") for at in times).splitlines()
    assert [f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S.%f}" for at in times] == [
        line[:26] for line in lines
    ]


def test_pages_are_merged_by_time() -> None:
    """What has the same time stays in the order in which it came."""
    latest = LatestLines()
    latest.add(page((5.0, "a"), (5.0, "b")))
    latest.add(page((3.0, "c"), (5.0, "d")))
    latest.add(page((4.0, "e"), unit="Sub:1"))
    assert ["c", "e", "a", "b", "d"] == texts(latest)


def test_a_text_that_would_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the latest lines, whichever page brought them, and says so."""
    monkeypatch.setattr(text, "TEXT_LIMIT", 1000)
    latest = LatestLines()
    for number in range(0, 100, 10):
        latest.add(page(*((float(at), f"{at:0100}") for at in range(number, number + 10))))
    latest.add(page((95.5, "between"), (1.0, "early")))
    assert CUT == latest.text()[: len(CUT)]
    assert [94, 95, "between", 96, 97, 98, 99] == [
        int(said) if said.isdecimal() else said for said in texts(latest)[1:]
    ]
