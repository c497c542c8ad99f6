# SPDX-License-Identifier: MIT
"""Programs submit tasks through `Client`, and follow their instances to the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydra.cli.local_cluster.settings_text import client_settings
from pydra.client import Client, Line
from pydra.cluster.controller import ControllerRemoteException
from pydra.errors import InvalidParameters, TaskCancelled, TaskFailed
from tests.support.controllers import Desk, RunningServer, keys, running_server

NAMES = ("queue_task", "wait_task", "task_result", "task_lines", "task_units", "cancel_task")


def state(word: str, status: int, seen: int, **other: Any) -> dict[str, Any]:
    """An answer of wait_task."""
    empty = {"percent": -1, "message": None, "result": None, "error": None, "traceback": ""}
    return {"id": 7, "status": status, "state": word, "seen": seen, **empty, **other}


RUNNING = state("running", 1, 4, percent=50)
COMPLETE = state("complete", 3, 5, percent=100, result={"sum": 3})
FAILED = state("failed", -1, 5, error="ValueError: no", error_code="limit", traceback="Traceback: in task")
CANCELLED = state("cancelled", -2, 5)


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[RunningServer]:
    with running_server(desk.commands(*NAMES)) as server:
        yield server


@pytest.fixture
def client(server: RunningServer, desk: Desk, tmp_path: Path) -> Iterator[Client]:
    desk.answers.clear()
    desk.calls.clear()
    desk.answers["queue_task"] = {"task_key": "a.b", "instance_id": 7, "time": 1.0}
    with Client("127.0.0.1", server.port, keys().write(tmp_path / "master.key")) as client:
        yield client


def in_turn(*answers: object) -> Any:
    """An answer that gives one of these at each call."""
    left = list(answers)
    return lambda **_: left.pop(0)


def test_a_result_comes_when_the_task_has_ended(client: Client, desk: Desk) -> None:
    """A submitted task answers its result, however often the master has to be asked."""
    desk.answers["wait_task"] = in_turn(RUNNING, RUNNING, COMPLETE)

    instance = client.submit("a.b", {"start": 3})

    assert {"sum": 3} == instance.result()
    assert (7, "a.b") == (instance.id, instance.task_key)
    assert {"start": 3} == desk.calls[0][1]["args"]
    assert [None, None, None] == [arguments["seen"] for name, arguments in desk.calls[1:]]


def test_options_name_instances(client: Client, desk: Desk) -> None:
    """Where an id is wanted an instance will do, alone, in a list or in a mapping."""
    first = client.instance(3)
    client.submit("a.b", options={"after": first, "follow": {"instances": (first, 4)}, "priority": 1})

    expected = {"after": 3, "follow": {"instances": [3, 4]}, "priority": 1}
    assert expected == desk.calls[0][1]["options"]


def test_refused_arguments_are_told_field_by_field(client: Client, desk: Desk) -> None:
    """A form's errors are raised as InvalidParameters, and there is no instance."""
    desk.answers["queue_task"] = {"task_key": "a.b", "errors": {"start": ["Enter a whole number."]}}

    with pytest.raises(InvalidParameters) as caught:
        client.submit("a.b", {"start": "abc"})

    assert {"start": ["Enter a whole number."]} == caught.value.errors


@pytest.mark.parametrize("options", ["x", [], 0])
def test_options_are_a_mapping(client: Client, desk: Desk, options: Any) -> None:
    """Anything else is refused as an option is, and nothing is asked."""
    with pytest.raises(InvalidParameters) as caught:
        client.submit("a.b", options=options)

    assert {"options": ["a mapping of names to values is needed."]} == caught.value.errors
    assert [] == desk.calls


def test_other_refusals_pass(client: Client, desk: Desk) -> None:
    """What the function itself refuses is raised as the controller raises it."""
    desk.answers["queue_task"] = InvalidParameters(errors={"start": ["no"]})

    with pytest.raises(ControllerRemoteException):
        client.submit("a.b")


def test_progress_is_told_at_each_change(client: Client, desk: Desk) -> None:
    """A progress callback hears each state once, the last one included."""
    desk.answers["wait_task"] = in_turn(RUNNING, RUNNING, COMPLETE)
    heard: list[int] = []

    ended = client.instance(7).wait(progress=lambda now: heard.append(now["percent"]))

    assert [50, 100] == heard
    assert COMPLETE == ended
    assert [-1, 4, 4] == [arguments["seen"] for _, arguments in desk.calls]


def test_a_failure_is_raised_with_the_tasks_traceback(client: Client, desk: Desk) -> None:
    """A task that raised fails its result with its own traceback as a note."""
    desk.answers["wait_task"] = FAILED

    with pytest.raises(TaskFailed, match="ValueError: no") as caught:
        client.instance(7).result()

    assert ["Traceback: in task"] == caught.value.__notes__
    assert "limit" == caught.value.code


def test_a_cancelled_task_has_no_result(client: Client, desk: Desk) -> None:
    """The result of a cancelled instance is TaskCancelled."""
    desk.answers.update(cancel_task=True, wait_task=CANCELLED)
    instance = client.instance(7)

    assert instance.cancel() is True
    with pytest.raises(TaskCancelled):
        instance.result()


def test_waiting_ends_in_time(client: Client, desk: Desk) -> None:
    """A wait with a timeout ends with TimeoutError while the task goes on."""
    desk.answers["wait_task"] = RUNNING

    with pytest.raises(TimeoutError):
        client.instance(7).wait(timeout_s=0)
    assert 0.0 == desk.calls[0][1]["timeout"]


def test_lines_are_followed_to_the_end(client: Client, desk: Desk) -> None:
    """All lines of a task are given in order, and the iteration ends with the task."""
    rows = [[1.0, "info", "stdout", "one"], [2.0, "info", "stderr", "two"], [3.0, "info", "log", "three"]]
    desk.answers["task_lines"] = in_turn(
        {"lines": rows[:2], "next": 2, "final": False},
        {"lines": [], "next": 2, "final": False},
        {"lines": rows[2:], "next": 3, "final": True},
        {"lines": [], "next": 3, "final": True},
    )

    assert [Line(*row) for row in rows] == list(client.instance(7).lines())
    assert [0, 2, 2, 3] == [arguments["after"] for _, arguments in desk.calls]
    assert {25.0} == {arguments["wait"] for _, arguments in desk.calls}


def test_lines_of_one_unit_can_be_chosen(client: Client, desk: Desk) -> None:
    """The unit is named by its branch and its index."""
    desk.answers["task_lines"] = {"lines": [], "next": 0, "final": True}

    assert [] == list(client.instance(7).lines(unit=("Sub", 3)))
    assert [("Sub", 3)] == [(each["subtask"], each["workunit_id"]) for _, each in desk.calls]


def test_all_pages_of_units_are_read(client: Client, desk: Desk) -> None:
    """Each is asked for from where the one before it ended."""
    desk.answers["task_units"] = in_turn(
        {"workunits": [{"path": "7/Sub:0"}, {"path": "7/Sub:1"}], "next": "Sub:1"},
        {"workunits": [{"path": "7/Sub:2"}], "next": None},
    )

    assert ["7/Sub:0", "7/Sub:1", "7/Sub:2"] == [
        unit["path"] for unit in client.instance(7).units(failed=True)
    ]
    assert [(None, "failed"), ("Sub:1", "failed")] == [
        (each["after"], each["state"]) for _, each in desk.calls
    ]


def test_the_lines_so_far_need_no_end(client: Client, desk: Desk) -> None:
    """Without following, the lines that are there are given and nothing is waited for."""
    desk.answers["task_lines"] = in_turn(
        {"lines": [[1.0, "info", "stdout", "one"]], "next": 1, "final": False},
        {"lines": [], "next": 1, "final": False},
    )

    assert ["one"] == [line.text for line in client.instance(7).lines(follow=False)]
    assert {0.0} == {arguments["wait"] for _, arguments in desk.calls}


def test_the_settings_say_where_the_master_is(
    server: RunningServer, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without arguments, the settings file names the master and the key."""
    keys().write(tmp_path / "master.key")
    settings = tmp_path / "pydra_settings.py"
    settings.write_text(
        f"HOST = '127.0.0.1'\nCONTROLLER_PORT = {server.port}\nCONTROLLER_KEY = 'master.key'\n"
    )
    settings.chmod(0o600)
    desk.answers["task_result"] = COMPLETE

    with Client(settings=settings) as client:
        assert COMPLETE == client.instance(7).state()


def test_the_cluster_of_this_user_is_found(
    server: RunningServer, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing says where it is, it is the one that ``pydra cluster up`` started, as for commands."""
    directory = tmp_path / "data" / "pydra"
    directory.mkdir(parents=True)
    keys().write(directory / "master.key")
    (directory / "pydra_settings.py").write_text(client_settings(server.port, directory / "master.key"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("PYDRA_SETTINGS", raising=False)
    desk.answers["task_result"] = COMPLETE

    with Client() as client:
        assert COMPLETE == client.instance(7).state()
