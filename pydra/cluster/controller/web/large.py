# SPDX-License-Identifier: MIT
"""Submissions that JSON does not hold: arguments are packed, and large ones sent ahead and then named."""

from __future__ import annotations

import binascii
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydra.cluster.controller import BODY_LIMIT, ControllerRemoteException
from pydra.cluster.wire import payload

_INLINE = BODY_LIMIT // 2
"""Bytes of packed arguments that travel with the submission itself."""

_QUEUE_TASK = ("task_key", "args", "request_key", "options")


class Session(Protocol):
    """What speaks to the master."""

    def call_json(self, function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """What a function answers; what JSON does not hold is refused."""
        ...

    def send(self, path: str, packed: bytes) -> object:
        """What the master answers to bytes."""
        ...


def submit(session: Session, function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Any:
    """
    What ``queue_task`` or ``run_tasks`` answers.

    TypeError or ValueError names the argument that cannot be sent.
    """
    given = _given(function, args, kwargs)
    packed = payload.pieces(given.pop("args", None) or {}, "args")
    if given.get("request_key") is None:
        given["request_key"] = os.urandom(16).hex()
    answer = _submitted(session, packed, given)
    if "args_payload" in (answer.get("errors") or ()):
        answer = _submitted(session, packed, given)  # the master was started anew between the two requests
    if function == "queue_task":
        return answer
    if answer.get("errors"):
        errors = answer["errors"]
        text = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in sorted(errors.items()))
        raise ControllerRemoteException(errors, "", "invalid_parameters", f"{function}: {text}")
    return answer["instance_id"]


def _submitted(session: Session, packed: list[bytes], given: Mapping[str, object]) -> dict[str, Any]:
    if sum(map(len, packed)) <= _INLINE:
        named = {"args_packed": binascii.b2a_base64(b"".join(packed), newline=False).decode("ascii")}
    else:
        sent: Any = session.send("/payloads", *packed)
        named = {"args_payload": sent["sha256"]}
    answer: Any = session.call_json("queue_task", (), {**given, **named})
    return dict(answer)


def _given(function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of ``queue_task`` by name; `TypeError` if they are not those of the function."""
    if function == "queue_task":
        names: tuple[str, ...] = _QUEUE_TASK
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
    else:
        names = ("task_key", "options")
        given = dict(zip(names, args, strict=False))
        own = dict(kwargs)
        if "task_key" not in given and "task_key" in own:
            given["task_key"] = own.pop("task_key")
        given["args"] = own
    if len(args) > len(names) or not isinstance(given.get("args") or {}, Mapping):
        raise TypeError(f"{function} takes a task key and a mapping of arguments.")
    return given
