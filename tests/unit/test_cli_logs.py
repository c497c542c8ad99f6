# SPDX-License-Identifier: MIT
"""``logs``: which lines, in which order, until when, and how they look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController

START = 1795341600.0
"""2026-11-22 10:00:00 UTC."""


def line(text: str, at: float = 0.0, level: str = "INFO", stream: str = "log") -> list[object]:
    """A line, seconds after the start."""
    return [START + at, level, stream, text]


def page(*lines: list[object], position: int = 1, **more: Any) -> dict[str, Any]:
    """An answer of ``task_lines``."""
    return {"lines": list(lines), "next": position, "more": False, "final": True, **more}


def texts(controller: ScriptedController, *words: str) -> list[str]:
    """What ``logs`` prints of each line, as its last word."""
    result = call(controller, "logs", "7", *words)
    assert result.exit_code == 0, result.stderr
    return [shown.split()[-1] for shown in result.stdout.splitlines()]


def test_all_pages_are_read() -> None:
    """Lines are asked for from where the last answer ended, until there are no more."""
    controller = ScriptedController(
        task_lines=[page(line("one"), position=5, more=True), page(line("two"), position=9)]
    )

    assert texts(controller) == ["one", "two"]
    assert [kwargs["after"] for _, kwargs in controller.asked("task_lines")] == [0, 5]
    assert {kwargs["wait"] for _, kwargs in controller.asked("task_lines")} == {0.0}


@pytest.mark.parametrize(
    ("unit", "asked"),
    [
        ("Sub:7", {"subtask": "Sub", "workunit_id": "7"}),
        ("7/Sub:7/Other:12", {"subtask": "Sub:7/Other", "workunit_id": "12"}),
        ("Sub", {"subtask": "Sub"}),
        ("Sub:7/Other", {"subtask": "Sub:7/Other"}),
        (":7", {"subtask": ":7"}),
    ],
)
def test_lines_of_one_unit_can_be_chosen(unit: str, asked: dict[str, str]) -> None:
    """By branch and index, or of a whole branch; the number of the instance may stand before them."""
    controller = ScriptedController(task_lines=[page(line("one"), position=5)])

    assert texts(controller, "--unit", unit) == ["one"]
    (_, kwargs), *_ = controller.asked("task_lines")
    assert asked == {name: value for name, value in kwargs.items() if name not in ("after", "wait")}


@pytest.mark.parametrize(
    ("unit", "listed", "after"),
    [
        ("Sub:7", [7], "Sub:6"),
        ("Sub:0", [0], None),
        ("7/Sub:7/Other:12", [12], "Sub:7/Other:11"),
        ("Sub", [3], None),
    ],
)
def test_a_unit_that_wrote_nothing_has_an_empty_log(unit: str, listed: list[int], after: str | None) -> None:
    """It is looked for by its name, and if it is there, that was all."""
    units = {"workunits": [{"workunit_key": index} for index in listed]}
    controller = ScriptedController(task_lines=[page()], task_units=[units])

    assert texts(controller, "--unit", unit) == []
    [(_, kwargs)] = controller.asked("task_units")
    assert kwargs["after"] == after


@pytest.mark.parametrize(("unit", "listed"), [("Sub:7", []), ("Sub:7", [8]), ("7/Nothing", [])])
@pytest.mark.parametrize("words", [(), ("-f",)])
def test_an_unknown_unit_is_an_error_in_words(unit: str, listed: list[int], words: tuple[str, ...]) -> None:
    """Whether there is no such branch, or no such unit in it."""
    units = {"workunits": [{"workunit_key": index} for index in listed]}
    controller = ScriptedController(task_lines=[page()], task_units=[units])
    result = call(controller, "logs", "7", "--unit", unit, *words)

    assert result.exit_code == 3
    assert f"Task instance 7 has no work unit {unit}." in result.stderr


def test_a_unit_that_may_still_come_is_not_there_so_far() -> None:
    """While the instance runs, nobody knows which units it will have."""
    running = page(final=False)
    controller = ScriptedController(task_lines=[running], task_units=[{"workunits": []}])
    result = call(controller, "logs", "7", "--unit", "Sub:7")

    assert result.exit_code == 3
    assert "so far" in result.stderr


def test_lines_are_merged_by_time_over_pages() -> None:
    """Lines of one time stay in the order in which they came."""
    controller = ScriptedController(
        task_lines=[
            page(line("b", 2), line("d", 3), position=5, more=True),
            page(line("a", 1), line("c", 2), position=9),
        ]
    )

    assert texts(controller) == ["a", "b", "c", "d"]


def test_a_table_has_readable_times() -> None:
    """UTC, to the millisecond; the name of a work unit stands before its text."""
    answer = page(line("one", 0.123456), line("two", 1, "ERROR"), units=["", "Sub:7"])
    result = call(ScriptedController(task_lines=[answer]), "logs", "7")

    assert result.stdout.splitlines() == [
        "2026-11-22T10:00:00.123Z info    one",
        "2026-11-22T10:00:01.000Z error   [Sub:7] two",
    ]


def test_json_has_times_to_the_microsecond() -> None:
    """One object a line, with everything that is known of it."""
    answer = page(line("one", 0.123456), line("two", 1, "ERROR", "stderr"), units=["", "Sub:7"])
    result = call(ScriptedController(task_lines=[answer]), "logs", "7", "-o", "json")

    assert [json.loads(shown) for shown in result.stdout.splitlines()] == [
        {
            "time": "2026-11-22T10:00:00.123456Z",
            "level": "info",
            "stream": "log",
            "unit": None,
            "text": "one",
        },
        {
            "time": "2026-11-22T10:00:01.000000Z",
            "level": "error",
            "stream": "stderr",
            "unit": "Sub:7",
            "text": "two",
        },
    ]


MIXED = page(
    line("debug", 0, "DEBUG"),
    line("print", 1, "INFO", "stdout"),
    line("complain", 2, "ERROR", "stderr"),
    line("warn", 3, "WARNING"),
    line("odd", 4, "LOUD"),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tail", "2"], ["warn", "odd"]),
        (["--tail", "0"], []),
        (["--level", "warning"], ["complain", "warn", "odd"]),
        (["--level", "DEBUG"], ["debug", "print", "complain", "warn", "odd"]),
        (["--stream", "stdout"], ["print"]),
        (["--stream", "stdout", "--stream", "stderr"], ["print", "complain"]),
        (["--since", "2026-11-22T10:00:03"], ["warn", "odd"]),
        (["--since", "2026-11-22 11:00:03+01:00"], ["warn", "odd"]),
        (["--since", "99999d"], ["debug", "print", "complain", "warn", "odd"]),
        (["--level", "info", "--stream", "log", "--tail", "1"], ["odd"]),
    ],
)
@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_lines_are_chosen(words: list[str], expected: list[str], follow: list[str]) -> None:
    """By level, stream, time and number, and by all of them together; following changes nothing of that."""
    controller = ScriptedController(task_lines=[MIXED, page()])

    assert texts(controller, *words, *follow) == expected


def test_so_long_ago_is_from_now() -> None:
    """A line of years ago is none of the last minute."""
    controller = ScriptedController(task_lines=[page([5.0, "INFO", "log", "old"])])

    assert texts(controller, "--since", "1.5m") == []


def test_following_goes_on_after_what_is_there_until_the_end() -> None:
    """--tail is for what is there; what comes then is shown in the order in which it comes."""
    controller = ScriptedController(
        task_lines=[
            page(line("a"), line("b"), position=2, final=False),
            page(line("c"), position=3, final=False),
            page(position=3, final=False),
            page(line("d"), position=4, more=True),
            page(line("e"), position=5),
        ]
    )

    assert texts(controller, "-f", "--tail", "1") == ["b", "c", "d", "e"]
    assert [kwargs["after"] for _, kwargs in controller.asked("task_lines")] == [0, 2, 3, 3, 4]
    assert [kwargs["wait"] for _, kwargs in controller.asked("task_lines")] == [0.0, 20.0, 20.0, 20.0, 20.0]


def test_a_log_that_was_removed_is_told() -> None:
    """In words, on standard error."""
    result = call(ScriptedController(task_lines=[page(removed="Lines were removed.")]), "logs", "7")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "Lines were removed." in result.stderr


def test_ctrl_c_ends_the_following() -> None:
    """Exit code 130; the task goes on."""
    controller = ScriptedController(task_lines=[page(final=False), KeyboardInterrupt()])
    result = call(controller, "logs", "7", "-f")

    assert result.exit_code == 130
    assert "goes on" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "yesterday"],
        ["--since", ""],
        ["--since", "10"],
        ["--since", "-5m"],
        ["--since", "9" * 400 + "s"],
        ["--since", "٣m"],
        ["--level", "loud"],
        ["--stream", "stdin"],
        ["--tail", "-1"],
    ],
)
def test_what_cannot_be_meant_is_usage(words: list[str]) -> None:
    """It is refused before anything is asked."""
    controller = ScriptedController()

    assert call(controller, "logs", "7", *words).exit_code == 2
    assert controller.calls == []
