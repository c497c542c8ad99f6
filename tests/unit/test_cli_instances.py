# SPDX-License-Identifier: MIT
"""``ps``, ``status``, ``cancel``, ``history`` and ``result``."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from pydra.cli.output import fitted
from pydra.cli.shapes import short, took
from pydra.cluster.controller import ControllerException, ControllerRemoteException
from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController

RUNNING = {
    "id": 7,
    "task_key": "demo.tasks.Task",
    "status": 1,
    "state": "running",
    "args": '{"start": "0"}',
    "queued": "2026-11-22 10:00:00",
    "started": "2026-11-22 10:00:01",
    "completed": None,
    "results": None,
    "progress": 40,
}
DONE = {**RUNNING, "status": 3, "state": "complete", "completed": "2026-11-22 10:00:03", "progress": 100}
COMPLETE = {
    "id": 7,
    "status": 3,
    "state": "complete",
    "percent": 100,
    "message": None,
    "result": {"5": 1},
    "error": None,
    "traceback": None,
    "seen": 3,
}


def test_ps_lists_what_waits_and_runs() -> None:
    """Each instance is one line of a table; what runs has the time so far."""
    started = datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC).timestamp()
    result = call(ScriptedController(list_queue=[[RUNNING]]), "ps", now=started + 62.7)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ID  TASK             STATE    PROGRESS  QUEUED                TOOK",
        "7   demo.tasks.Task  running  40 %      2026-11-22T10:00:00Z  62 s",
    ]


def test_ps_shows_units() -> None:
    """The units that are complete go with the progress, and alone if that is not known."""
    counts = {"complete": 900, "failed": 2, "running": 8, "queued": 90}
    instances = [
        {**RUNNING, "units": counts},
        {**RUNNING, "progress": -1, "units": {**counts, "complete": 1}},
    ]
    result = call(ScriptedController(list_queue=[instances]), "ps", now=0)
    assert ["40 %, 900 units, 2 failed " in result.stdout, "  1 unit, 2" in result.stdout] == [True, True]
    shown = call(ScriptedController(list_queue=[instances]), "ps", "-o", "json", now=0)
    assert counts == json.loads(shown.stdout)[0]["units"]


def test_status_shows_units() -> None:
    """All counts that are not zero."""
    answer = {**COMPLETE, "units": {"complete": 900, "failed": 2, "running": 0, "queued": 0}}
    detail = {"details": DONE, "name": "", "description": "", "workunits": []}
    controller = ScriptedController(task_result=[answer], task_history_detail=[detail])
    result = call(controller, "status", "7", now=0)
    assert ["units      900 complete, 2 failed"] == [
        line for line in result.stdout.splitlines() if line.startswith("units")
    ]


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        ({}, 5.0),
        ({"state": "cancelling"}, 5.0),
        ({"started": None}, None),
        ({"started": "2026-11-22 10:00:09"}, 0.0),
        ({"status": -1, "state": "failed"}, None),
        ({"completed": "2026-11-22 10:00:03.500"}, 2.5),
    ],
)
def test_how_long_an_instance_took(changed: dict[str, object], seconds: float | None) -> None:
    """From start to end, or to now; never less than nothing, whatever the clocks say."""
    now = datetime(2026, 11, 22, 10, 0, 6, 900_000, tzinfo=UTC).timestamp()

    assert took({**RUNNING, **changed}, now) == seconds


def test_ps_json_has_iso_times_and_arguments_as_values() -> None:
    """Under -o json the API's texts are values."""
    result = call(ScriptedController(list_queue=[[RUNNING]]), "ps", "-o", "json")

    assert json.loads(result.stdout) == [
        {
            "id": 7,
            "task_key": "demo.tasks.Task",
            "state": "running",
            "percent": 40,
            "args": {"start": "0"},
            "queued": "2026-11-22T10:00:00Z",
            "started": "2026-11-22T10:00:01Z",
            "completed": None,
        }
    ]


def test_ps_all_asks_for_the_latest() -> None:
    """--all lists what has ended too, as many as asked for."""
    controller = ScriptedController(list_recent=[[DONE]])
    result = call(controller, "ps", "--all", "-n", "3")

    assert controller.asked("list_recent") == [((), {"limit": 3})]
    assert "2 s" in result.stdout


def test_names_cannot_steer_the_terminal() -> None:
    """Escape sequences, line ends and turned text in a task key are shown as codes."""
    evil = {**RUNNING, "task_key": "a\x1b[31m\u202eb\nc"}
    result = call(ScriptedController(list_queue=[[evil]]), "ps")

    assert len(result.stdout.splitlines()) == 2
    assert "a\\x1b[31m\\u202eb\\nc" in result.stdout


def test_every_command_says_that_there_is_no_sandbox() -> None:
    """With isolation none, a warning stands on standard error."""
    result = call(ScriptedController(isolation="none", list_queue=[[]]), "ps", "-o", "json")

    assert json.loads(result.stdout) == []
    assert "WITHOUT a sandbox" in result.stderr


@pytest.mark.parametrize(
    ("words", "function", "asked"),
    [
        ((), "list_queue", {"limit": 500, "skip": 0}),
        (("-n", "5", "--skip", "10"), "list_queue", {"limit": 5, "skip": 10}),
        (("--all",), "list_recent", {"limit": 20}),
        (("-a", "-n", "5"), "list_recent", {"limit": 5}),
    ],
)
def test_how_many_are_listed(words: tuple[str, ...], function: str, asked: dict[str, int]) -> None:
    """As many as are wanted; without a word as many of the queue as one answer has, or the latest few."""
    controller = ScriptedController(list_queue=[[]], list_recent=[[]])
    call(controller, "ps", *words)

    assert [((), asked)] == controller.asked(function)


def test_more_than_are_listed() -> None:
    """If there may be more, how to see them is told."""
    result = call(ScriptedController(list_queue=[[RUNNING]]), "ps", "-n", "1", "--skip", "2")
    assert "pydra ps --limit 1 --skip 3" in result.stderr
    assert 2 == call(ScriptedController(), "ps", "--all", "--skip", "2").exit_code


def test_the_connection_is_closed() -> None:
    """A command leaves no connection behind."""
    controller = ScriptedController(list_queue=[[]])
    call(controller, "ps")

    assert controller.is_closed


def test_status_of_an_instance() -> None:
    """What is known of one instance, one fact a line."""
    controller = ScriptedController(task_result=[COMPLETE], task_history_detail=[{"details": DONE}])
    result = call(controller, "status", "7")

    assert result.exit_code == 0
    assert "state      complete" in result.stdout
    assert "took       2 s" in result.stdout


def test_status_of_an_unknown_instance_is_not_found() -> None:
    """An id that does not exist ends with 3."""
    missing = ControllerRemoteException("There is no task instance 9.", remote_code="not_found")
    result = call(ScriptedController(task_result=[missing]), "status", "9", "-o", "json")

    assert result.exit_code == 3
    assert json.loads(result.stderr)["error"] == {
        "code": "not_found",
        "message": "There is no task instance 9.",
        "exit_code": 3,
    }
    assert result.stdout == ""


def test_cancel_asks_for_each() -> None:
    """Several ids are cancelled in one command; it says which of them are, and which were asked to stop."""
    states = [{"status": 1, "state": "cancelled"}, {"status": 1, "state": "cancelling"}]
    controller = ScriptedController(cancel_task=[True], task_result=states)
    result = call(controller, "cancel", "7", "8")

    assert result.exit_code == 0
    assert [kwargs["task_id"] for _, kwargs in controller.asked("cancel_task")] == [7, 8]
    assert result.stderr == "Task instance 7 is cancelled.\nAsked task instance 8 to stop.\n"


def test_cancel_of_nothing_is_not_found() -> None:
    """An id that cannot be cancelled ends with 3, after the others were cancelled."""
    missing = ControllerRemoteException("There is no task instance 7.", remote_code="not_found")
    states = [missing, {"state": "cancelled"}, {"state": "complete"}]
    controller = ScriptedController(cancel_task=[False, True, False] * 2, task_result=states * 2)
    result = call(controller, "cancel", "7", "8", "9", "-o", "json")

    assert result.exit_code == 3
    assert json.loads(result.stdout) == [
        {"id": 7, "cancelled": False, "state": None},
        {"id": 8, "cancelled": True, "state": "cancelled"},
        {"id": 9, "cancelled": False, "state": "complete"},
    ]
    said = call(controller, "cancel", "7", "8", "9").stderr
    assert said == (
        "Task instance 8 is cancelled.\n"
        "Error: There is no task instance 7.\nTask instance 9 has ended: it is complete.\n"
    )


def test_history_pages() -> None:
    """The runs of one task, a page at a time."""
    page = {"prev": None, "next": 2, "page": 1, "instances": [DONE]}
    controller = ScriptedController(task_history=[page])
    result = call(controller, "history", "demo.tasks.Task")

    assert controller.asked("task_history") == [(("demo.tasks.Task", 1), {})]
    assert "--page 2" in result.stderr


@pytest.mark.parametrize(
    ("value", "printed"),
    [("text", "text\n"), ({"a": 1}, '{\n  "a": 1\n}\n'), (None, "null\n"), (0, "0\n"), ([], "[]\n")],
)
def test_result_is_printed(value: object, printed: str) -> None:
    """Text as it is, anything else as JSON; falsy results are results."""
    result = call(ScriptedController(task_result=[{**COMPLETE, "result": value}]), "result", "7")

    assert (result.exit_code, result.stdout) == (0, printed)


def test_result_of_a_failed_task_is_its_error() -> None:
    """Exit code 1, error and traceback on standard error, nothing on standard output."""
    failed = {
        **COMPLETE,
        "status": -1,
        "state": "failed",
        "error": "ValueError: no",
        "traceback": "Traceback\n",
    }
    result = call(ScriptedController(task_result=[failed]), "result", "7")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "Traceback\nTask instance 7 failed: ValueError: no\n"


def test_result_before_the_end_says_so() -> None:
    """An instance that runs has no result yet."""
    result = call(
        ScriptedController(task_result=[{**COMPLETE, "status": 1, "state": "running"}]), "result", "7"
    )

    assert result.exit_code == 1
    assert "has not ended: running" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(-1, 4), (-2, 5), (-4, 4), (-5, 1), (-6, 1)])
def test_failures_of_the_connection_are_exit_codes(number: int, code: int) -> None:
    """Each code of the controller has its exit code."""
    result = call(ScriptedController(list_queue=[ControllerException(number)]), "ps")

    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words", [("status", "x"), ("cancel",), ("nonsense",), ("result", "0"), ("ps", "-o", "xml")]
)
def test_wrong_usage_is_2(words: tuple[str, ...]) -> None:
    """What cannot be parsed is refused before anything is asked."""
    controller = ScriptedController()

    assert call(controller, *words).exit_code == 2
    assert controller.calls == []


def test_wrong_usage_is_json_too() -> None:
    """Under -o json, usage errors are JSON as well."""
    result = call(ScriptedController(), "status", "x", "-o", "json")

    assert json.loads(result.stderr)["error"]["exit_code"] == 2


def test_what_is_no_number_of_an_instance() -> None:
    """It is said as such, and where the numbers are."""
    for words in (["explain", "abc"], ["cancel", "7", "0"], ["units", "1.5"], ["pause", "x"]):
        result = call(ScriptedController(), *words)
        assert result.exit_code == 2
        assert f"'{words[-1]}' is not the number of a task instance; see: pydra ps --all" in result.stderr


def test_a_short_time_has_no_date_if_it_is_todays() -> None:
    """Both days are those of UTC."""
    now = datetime(2026, 11, 22, 23, 0, tzinfo=UTC).timestamp()
    assert short("2026-11-22T00:00:01Z", now) == "00:00:01Z"
    assert short("2026-11-21T23:59:59Z", now) == "2026-11-21 23:59Z"
    assert short(None, now) is None


@pytest.mark.parametrize(
    ("widths", "total", "left"),
    [
        ([3, 24, 9], 80, [3, 24, 9]),
        ([3, 24, 9], 30, [3, 14, 9]),
        ([3, 24, 20, 9], 40, [3, 11, 11, 9]),
        ([30, 24, 9], 20, [30, 8, 8]),
        ([3], 1, [3]),
    ],
)
def test_the_widest_columns_of_a_table_are_cut(widths: list[int], total: int, left: list[int]) -> None:
    """But not the first, which names the row, and none to nothing."""
    assert fitted(widths, total) == left


def test_ps_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In eighty columns there is the number, the state and the time of each, and only the task is cut."""
    # In this order: the second is imported from the first, and with the double in place it would keep that.
    monkeypatch.setattr("pydra.cli.instances.is_terminal", lambda _stream: True)
    monkeypatch.setattr("pydra.cli.output.is_terminal", lambda _stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    counts = {"complete": 1_075_516, "failed": 12, "running": 0, "queued": 0}
    record = {**RUNNING, "id": 123456, "task_key": "some.long_name.OfATask", "units": counts}
    now = datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC).timestamp()
    result = call(ScriptedController(list_queue=[[record]]), "ps", now=now)
    shown = result.stdout.splitlines()[-1]
    assert shown.startswith("123456  some.long")
    assert "running  40 %, 1075516 units, " in shown
    assert "10:00:00Z  4 s" in shown


def test_a_large_result_is_fetched() -> None:
    """What is too large for the answer is asked for by itself, and shown as JSON."""
    answer = {**COMPLETE, "result": None, "size": 5_000_000, "download": "/results/7"}
    for words in (("result", "7"), ("result", "7", "-o", "json")):
        result = call(ScriptedController(task_result=[answer], fetch_result=[{"a": b"\x00"}]), *words)
        assert "AA==" in result.stdout
