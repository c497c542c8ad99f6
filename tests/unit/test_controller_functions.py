# SPDX-License-Identifier: MIT
"""Arguments from outside are bound to the table of functions, or refused in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pydra.cluster.controller.functions import FUNCTIONS, LARGEST_INTEGER, bind, commands_of
from pydra.cluster.controller.web.session import KEYED, REPEATABLE
from pydra.errors import InvalidParameters


def bound(name: str, *args: object, **kwargs: object) -> dict[str, Any]:
    return bind(FUNCTIONS[name], args, kwargs)


def refused(name: str, *args: object, **kwargs: object) -> dict[str, list[str]]:
    with pytest.raises(InvalidParameters) as caught:
        bound(name, *args, **kwargs)
    return caught.value.errors


def test_positional_and_named_arguments_meet_defaults() -> None:
    """A command gets all its arguments by name, with the defaults of those that were not given."""
    assert {"key": "a.b", "page": 3} == bound("task_history", "a.b", 3)
    assert {"key": "a.b", "page": 1} == bound("task_history", key="a.b")
    assert {"task_id": 7, "timeout": 25.0, "seen": None} == bound("wait_task", 7)


@pytest.mark.parametrize(
    ("name", "alias"),
    [("cancel_task", "task_key"), ("task_history_detail", "task_instance_id"), ("cancel_task", "task_id")],
)
def test_an_id_may_be_given_under_its_old_name(name: str, alias: str) -> None:
    """The names of the original documentation and of its code both work."""
    assert 5 == bound(name, **{alias: 5})["task_id"]


def test_ids_may_be_texts() -> None:
    """Ids that were the names of a JSON object, and so became texts, are whole numbers again."""
    assert {"task_id": 12} == bound("cancel_task", "12")


@pytest.mark.parametrize(
    "value", [None, True, "x", "", "-", 1.5, [], {}, LARGEST_INTEGER + 1, "9" * 400, "²"]
)
def test_what_is_no_id_is_refused(value: object) -> None:
    """An id is a whole number that a database can hold."""
    assert ["task_id"] == list(refused("task_result", value))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("list_tasks", {"toplevel": 1}),
        ("list_tasks", {"keys": "a.b"}),
        ("list_tasks", {"keys": [1]}),
        ("queue_task", {"task_key": None}),
        ("queue_task", {"task_key": "a.b", "args": []}),
        ("kill_worker", {"worker_key": "host:1:0", "kill": "x"}),
        ("wait_task", {"task_id": 1, "timeout": "1"}),
        ("wait_task", {"task_id": 1, "timeout": 10**400}),
        ("task_lines", {"task_id": 1, "wait": True}),
    ],
)
def test_values_of_other_types_are_refused(name: str, given: dict[str, object]) -> None:
    """An argument of a wrong type is named, and nothing is guessed."""
    assert 1 == len(refused(name, **given))


def test_all_faults_are_told_at_once() -> None:
    """Too many, unknown, doubled and missing arguments are all named in one refusal."""
    assert {"args", "x"} == set(refused("cluster_info", 1, x=2))
    assert {"key": ["this argument was given twice."]} == refused("task_history", "a", key="b")
    assert {"key": ["this argument is needed."]} == refused("task_history")


def test_waits_are_clipped_to_what_a_call_may_wait() -> None:
    """No call waits longer than 25 seconds, whatever it asks for."""
    assert 25.0 == bound("wait_task", 1, timeout=10_000)["timeout"]
    assert 0.0 == bound("task_lines", 1, wait=-1)["wait"]
    assert 500 == bound("list_recent", 10**9)["limit"]


def test_an_empty_list_or_null_means_no_filter() -> None:
    """``keys`` may be left out, null or empty."""
    assert [None, None, []] == [
        bound("list_tasks", **given)["keys"] for given in ({}, {"keys": None}, {"keys": []})
    ]
    assert [{}, {}] == [bound("queue_task", "a.b", *given)["args"] for given in ([], [None])]
    assert type(bound("queue_task", "a.b")["args"]) is dict


def test_run_tasks_gathers_arguments_of_any_name() -> None:
    """Named arguments of run_tasks are the task's own, also those named like parameters."""
    own = {"task_key": 1, "args": 2, "request_key": 3, "options": 4, "foo": "bar"}

    assert {"task_key": "a.b", "args": own, "request_key": None, "options": None} == bound(
        "run_tasks", "a.b", **own
    )


def test_run_tasks_takes_options_by_place() -> None:
    """As the second positional argument, since their name may be that of an argument of the task."""
    wanted = {"priority": 1}
    assert {"task_key": "a.b", "args": {"options": 4}, "request_key": None, "options": wanted} == bound(
        "run_tasks", "a.b", wanted, options=4
    )
    assert wanted == bound("queue_task", "a.b", options=wanted)["options"]
    assert ["options"] == list(refused("run_tasks", "a.b", 7))


def test_run_tasks_takes_its_task_key_by_name_too() -> None:
    """Without a positional task key, the one given by name is it."""
    assert {"task_key": "a.b", "args": {"foo": 1}, "request_key": None, "options": None} == bound(
        "run_tasks", task_key="a.b", foo=1
    )
    assert ["args"] == list(refused("run_tasks", "a.b", {"foo": 1}, 3))
    assert ["task_key"] == list(refused("run_tasks", foo=1))


def test_the_client_repeats_what_may_be_repeated() -> None:
    """The client's lists of functions agree with the table; what changes things twice is not repeated."""
    assert {name for name, function in FUNCTIONS.items() if function.keyed} == KEYED
    assert set(FUNCTIONS) - REPEATABLE == {"kill_worker", "challenge_response"}
    assert set(FUNCTIONS) >= REPEATABLE


def test_every_function_has_one_command() -> None:
    """A function of the table that nobody carries out, or two would, is told of when the master starts."""

    async def command() -> None:
        """Do nothing."""

    names = [function.name for function in FUNCTIONS.values() if not function.public]
    first, *others = names
    one, rest = SimpleNamespace(**{first: command}), SimpleNamespace(**dict.fromkeys(others, command))
    assert names == list(commands_of(one, rest, SimpleNamespace(further=command)))
    with pytest.raises(ValueError, match=f"0 commands are called {first}"):
        commands_of(rest)
    with pytest.raises(ValueError, match=f"2 commands are called {first}"):
        commands_of(one, rest, one)
