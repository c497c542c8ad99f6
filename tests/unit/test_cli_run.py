# SPDX-License-Identifier: MIT
"""``run``: submitting, waiting, lines."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydra.cli.run import parse_arguments
from pydra.cluster.controller import ControllerException, ControllerRemoteException
from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController

KEY = "demo.demo_task.TestTask"
QUEUED = {"task_key": KEY, "instance_id": 7, "time": 1795341600.0}
NO_LINES = {"lines": [], "next": 0, "final": True}


def state(status: int, word: str, **more: Any) -> dict[str, Any]:
    """Return an answer of ``wait_task``."""
    return {"id": 7, "status": status, "state": word, "percent": -1, "result": None, "error": None, **more}


COMPLETE = state(3, "complete", percent=100, result={"5": 1}, seen=9)


def test_run_prints_the_id() -> None:
    """Without --wait, the id is all that stands on standard output."""
    controller = ScriptedController(queue_task=[QUEUED])
    result = call(controller, "run", KEY, "-a", "start=0", "-a", "end:=5")
    ((key, arguments), more), *_ = controller.asked("queue_task")

    assert (result.exit_code, result.stdout) == (0, "7\n")
    assert (key, arguments) == (KEY, {"start": "0", "end": 5})
    assert len(more["request_key"]) == 32


def test_run_json() -> None:
    """Under -o json, the id, the task and the time of queueing in ISO 8601."""
    result = call(ScriptedController(queue_task=[QUEUED]), "run", KEY, "-o", "json")

    assert json.loads(result.stdout) == {"id": 7, "task_key": KEY, "queued": "2026-11-22T10:00:00.000Z"}


def test_arguments_that_the_form_refuses_are_usage() -> None:
    """The messages of each field are shown; nothing was queued."""
    refused = {"task_key": KEY, "errors": {"start": ["Enter a whole number."]}}
    result = call(ScriptedController(queue_task=[refused]), "run", KEY, "-a", "start=abc")

    assert result.exit_code == 2
    assert "start: Enter a whole number." in result.stderr


def test_an_unknown_task_is_not_found() -> None:
    """A task key that does not exist ends with 3."""
    missing = ControllerRemoteException("There is no task no.such.Task.", remote_code="not_found")

    assert call(ScriptedController(queue_task=[missing]), "run", "no.such.Task").exit_code == 3


def test_wait_shows_progress_and_lines_and_prints_the_result() -> None:
    """Progress and log lines go to standard error, the result to standard output."""
    controller = ScriptedController(
        queue_task=[QUEUED],
        wait_task=[state(0, "queued", seen=1), state(1, "running", percent=40, seen=2), COMPLETE],
        task_lines=[
            {"lines": [[1795341600.5, "info", "log", "counting"]], "next": 1, "final": False},
            {"lines": [], "next": 1, "final": True},
        ],
    )
    result = call(controller, "run", KEY, "--wait")

    assert (result.exit_code, result.stdout) == (0, '{\n  "5": 1\n}\n')
    assert result.stderr.splitlines() == [
        f"Task instance 7 of {KEY}",
        "2026-11-22T10:00:00.500Z info    counting",
        "queued",
        "running 40 %",
        "complete 100 %",
    ]
    assert [kwargs["seen"] for _, kwargs in controller.asked("wait_task")] == [None, 1, 2]


def test_wait_shows_all_lines_before_the_end() -> None:
    """Lines that arrive after the result stand before the last state, which ends what is shown."""
    late = {"lines": [[1795341600.5, "info", "stdout", "late"]], "next": 1, "final": False}
    answers = [{**NO_LINES, "final": False}, late, {"lines": [], "next": 1, "final": True}]
    controller = ScriptedController(queue_task=[QUEUED], wait_task=[COMPLETE], task_lines=answers)
    result = call(controller, "run", KEY, "--wait")

    assert ["2026-11-22T10:00:00.500Z info    late", "complete 100 %"] == result.stderr.splitlines()[1:]


def test_wait_names_the_units_of_lines() -> None:
    """As ``logs`` does: those of several units are mixed."""
    lines = [[1795341600.5, "info", "log", "from the task"], [1795341600.6, "info", "stdout", "from a unit"]]
    answer = {"lines": lines, "units": ["", "Sub:7"], "next": 1, "final": True}
    controller = ScriptedController(queue_task=[QUEUED], wait_task=[COMPLETE], task_lines=[answer, NO_LINES])
    result = call(controller, "run", KEY, "--wait")

    assert "info    from the task\n" in result.stderr
    assert "info    [Sub:7] from a unit\n" in result.stderr


def test_wait_fails_if_the_task_failed() -> None:
    """Exit code 1, the traceback on standard error."""
    failed = state(-1, "failed", error="ValueError: no", traceback="Traceback of the task")
    controller = ScriptedController(queue_task=[QUEUED], wait_task=[failed], task_lines=[NO_LINES])
    result = call(controller, "run", KEY, "--wait")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback of the task" in result.stderr
    assert "Task instance 7 failed: ValueError: no" in result.stderr


def test_wait_json_is_the_outcome() -> None:
    """Under -o json, state and result in one document."""
    controller = ScriptedController(queue_task=[QUEUED], wait_task=[COMPLETE], task_lines=[NO_LINES])
    result = call(controller, "run", KEY, "--wait", "-o", "json")

    assert json.loads(result.stdout)["state"] == "complete"
    assert json.loads(result.stdout)["result"] == {"5": 1}


def test_timeout_leaves_the_task_running() -> None:
    """Exit code 124, and how to cancel it."""
    controller = ScriptedController(
        queue_task=[QUEUED],
        wait_task=[state(1, "running", seen=1)],
        task_lines=[{**NO_LINES, "final": False}],
    )
    result = call(controller, "run", KEY, "--wait", "--timeout", "0.001")

    assert result.exit_code == 124
    assert "to cancel it: pydra cancel 7" in result.stderr


def test_ctrl_c_leaves_the_task_running() -> None:
    """Exit code 130, and how to cancel it."""
    controller = ScriptedController(queue_task=[QUEUED], wait_task=[KeyboardInterrupt()])
    result = call(controller, "run", KEY, "--wait")

    assert result.exit_code == 130
    assert "goes on; to cancel it: pydra cancel 7" in result.stderr


@pytest.mark.parametrize(
    "away",
    [
        ControllerException(-2),
        ControllerRemoteException("The master is stopping.", remote_code="cluster"),
    ],
)
def test_a_master_that_comes_back_is_waited_for(away: ControllerException) -> None:
    """A short absence of the master is told once and does not end the waiting."""
    controller = ScriptedController(queue_task=[QUEUED], wait_task=[away, COMPLETE], task_lines=[NO_LINES])
    result = call(controller, "run", KEY, "--wait")

    assert result.exit_code == 0
    assert result.stderr.count("trying again") == 1


@pytest.mark.parametrize("text", ["a", "=1", ":=1", "a:=", "a:={"])
def test_malformed_arguments_are_refused(text: str) -> None:
    """An argument without a name, a value, or with broken JSON is a usage error."""
    with pytest.raises(click.UsageError):
        parse_arguments((text,))


def test_an_argument_given_twice_is_refused() -> None:
    """The same name twice is a usage error."""
    with pytest.raises(click.UsageError, match="twice"):
        parse_arguments(("a=1", "a:=2"))


@given(st.from_regex(r"[A-Za-z_][A-Za-z_0-9]*", fullmatch=True), st.text())
def test_text_arrives_as_it_was_given(name: str, text: str) -> None:
    """NAME=TEXT is never interpreted."""
    assert parse_arguments((f"{name}={text}",)) == {name: text}


def test_run_with_options() -> None:
    """Each goes to the master under its name, with the mode and the ends of dependencies."""
    controller = ScriptedController(queue_task=[QUEUED])
    given = (
        *("--priority", "-3", "--time-limit", "1.5", "--retries", "2", "--retry-delay", "0"),
        *("--after", "3,4", "--follow-any", "5", "--when", "end"),
        *("--label", "ssd", "--label", "big", "--resource", "gpus=1", "--resource", "cpus=0.5"),
    )
    assert 0 == call(controller, "run", KEY, *given).exit_code
    (_, more), *_ = controller.asked("queue_task")
    assert {
        "priority": -3,
        "time_limit": 1.5,
        "retries": 2,
        "retry_delay": 0.0,
        "after": {"instances": [3, 4], "failure": True},
        "follow": {"instances": [5], "mode": "any", "failure": True},
        "labels": ["ssd", "big"],
        "resources": {"gpus": 1.0, "cpus": 0.5},
    } == more["options"]


def test_run_at_most_once() -> None:
    """At most once and exclusive are options like the others, and are not said unless they are given."""
    for words, options in (
        (("--retry", "never", "--exclusive"), {"retry": "never", "exclusive": True}),
        (("--retry", "lost", "--retries", "0"), {"retry": "lost", "retries": 0}),
    ):
        controller = ScriptedController(queue_task=[QUEUED])
        assert 0 == call(controller, "run", KEY, *words).exit_code
        (_, more), *_ = controller.asked("queue_task")
        assert options == more["options"]


@pytest.mark.parametrize(
    "given",
    [
        ("--retry", "sometimes"),
        ("--after", "x"),
        ("--after", "1,"),
        ("--after", "1", "--after-any", "2"),
        ("--when", "failure"),
        ("--resource", "gpus"),
        ("--resource", "gpus=many"),
        ("--resource", "gpus=nan"),
        ("--resource", "gpus=1", "--resource", "gpus=2"),
        ("--resource", "memory=much"),
        ("--resource", "memory=-1"),
        ("--time-limit", "inf"),
        ("--retry-delay", "nan"),
        ("--wait", "--timeout", "nan"),
        ("--arg", "a:=NaN"),
        ("--arg", "a:=[-Infinity]"),
        ("--priority", "high"),
    ],
)
def test_options_that_cannot_be_read_are_usage(given: tuple[str, ...]) -> None:
    """Nothing is sent."""
    controller = ScriptedController()
    assert 2 == call(controller, "run", KEY, *given).exit_code
    assert not controller.asked("queue_task")


def test_wait_says_why_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when it has waited for a while."""
    monkeypatch.setattr("pydra.cli.follow.WAITING_S", 0.0)
    controller = ScriptedController(
        queue_task=[QUEUED],
        wait_task=[state(0, "queued", seen=1), state(0, "queued", seen=2), COMPLETE],
        task_lines=[NO_LINES],
        explain=[{"text": "It waits: no node is ready."}],
    )
    result = call(controller, "run", KEY, "--wait")

    assert 1 == result.stderr.count("It waits: no node is ready. More: pydra explain 7")
    assert 1 == len(controller.asked("explain"))
