# SPDX-License-Identifier: MIT
"""The client's side of a login; it loads pycryptodome, so it is imported only when a login is needed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from pydra.cluster.auth.challenge import NONCE_SIZE, key_id, sign, transcript
from pydra.cluster.controller import (
    CONTROLLER_ERROR_AUTH_FAIL,
    CONTROLLER_ERROR_NO_RSA_KEY,
    CONTROLLER_ERROR_UNKNOWN,
    LOGIN_ROLE,
    ControllerException,
)
from pydra.cluster.controller.web.answers import meaning
from pydra.cluster.controller.web.connection import Connection
from pydra.cluster.controller.web.key import Key
from pydra.errors import ConfigError


def log_in(connection: Connection, key: Key) -> str:
    """
    A new token. Both calls go over the given connection, because a challenge is good on one only.

    `ControllerException` -1 if the master refuses the key, -4 if it is no key at all.
    """
    if not key.is_private:
        raise _refused(f"{key.path} holds only the public half of a key; logging in needs the private one.")
    try:
        mine = key_id(key.pem)
        nonce = os.urandom(NONCE_SIZE)
        challenge = _ask(connection, "authenticate", {"nonce": nonce.hex()})
        server_nonce = bytes.fromhex(str(challenge["challenge"]))
        if challenge["key_id"] != mine:
            raise _refused(f"{key.path} holds another key than this master's; copy its master.key again.")
        seen = hashlib.sha256(connection.certificate).digest()
        signature = sign(key.pem, transcript(LOGIN_ROLE, mine, nonce, server_nonce, seen))
        answer = _ask(
            connection,
            "challenge_response",
            {"challenge": server_nonce.hex(), "nonce": nonce.hex(), "response": signature.hex()},
        )
        if answer is False:
            raise ControllerException(CONTROLLER_ERROR_AUTH_FAIL)
        return str(answer["token"])
    except ConfigError as fault:
        raise ControllerException(CONTROLLER_ERROR_NO_RSA_KEY, f"{key.path}: {fault}") from None
    except (LookupError, TypeError, ValueError):
        raise ControllerException(CONTROLLER_ERROR_UNKNOWN) from None


def _ask(connection: Connection, function: str, arguments: dict[str, str]) -> Any:  # JSON
    body = json.dumps({"kwargs": arguments}).encode("ascii")
    answer = connection.exchange("POST", f"/{function}", "", body)
    if answer.status == 429:
        raise _refused("The master refuses logins from here after too many failed ones; wait a minute.")
    return meaning(function, answer)


def _refused(text: str) -> ControllerException:
    return ControllerException(CONTROLLER_ERROR_AUTH_FAIL, text)
