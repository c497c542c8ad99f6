# SPDX-License-Identifier: MIT
"""Submissions whose arguments JSON does not hold."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.controller import BODY_LIMIT, ControllerRemoteException
from pydra.cluster.controller.web.session import Session
from pydra.cluster.wire import payload

LARGE = bytes(BODY_LIMIT)
GONE = {"errors": {"args_payload": ["there is no such payload any more; send it again."]}}


class RecordedSession(Session):
    """Keeps what is sent, and answers from a list."""

    def __init__(self, *answers: object) -> None:
        super().__init__("localhost", 1, Path("no.key"))
        self.answers = list(answers)
        self.sent: list[bytes] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def send(self, path: str, *pieces: bytes) -> object:
        """Keep it."""
        assert "/payloads" == path
        packed = b"".join(pieces)
        self.sent.append(packed)
        return {"sha256": f"digest {len(self.sent)}", "size": len(packed)}

    def call_json(self, function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """Answer."""
        assert not args
        self.calls.append((function, dict(kwargs)))
        return self.answers.pop(0)


@pytest.mark.parametrize("value", [b"\x00", {1, 2}, float("inf")])
def test_small_arguments_that_json_does_not_hold(value: object) -> None:
    """They are packed, and travel with the submission."""
    session = RecordedSession({"instance_id": 7})
    assert {"instance_id": 7} == session.call("queue_task", ("a.b", {"x": value}), {})
    packed = binascii.a2b_base64(session.calls[0][1]["args_packed"])
    assert payload.pack({"x": value}) == packed
    assert [] == session.sent


@pytest.mark.parametrize("value", [bytes(BODY_LIMIT), "x" * BODY_LIMIT, [0.5] * BODY_LIMIT])
def test_large_arguments(value: object) -> None:
    """They are sent ahead, and named by the submission."""
    session = RecordedSession({"instance_id": 7})
    assert {"instance_id": 7} == session.call(
        "queue_task", ("a.b", {"x": value}), {"options": {"priority": 1}}
    )
    [(function, called)] = session.calls
    key = called.pop("request_key")
    assert len(key) == 32
    assert ("queue_task", {"task_key": "a.b", "options": {"priority": 1}, "args_payload": "digest 1"}) == (
        function,
        called,
    )
    assert [payload.pack({"x": value})] == session.sent


@pytest.mark.parametrize("value", [{1: 2}, {"a": [({None: 1},)]}, {True: {"a": 1}}])
def test_keys_that_are_no_text(value: object) -> None:
    """They arrive as they are, whatever else is among the arguments."""
    for function, args, kwargs in (
        ("queue_task", ("a.b", {"x": value}), {}),
        ("queue_task", (), {"task_key": "a.b", "args": {"x": value}}),
        ("run_tasks", ("a.b",), {"x": value}),
    ):
        session = RecordedSession({"instance_id": 7})
        session.call(function, args, kwargs)
        packed = binascii.a2b_base64(session.calls[0][1]["args_packed"])
        assert payload.pack({"x": value}) == packed


def test_run_tasks() -> None:
    """Every named argument is the task's own, and the answer is the id."""
    session = RecordedSession({"instance_id": 7})
    assert 7 == session.call("run_tasks", ("a.b", {"priority": 1}), {"args": LARGE, "request_key": "mine"})
    assert [payload.pack({"args": LARGE, "request_key": "mine"})] == session.sent
    assert {"priority": 1} == session.calls[0][1]["options"]
    assert "mine" != session.calls[0][1]["request_key"]


def test_a_master_that_was_started_anew() -> None:
    """The payload is sent once more, with the same request key."""
    session = RecordedSession(GONE, {"instance_id": 7})
    assert 7 == session.call("run_tasks", ("a.b",), {"x": LARGE})
    assert 2 == len(session.sent)
    first, second = (called for _, called in session.calls)
    assert first["request_key"] == second["request_key"]


def test_refused_arguments() -> None:
    """They are told as other refusals of the same function are."""
    refused = {"errors": {"x": ["no."]}}
    assert refused == RecordedSession(refused).call("queue_task", ("a.b", {"x": b"\x00"}), {})
    with pytest.raises(ControllerRemoteException, match="x: no") as caught:
        RecordedSession(refused).call("run_tasks", ("a.b",), {"x": b"\x00"})
    assert "invalid_parameters" == caught.value.remote_code
    with pytest.raises(ControllerRemoteException):
        RecordedSession(GONE, GONE).call("run_tasks", ("a.b",), {"x": b"\x00"})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "words"),
    [
        ("queue_task", ("a.b", {"x": object()}), {}, r"args\['x'\]: a value of type object"),
        ("run_tasks", ("a.b",), {"x": [1, object()]}, r"args\['x'\]\[1\]"),
        ("queue_task", ("a.b", b"\x00"), {}, "a mapping of arguments"),
        ("run_tasks", ("a.b", {}, b"\x00"), {}, "a mapping of arguments"),
        ("task_result", (b"\x00",), {}, "bytes"),
    ],
)
def test_what_cannot_be_sent(
    function: str, args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    """Nothing is sent, and the place is told."""
    session = RecordedSession()
    with pytest.raises(TypeError, match=words):
        session.call(function, args, kwargs)
    assert [] == session.sent
