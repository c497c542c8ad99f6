# SPDX-License-Identifier: MIT
"""``explain``, ``pause`` and ``resume``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pydra.cluster.controller import ControllerRemoteException
from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController

FOUND: dict[str, Any] = {
    "id": 7,
    "task_key": "demo.tasks.Task",
    "status": 0,
    "state": "queued",
    "final": False,
    "text": "It waits: no ready node meets what it asks for.",
    "ahead": 3,
    "retry_in": None,
    "options": {"labels": ["ssd"], "resources": {"gpus": 0.5}},
    "dependencies": [{"kind": "after", "id": 3, "state": "complete", "met": True}],
    "nodes": [
        {"id": 1, "host": "127.0.0.1", "port": 5, "reason": "lacks the label ssd"},
        {"id": 2, "host": None, "port": None, "reason": "is not connected"},
    ],
    "units": {"queued": 10, "running": 4, "workers": 2},
}


def test_explain_for_people() -> None:
    """The sentence, what was asked for, dependencies and nodes."""
    result = call(ScriptedController(explain=[FOUND]), "explain", "7")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["why", *FOUND["text"].split()] in lines
    assert ["asked", "for", "label", "ssd,", "0.5", "gpus"] in lines
    assert ["units", "10", "wait,", "4", "are", "with", "2", "workers"] in lines
    assert ["3", "after", "complete", "good"] in lines
    assert ["1", "127.0.0.1:5", "lacks", "the", "label", "ssd"] in lines
    assert ["2", "?", "is", "not", "connected"] in lines


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ({"queued": 0, "running": 0, "workers": 0}, "none wait, none are with a worker"),
        ({"queued": 1, "running": 1, "workers": 1}, "1 waits, 1 is with a worker"),
    ],
)
def test_explain_few_units(units: dict[str, int], words: str) -> None:
    """One is one, and no unit is none."""
    result = call(ScriptedController(explain=[{**FOUND, "units": units}]), "explain", "7")
    assert words in result.stdout


def test_explain_as_json() -> None:
    """All of it."""
    result = call(ScriptedController(explain=[FOUND]), "explain", "7", "-o", "json")
    assert FOUND == json.loads(result.stdout)


def test_explain_little() -> None:
    """Of what has ended there is a sentence and no tables; of many dependencies some are shown."""
    ended = {
        **FOUND,
        "dependencies": [],
        "nodes": [],
        "units": None,
        "options": None,
        "text": "It is complete.",
    }
    result = call(ScriptedController(explain=[ended]), "explain", "7")
    assert "It is complete." in result.stdout
    assert "NODE" not in result.stdout
    many = [{"kind": "after", "id": number, "state": "queued", "met": False} for number in range(100, 130)]
    result = call(ScriptedController(explain=[{**FOUND, "dependencies": many}]), "explain", "7")
    assert "119" in result.stdout
    assert "120" not in result.stdout
    assert "10 more" in result.stderr


def test_explain_an_unknown_one() -> None:
    """It ends with 3."""
    missing = ControllerRemoteException("There is no task instance 9.", remote_code="not_found")
    assert 3 == call(ScriptedController(explain=[missing]), "explain", "9").exit_code


@pytest.mark.parametrize(("command", "word"), [("pause", "paused"), ("resume", "resumed")])
def test_pause_and_resume(command: str, word: str) -> None:
    """Several are asked for in one command; a refusal is told and ends with 1."""
    controller = ScriptedController(**{f"{command}_task": [True, True]})
    result = call(controller, command, "1", "2")
    assert (0, f"Task instance 1 is {word}.\nTask instance 2 is {word}.\n") == (
        result.exit_code,
        result.stderr,
    )
    assert [((1,), {}), ((2,), {})] == controller.asked(f"{command}_task")
    controller = ScriptedController(**{f"{command}_task": [True]})
    assert [{"id": 1, word: True}] == json.loads(call(controller, command, "1", "-o", "json").stdout)
    why = "Task instance 1 cannot be paused: it has failed."
    refused = ControllerRemoteException(why, remote_code="conflict")
    result = call(ScriptedController(**{f"{command}_task": [refused]}), command, "1")
    assert (1, True) == (result.exit_code, why in result.stderr)


@pytest.mark.parametrize(("command", "word"), [("pause", "paused"), ("resume", "resumed")])
def test_one_that_is_refused_does_not_keep_others(command: str, word: str) -> None:
    """All are asked for; what was refused is told, and the first of them is the exit code."""
    missing = ControllerRemoteException("There is no task instance 1.", remote_code="not_found")
    refused = ControllerRemoteException("Task instance 3 has failed.", remote_code="conflict")
    answers = [missing, True, refused]
    result = call(ScriptedController(**{f"{command}_task": list(answers)}), command, "1", "2", "3")
    told = f"Task instance 2 is {word}.\nError: There is no task instance 1.\nTask instance 3 has failed.\n"
    assert (3, told) == (result.exit_code, result.stderr)
    result = call(
        ScriptedController(**{f"{command}_task": list(answers)}), command, "1", "2", "3", "-o", "json"
    )
    assert [False, True, False] == [each[word] for each in json.loads(result.stdout)]
