# SPDX-License-Identifier: MIT
"""``units``."""

from __future__ import annotations

import json
from typing import Any

from pydra.cli.failures import NOT_FOUND
from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController


def unit(index: int, **changed: Any) -> dict[str, Any]:
    """A unit as the master shows it."""
    return {
        "path": f"7/Sub:{index}",
        "subtask_key": "Sub",
        "workunit_key": index,
        "state": "complete",
        "completed": "2026-11-22 10:00:03",
        "node": 1,
        "result": index,
        "size": 9,
        "error": None,
        "traceback": None,
        **changed,
    }


def answer(*units: dict[str, Any], following: str | None = None, **counts: int) -> dict[str, Any]:
    """An answer of ``task_units``."""
    all_counts = {"complete": 0, "failed": 0, "running": 0, "queued": 0, **counts}
    return {"workunits": list(units), "next": following, "units": all_counts}


def test_units_are_a_table() -> None:
    """One line a unit; what is too long is cut, and the counts are told beside it."""
    controller = ScriptedController(
        task_units=[
            answer(
                unit(0),
                unit(1, state="failed", result=None, size=None, error="ValueError: \x1b no"),
                unit(2, result="x" * 100, size=102),
                unit(3, result=None, size=5000),
                unit(4, state="queued", result=None, size=None, node=None, completed=None),
                complete=3,
                failed=1,
                queued=1,
            )
        ]
    )
    result = call(controller, "units", "7")

    assert result.exit_code == 0, result.stderr
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["UNIT", "STATE", "NODE", "ENDED", "RESULT"]
    assert lines[0].split() == ["7/Sub:0", "complete", "1", "2026-11-22T10:00:03Z", "0"]
    assert "ValueError: \\x1b no" in lines[1]
    assert lines[2].endswith("xxx...")
    assert lines[3].endswith("(5000 bytes)")
    assert lines[4].split() == ["7/Sub:4", "queued"]
    assert result.stderr.splitlines() == ["Work units: 3 complete, 1 failed, 1 queued."]


def test_units_are_json() -> None:
    """One document, with the traceback of what failed."""
    failed = unit(1, state="failed", result=None, size=None, error="no", traceback="Traceback")
    result = call(ScriptedController(task_units=[answer(unit(0), failed)]), "units", "7", "-o", "json")

    first, second = json.loads(result.stdout)
    assert {
        "unit": "7/Sub:0",
        "branch": "Sub",
        "index": 0,
        "state": "complete",
        "node": 1,
        "ended": "2026-11-22T10:00:03Z",
        "result": 0,
        "size": 9,
        "error": None,
        "traceback": None,
    } == first
    assert ("failed", "no", "Traceback") == (second["state"], second["error"], second["traceback"])


def test_what_is_asked_for_is_passed_on() -> None:
    """Branch, failures and place; the number of the instance may stand before the place."""
    controller = ScriptedController(task_units=[answer()])
    words = ("--branch", "Sub", "--failed", "--after", "7/Sub:3", "-n", "5")

    assert call(controller, "units", "7", *words).exit_code == 0
    assert [((7, "Sub"), {"after": "Sub:3", "limit": 5, "state": "failed"})] == controller.asked("task_units")


def test_the_rest_is_of_the_same_choice() -> None:
    """The command for the next units chooses as this one did."""
    controller = ScriptedController(task_units=[answer(unit(3), following="Sub:3")])
    result = call(controller, "units", "7", "--branch", "Sub", "--failed", "-n", "1")
    assert "More: pydra units 7 --branch Sub --failed --after Sub:3 -n 1" in result.stderr


def test_as_many_pages_are_read_as_are_needed() -> None:
    """And it is told where the rest begins."""
    first = [unit(index) for index in range(500)]
    controller = ScriptedController(
        task_units=[answer(*first, following="Sub:499"), answer(unit(500), following="Sub:500")]
    )
    result = call(controller, "units", "7", "-n", "501")

    assert 502 == len(result.stdout.splitlines())
    assert "More: pydra units 7 --after Sub:500 -n 501" in result.stderr
    asked = [(kwargs["after"], kwargs["limit"]) for _, kwargs in controller.asked("task_units")]
    assert [(None, 500), ("Sub:499", 1)] == asked


def test_an_unknown_branch() -> None:
    """It is an error in words, unless only failed ones were asked for."""
    result = call(ScriptedController(task_units=[answer(complete=3)]), "units", "7", "--branch", "Nope")
    assert NOT_FOUND == result.exit_code
    assert "no work unit of branch Nope" in result.stderr
    failed = ("units", "7", "--branch", "Sub", "--failed")
    assert 0 == call(ScriptedController(task_units=[answer(complete=3)]), *failed).exit_code
