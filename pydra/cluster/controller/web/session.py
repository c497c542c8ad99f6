# SPDX-License-Identifier: MIT
"""
The calls of one client: connections that are kept, the token, and what each answer means.

Any number of threads may call at once, each on a connection of its own. A connection that the master closed
while it was idle is replaced; a call is sent a second time only if carrying it out twice does no harm.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from pydra.cluster.controller import (
    BODY_LIMIT,
    CONTROLLER_ERROR_DISCONNECTED,
    CONTROLLER_ERROR_NO_RSA_KEY,
    CONTROLLER_ERROR_UNKNOWN,
    ControllerException,
)
from pydra.cluster.controller.web.answers import meaning
from pydra.cluster.controller.web.connection import Answer, Connection, DisconnectedError, NotHTTPError
from pydra.cluster.controller.web.key import Key, read_key

KEYED: Final = frozenset({"queue_task", "run_tasks"})
"""Submissions: each carries a key of its own, so that a repeated one answers the first id."""

REPEATABLE: Final = KEYED | {
    "authenticate",
    "cancel_task",
    "cluster_info",
    "explain",
    "list_queue",
    "list_recent",
    "list_running",
    "list_tasks",
    "node_detail",
    "node_list",
    "node_status",
    "package_list",
    "package_remove",
    "pause_task",
    "resume_task",
    "task_form",
    "task_history",
    "task_history_detail",
    "task_lines",
    "task_log",
    "task_result",
    "task_statuses",
    "task_units",
    "wait_task",
}
"""Functions that may be carried out twice without harm."""

CONNECTIONS_KEPT: Final = 4


T = TypeVar("T")


class Session:
    """What a `WebController` calls through; ``key`` is looked for when it is needed."""

    def __init__(self, host: str, port: int, key: Path) -> None:
        self._host = host
        self._port = port
        self._key_path = key
        self._key: Key | None = None
        self._context: ssl.SSLContext | None = None
        self._token = ""
        self._login_turn = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def call(self, function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """
        What the function returned; `ControllerException` otherwise.

        TypeError or ValueError if an argument cannot be written as JSON; those of a submission may be all
        that a payload holds, and of any length.
        """
        is_submission = function in KEYED
        body = None
        try:
            if not is_submission or _has_text_keys([*args, kwargs]):
                body = _body(args, kwargs)
        except (TypeError, ValueError):
            if not is_submission:
                raise
        if body is None or (len(body) > BODY_LIMIT and is_submission):
            # Loaded only here: most programs send JSON alone.
            from pydra.cluster.controller.web.large import submit  # noqa: PLC0415

            return submit(self, function, args, kwargs)
        return self._called(function, body, kwargs)

    def call_json(self, function: str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """As ``call``, but what JSON does not hold is refused here or by the master."""
        return self._called(function, _body(args, kwargs), kwargs)

    def _called(self, function: str, body: bytes, kwargs: Mapping[str, object]) -> object:
        headers = ""
        if function in KEYED and kwargs.get("request_key") is None:
            headers = f"Idempotency-Key: {os.urandom(16).hex()}\r\n"
        token = self._token
        answer = self._ask(function, headers, body, token)
        if answer.status == 401:
            token = self._log_in(token)
            answer = self._ask(function, headers, body, token)
        return meaning(function, answer)

    def upload(self, package: str, packed: bytes) -> object:
        """What the master answers to a package; `ControllerException` otherwise."""
        return self.send(f"/packages/{quote(package, safe='')}", packed)

    def send(self, path: str, *pieces: bytes) -> object:
        """What the master answers to these bytes, one after another; `ControllerException` otherwise."""
        return meaning(path, self._logged_in("POST", path, pieces))

    def fetch(self, path: str) -> Answer:
        """The answer with the bytes that the master has there; `ControllerException` otherwise."""
        answer = self._logged_in("GET", path, ())
        if answer.status != 200:
            meaning(path, answer)
        return answer

    def _logged_in(self, verb: str, path: str, body: Sequence[bytes]) -> Answer:
        if not self._token:
            self.call("cluster_info", (), {})  # a login costs less than sending all of it twice
        token = self._token
        answer = self._exchanged(verb, path, body, token)
        return self._exchanged(verb, path, body, self._log_in(token)) if answer.status == 401 else answer

    def _exchanged(self, verb: str, path: str, body: Sequence[bytes], token: str) -> Answer:
        headers = f"Authorization: Bearer {token}\r\n"
        return self._use(
            lambda connection: connection.exchange(
                verb, path, headers, *body, kind="application/octet-stream"
            ),
            repeat=True,
        )

    def close(self) -> None:
        """Close the connections that are kept; the next call opens a new one."""
        _close_all(self._idle)

    def _ask(self, function: str, headers: str, body: bytes, token: str) -> Answer:
        if token:
            headers += f"Authorization: Bearer {token}\r\n"
        path = f"/{quote(function, safe='')}"
        return self._use(
            lambda connection: connection.exchange("POST", path, headers, body),
            repeat=function in REPEATABLE,
        )

    def _use(self, ask: Callable[[Connection], T], *, repeat: bool) -> T:
        """
        What ``ask`` answers with a kept connection, else with a new one.

        With ``repeat`` it is asked again on a new one if the kept one was closed before an answer began.
        """
        key = self._ready_key()
        try:
            connection = self._kept()
            if connection is not None:
                try:
                    return self._keeping(connection, ask)
                except DisconnectedError as fault:
                    if not (fault.nothing_came and repeat):
                        raise
            return self._keeping(self._connected(key), ask)
        except DisconnectedError as fault:
            raise ControllerException(CONTROLLER_ERROR_DISCONNECTED, str(fault)) from None
        except NotHTTPError as fault:
            raise ControllerException(CONTROLLER_ERROR_UNKNOWN, str(fault)) from None

    def _keeping(self, connection: Connection, ask: Callable[[Connection], T]) -> T:
        try:
            return ask(connection)
        finally:
            if connection.is_open and len(self._idle) < CONNECTIONS_KEPT:
                self._idle.append(connection)
            else:
                connection.close()

    def _kept(self) -> Connection | None:
        """A kept connection that is still good; a forked child never shares its parent's."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self.close()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_usable():
                return connection
            connection.close()

    def _connected(self, key: Key) -> Connection:
        if self._context is None:
            # The name in the certificate says nothing: the certificate itself is what is expected.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = False
            try:
                context.load_verify_locations(cadata=key.certificate_pem)
            except ssl.SSLError:
                text = f"The certificate in {key.path} cannot be read; copy master.key again."
                raise ControllerException(CONTROLLER_ERROR_NO_RSA_KEY, text) from None
            self._context = context
        return Connection(self._host, self._port, self._context, key.certificate)

    def _ready_key(self) -> Key:
        if self._key is None:
            self._key = read_key(self._key_path)
        if self._key is None:
            self._explain_missing_key()
        assert self._key is not None
        return self._key

    def _explain_missing_key(self) -> None:
        """
        Raise what a call without a key comes to.

        Without the key there is no telling who answers, so nothing of the call is sent: only the question
        whether a login is needed.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            connection = Connection(self._host, self._port, context, None)
            try:
                answer = connection.exchange("GET", "/", "", b"")
            finally:
                connection.close()
        except DisconnectedError as fault:
            raise ControllerException(CONTROLLER_ERROR_DISCONNECTED, str(fault)) from None
        except NotHTTPError as fault:
            raise ControllerException(CONTROLLER_ERROR_UNKNOWN, str(fault)) from None
        if answer.status not in (200, 401):
            meaning("/", answer)
        raise ControllerException(
            CONTROLLER_ERROR_NO_RSA_KEY,
            f"There is no key at {self._key_path}; copy master.key from the master's runtime directory to "
            "there, or give its path as key. (A cluster of one's own: pydra cluster up.)",
        )

    def _log_in(self, refused: str) -> str:
        """A new token, unless another thread got one since the refused one was taken."""
        from pydra.cluster.controller.web.login import log_in  # noqa: PLC0415 - it loads pycryptodome

        with self._login_turn:
            if self._token == refused:
                self._token = self._use(lambda connection: log_in(connection, self._ready_key()), repeat=True)
            return self._token


def _close_all(connections: list[Connection]) -> None:
    while True:
        try:
            connections.pop().close()
        except IndexError:  # another thread may have taken the last one
            return


def _has_text_keys(value: object) -> bool:
    """Whether JSON keeps the keys of all dicts in it, which it has as text."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and all(map(_has_text_keys, value.values()))
    return not isinstance(value, list | tuple) or all(map(_has_text_keys, value))


def _body(args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
    if not args and not kwargs:
        return b""
    return json.dumps({"args": args, "kwargs": kwargs}, allow_nan=False).encode("ascii")
