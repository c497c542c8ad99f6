# SPDX-License-Identifier: MIT
"""Requests become calls of commands, and what they return or raise becomes the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.controller.functions import FUNCTIONS
from pydra.cluster.controller.web.bounds import Limits
from pydra.errors import (
    ConfigError,
    Forbidden,
    InternalError,
    InvalidParameters,
    LinkLost,
    NotFound,
    PydraError,
    StoreError,
    StoreFull,
    WorkersUnavailable,
)
from tests.support.controllers import Desk, MemoryConnection, MemoryServer, request

NAMES = ("cluster_info", "list_tasks", "queue_task", "run_tasks", "wait_task", "cancel_task")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
KEY = "0123456789abcdef"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def server(desk: Desk) -> Iterator[MemoryServer]:
    server = MemoryServer(desk.commands(*NAMES))
    yield server
    server.close()


@pytest.fixture
def connection(server: MemoryServer) -> MemoryConnection:
    return server.connect()


def bearer(server: MemoryServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


def test_a_call_answers_the_json_of_what_the_command_returned(
    desk: Desk, connection: MemoryConnection
) -> None:
    """The answer is 200 and JSON, and tells nobody to keep it or to guess its type."""
    desk.answers["list_tasks"] = {"a.b": {"last_run": None}}

    reply = connection.call("list_tasks", keys=["a.b"])

    assert {"a.b": {"last_run": None}} == reply.json
    assert 200 == reply.status
    assert [("list_tasks", {"toplevel": True, "keys": ["a.b"]})] == desk.calls
    assert "application/json" == reply.headers["content-type"]
    assert "no-store" == reply.headers["cache-control"]
    assert "nosniff" == reply.headers["x-content-type-options"]
    assert "server" not in reply.headers


def test_form_fields_and_json_say_the_same(
    desk: Desk, server: MemoryServer, connection: MemoryConnection
) -> None:
    """The original's form fields and one JSON object are two ways to say the same call."""
    fields = {"args": ["a.b"], "kwargs": {"args": {"start": 3}}}
    form = urlencode({name: json.dumps(value) for name, value in fields.items()}).encode()

    connection.ask("POST", "/queue_task", form, **FORM, **bearer(server))
    connection.ask("POST", "/queue_task", json.dumps(fields).encode(), **JSON, **bearer(server))

    assert desk.calls[0] == desk.calls[1]
    unset = dict.fromkeys(("request_key", "options", "args_payload", "args_packed"))
    assert ("queue_task", {"task_key": "a.b", "args": {"start": 3}, **unset}) == desk.calls[0]


def test_a_call_without_a_body_has_no_arguments(server: MemoryServer, connection: MemoryConnection) -> None:
    """Both fields are optional, and so is the body with its type."""
    assert 200 == connection.ask("POST", "/cluster_info", **bearer(server)).status
    assert 200 == connection.ask("POST", "/cluster_info", b"args=&kwargs=", **FORM, **bearer(server)).status
    assert 200 == connection.ask("POST", "/cluster_info", b"{}", **JSON, **bearer(server)).status


def test_the_list_of_functions_has_those_with_a_command(
    server: MemoryServer, connection: MemoryConnection
) -> None:
    """GET / lists what can be called, logins included."""
    reply = connection.ask("GET", "/", **bearer(server))

    assert sorted([*NAMES, "authenticate", "challenge_response"]) == reply.json


@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("token", [None, "", "x", "Bearer", "Bearer x", "Basic eA==", "Bearer \u00e9"])
def test_the_guard_stands_before_every_route_and_verb(
    desk: Desk, connection: MemoryConnection, verb: str, token: str | None
) -> None:
    """Whoever is not logged in hears 401 everywhere: what exists is not told, and nothing is called."""
    headers = {} if token is None else {"Authorization": token}
    private = [f"/{name}" for name, function in FUNCTIONS.items() if not function.public]
    paths = ["/", *private, "/nope", "/%2e%2e/list_tasks", "//list_tasks", "/list_tasks/", "/ws", "*", "/%00"]

    for path in paths:
        reply = connection.ask(verb, path, **headers)
        assert 401 == reply.status
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert [] == desk.calls


def test_two_tokens_are_none(server: MemoryServer, connection: MemoryConnection) -> None:
    """A request with two Authorization headers is not logged in, even if one of them is good."""
    head = request("GET", "/", Authorization=f"Bearer {server.token}")
    doubled = head.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer x\r\n\r\n")

    assert [401] == [reply.status for reply in connection.send(doubled)]


@pytest.mark.parametrize(
    ("path", "says"), [("/healthz", {"status": "ok"}), ("/version", {"name": "pydra", "version": "0.1.0"})]
)
def test_health_and_version_are_public(connection: MemoryConnection, path: str, says: object) -> None:
    """Two small pages need no login, and change nothing."""
    assert says == connection.ask("GET", path).json
    assert 405 == connection.ask("POST", path).status


def test_head_has_the_headers_and_no_body(server: MemoryServer, connection: MemoryConnection) -> None:
    """HEAD is GET without the body."""
    reply = connection.ask("HEAD", "/healthz")

    assert (200, b"", "15") == (reply.status, reply.body, reply.headers["content-length"])


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [
        ("GET", "/list_tasks", "POST"),
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/list_tasks", "GET, HEAD, POST"),
        ("BREW", "/nope", "GET, HEAD, POST"),
        ("GET", "/authenticate", "POST"),
        ("POST", "/version", "GET, HEAD"),
    ],
)
def test_wrong_verbs_hear_which_are_right(
    server: MemoryServer, connection: MemoryConnection, verb: str, path: str, allow: str
) -> None:
    """A verb that is not for this path is answered 405 with those that are."""
    reply = connection.ask(verb, path, **bearer(server))

    assert (405, allow) == (reply.status, reply.headers["allow"])


@pytest.mark.parametrize(
    "path", ["/nope", "/node_list", "/List_tasks", "/list_tasks/", "//", "/list%5Ftasks"]
)
def test_unknown_functions_are_not_found(
    server: MemoryServer, connection: MemoryConnection, path: str
) -> None:
    """What the master has no command for is not found, also if the table has it."""
    reply = connection.ask("POST", path, **bearer(server))

    assert (404, "function_not_found") == (reply.status, reply.json["code"])


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json; charset=utf-16", 415),
        ("", 415),
        ("application/json; charset=UTF-8", 200),
        ("APPLICATION/JSON", 200),
    ],
)
def test_only_two_content_types_are_spoken(
    server: MemoryServer, connection: MemoryConnection, kind: str, status: int
) -> None:
    """Other types than forms and JSON in UTF-8 are answered 415."""
    headers = {"Content-Type": kind} if kind else {}

    assert status == connection.ask("POST", "/cluster_info", b"{}", **headers, **bearer(server)).status


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"[]", JSON),
        (b'{"args": {}}', JSON),
        (b'{"kwargs": []}', JSON),
        (b'{"kwargs": {}, "other": 1}', JSON),
        (b"args=%5B%5D&args=%5B%5D", FORM),
        (b"args=%5B%5D&kwargs=%7B%7D&x=1", FORM),
        (b"args=%ff", FORM),
        (b"args", FORM),
        (b"args={}", FORM),
        (b"\xff\xfe", FORM),
        (b'{"args": [NaN]}', JSON),
    ],
)
def test_bodies_of_another_shape_are_refused(
    server: MemoryServer, connection: MemoryConnection, body: bytes, headers: dict[str, str]
) -> None:
    """A body that is not args and kwargs is the caller's fault, in words."""
    reply = connection.ask("POST", "/cluster_info", body, **headers, **bearer(server))

    assert (400, "request") == (reply.status, reply.json["code"])


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (NotFound("There is no task a.b."), 404, "not_found"),
        (Forbidden(), 403, "forbidden"),
        (StoreError(), 503, "store"),
        (StoreFull(), 507, "store_full"),
        (WorkersUnavailable(), 503, "workers_unavailable"),
        (LinkLost(), 503, "link_lost"),
        (ConfigError("The setting X is wrong."), 500, "config"),
    ],
)
def test_errors_of_functions_keep_their_code_and_text(
    desk: Desk, connection: MemoryConnection, fault: PydraError, status: int, code: str
) -> None:
    """An error of the tree is answered with the status of its nearest class, its code and its sentence."""
    desk.answers["cluster_info"] = fault

    reply = connection.call("cluster_info")

    assert status == reply.status
    assert {503: "1", 507: "60"}.get(status) == reply.headers.get("retry-after")
    assert {"exception": str(fault), "code": code, "errors": None, "traceback": ""} == reply.json


def test_invalid_parameters_are_told_field_by_field(desk: Desk, connection: MemoryConnection) -> None:
    """The errors of a form reach the caller as they are, from the command as from the table."""
    desk.answers["run_tasks"] = InvalidParameters(errors={"start": ["Enter a whole number."]})

    assert {"start": ["Enter a whole number."]} == connection.call("run_tasks", "a.b", start="x").json[
        "errors"
    ]
    assert ["task_id"] == list(connection.call("cancel_task", "x").json["errors"])


@pytest.mark.parametrize("fault", [RuntimeError("secret path"), InternalError("secret path"), KeyError("x")])
def test_internal_errors_say_nothing_of_the_inside(
    desk: Desk, connection: MemoryConnection, fault: Exception
) -> None:
    """A fault in Pydra is answered with a reference to the log, and the connection goes on."""
    desk.answers["cluster_info"] = fault

    reply = connection.call("cluster_info")

    assert (500, "internal") == (reply.status, reply.json["code"])
    assert "Internal error; see the master's log (reference 00000000)." == reply.json["exception"]
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body
    desk.answers.clear()
    assert 200 == connection.call("cluster_info").status


def test_a_result_that_has_no_json_is_an_internal_error(desk: Desk, connection: MemoryConnection) -> None:
    """A command that returns an object without JSON has a fault; the caller hears no more than that."""
    desk.answers["cluster_info"] = object()

    assert 500 == connection.call("cluster_info").status


def test_the_answer_is_held_until_the_command_has_its_result(
    desk: Desk, connection: MemoryConnection
) -> None:
    """A call that waits is answered when there is something to say."""
    desk.answers["wait_task"] = waiting = Deferred()
    body = b'{"args": [3]}'

    assert [] == connection.send(request("POST", "/wait_task", body, **JSON, **bearer(connection._server)))
    waiting.callback({"state": "complete"})

    assert [{"state": "complete"}] == [reply.json for reply in connection.send()]


def test_a_waiting_call_is_cancelled_when_its_caller_goes_away(
    desk: Desk, server: MemoryServer, connection: MemoryConnection
) -> None:
    """Nobody waits for those who left, and nothing is said about it."""
    cancelled: list[object] = []
    desk.answers["wait_task"] = Deferred(cancelled.append)
    connection.send(request("POST", "/wait_task", b'{"args": [3]}', **JSON, **bearer(server)))

    connection.close()

    assert 1 == len(cancelled)


def test_a_submission_is_carried_out_though_its_caller_went_away(
    desk: Desk, server: MemoryServer, connection: MemoryConnection
) -> None:
    """Only waiting is cancelled: what changes something is never stopped half-way."""
    cancelled: list[object] = []
    desk.answers["queue_task"] = committing = Deferred(cancelled.append)
    connection.send(request("POST", "/queue_task", b'{"args": ["a.b"]}', **JSON, **bearer(server)))

    connection.close()
    committing.callback({"instance_id": 1})

    assert [] == cancelled


def test_waiting_calls_are_told_when_the_service_stops(
    desk: Desk, server: MemoryServer, connection: MemoryConnection
) -> None:
    """A stopping master answers those who wait, and starts nothing new."""
    desk.answers["wait_task"] = Deferred()
    connection.send(request("POST", "/wait_task", b'{"args": [3]}', **JSON, **bearer(server)))

    server.calls.stop()

    assert [(503, "1")] == [(reply.status, reply.headers["retry-after"]) for reply in connection.send()]
    assert 503 == connection.call("cluster_info").status


def test_requests_in_a_row_are_answered_in_order(
    desk: Desk, server: MemoryServer, connection: MemoryConnection
) -> None:
    """Requests sent without waiting are answered one after the other."""
    desk.answers["wait_task"] = waiting = Deferred()
    first = request("POST", "/wait_task", b'{"args": [3]}', **JSON, **bearer(server))

    assert [] == connection.send(first + request("GET", "/healthz") + request("GET", "/version"))
    waiting.callback(1)

    assert [1, {"status": "ok"}, {"name": "pydra", "version": "0.1.0"}] == [
        reply.json for reply in connection.send()
    ]


@pytest.mark.parametrize("function", ["queue_task", "run_tasks"])
def test_a_submission_carries_its_key_in_a_header(
    desk: Desk, server: MemoryServer, connection: MemoryConnection, function: str
) -> None:
    """The Idempotency-Key header reaches the command as request_key."""
    headers = {"Idempotency-Key": KEY, **JSON, **bearer(server)}

    connection.ask("POST", f"/{function}", b'{"args": ["a.b"]}', **headers)

    assert KEY == desk.calls[0][1]["request_key"]


def test_a_key_in_the_arguments_comes_first(
    desk: Desk, server: MemoryServer, connection: MemoryConnection
) -> None:
    """A caller that names its own request key is taken at its word."""
    headers = {"Idempotency-Key": KEY, **JSON, **bearer(server)}
    body = b'{"kwargs": {"task_key": "a.b", "request_key": "fedcba9876543210"}}'

    connection.ask("POST", "/queue_task", body, **headers)

    assert "fedcba9876543210" == desk.calls[0][1]["request_key"]


@pytest.mark.parametrize("key", ["short", "x" * 129, "0123456789abcdef ;drop", ""])
def test_odd_request_keys_are_refused(
    desk: Desk, server: MemoryServer, connection: MemoryConnection, key: str
) -> None:
    """A request key is plain and of a bounded length."""
    headers = {"Idempotency-Key": key, **JSON, **bearer(server)}

    assert 400 == connection.ask("POST", "/queue_task", b'{"args": ["a.b"]}', **headers).status
    assert [] == desk.calls


def test_a_command_that_the_table_lacks_is_a_mistake() -> None:
    """A master cannot offer what has no entry in the table, for nobody would check its arguments."""
    with pytest.raises(ValueError, match="conquer"):
        MemoryServer(Desk().commands("conquer"), Limits())
