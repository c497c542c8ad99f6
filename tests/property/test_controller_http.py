# SPDX-License-Identifier: MIT
"""Whatever bytes come, the controller API holds: no 5xx, no traceback, and every answer is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pydra.cluster.controller.functions import FUNCTIONS
from tests.support.controllers import Desk, MemoryConnection, MemoryServer, Reply, request

COMMANDS = [name for name, function in FUNCTIONS.items() if not function.public]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**390)
    | st.floats(allow_nan=True)
    | st.text(st.characters(codec=None, categories=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
arguments = [parameter.name for function in FUNCTIONS.values() for parameter in function.parameters]
bodies = st.builds(
    lambda args, kwargs: json.dumps({"args": args, "kwargs": kwargs}).encode(),
    st.lists(values, max_size=3),
    st.dictionaries(st.sampled_from(arguments) | st.text(max_size=8), values, max_size=4),
)
fragments = st.sampled_from(
    [
        b"POST /list_tasks HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"Host: x\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Authorization: Bearer TOKEN\r\n",
        b"Content-Type: application/json\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"\n",
        b" ",
        b"5\r\nabcde\r\n0\r\n\r\n",
        b'{"args": [1]}',
        b"args=%5B%5D",
    ]
)
streams = st.lists(fragments | st.binary(max_size=12), max_size=20).map(b"".join)


def exercise(ask: Callable[[MemoryServer, MemoryConnection], list[Reply]]) -> list[Reply]:
    """The answers to a connection's requests, after which the server is as good as new."""
    server = MemoryServer(Desk(dict.fromkeys(COMMANDS, "ran")).commands(*COMMANDS))
    connection = server.connect()
    answers = [reply for reply in ask(server, connection) if reply.status != 100]
    for reply in answers:
        assert reply.status < 500
        assert b"Traceback" not in reply.body
        if reply.body:
            json.loads(reply.body)
    server.clock.advance(0)
    assert 200 == server.connect().ask("GET", "/healthz").status
    server.close()
    return answers


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams, st.integers(1, 40))
def test_any_stream_of_bytes_is_answered_or_waited_for(stream: bytes, size: int) -> None:
    """Bytes that look like requests never break the parser, and are read the same however they are cut."""
    data = stream.replace(b"TOKEN", b"00" * 32)
    parts = [data[start : start + size] for start in range(0, len(data), size)]

    assert [reply.status for reply in exercise(lambda _, connection: connection.send(*parts))] == [
        reply.status for reply in exercise(lambda _, connection: connection.send(data))
    ]


def call(server: MemoryServer, connection: MemoryConnection, name: str, **sent: Any) -> list[Reply]:
    headers = {"Content-Type": sent["kind"], "Authorization": f"Bearer {server.token}"}
    return connection.send(request("POST", f"/{name}", sent["body"], **headers))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(FUNCTIONS)),
    bodies | st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/html"]),
)
def test_any_body_is_a_call_or_the_callers_fault(name: str, body: bytes, kind: str) -> None:
    """Every function takes any body: it is called with what its table entry allows, or refused in words."""
    (reply,) = exercise(lambda server, connection: call(server, connection, name, body=body, kind=kind))

    assert reply.status in (200, 400, 415)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=10), values, max_size=5))
def test_run_tasks_passes_any_named_argument_on(args: dict[str, Any]) -> None:
    """Arguments of a task may have any name and any JSON value, and arrive as they were given."""
    plain = json.loads(json.dumps(args).replace("NaN", "1").replace("Infinity", "2"))
    if any(0xD800 <= ord(letter) < 0xE000 for letter in str(plain) + json.dumps(plain, ensure_ascii=False)):
        plain = {}
    desk = Desk()
    server = MemoryServer(desk.commands("run_tasks"))
    body = json.dumps({"args": ["a.b"], "kwargs": plain}).encode()

    call(server, server.connect(), "run_tasks", body=body, kind="application/json")

    server.close()
    assert [plain] == [arguments["args"] for _, arguments in desk.calls]
