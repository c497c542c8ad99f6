# SPDX-License-Identifier: MIT
"""
Who may ask: a login by signature gives a token, and the guard wants that token with every other request.

``authenticate(nonce)`` answers ``{"challenge", "role", "key_id"}``; the caller signs the transcript of both
nonces and of the certificate it saw, and ``challenge_response(challenge, nonce, response)`` answers
``{"token", "expires_in", "idle_expires_in"}`` (seconds), or false. Nonces and the signature are hexadecimal.
A challenge is good once, for 30 seconds, on the connection that it was given out on.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pydra.cluster.auth.challenge import NONCE_SIZE, key_id, transcript, verify
from pydra.cluster.auth.identity import Identity
from pydra.cluster.auth.tokens import Challenges, LoginThrottle, Tokens
from pydra.cluster.controller import LOGIN_ROLE
from pydra.errors import InvalidParameters, TooManyRequests

_SCHEME: Final = "bearer "
_LONGEST_RESPONSE: Final = 2048
"""Hexadecimal digits of a signature by a key of 8192 bits."""


class Authentication:
    """Logins of the holder of the administrator's private key, whose public half (PEM) is given."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        identity: Identity,
        administrator: bytes,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._administrator = administrator
        self._key_id = key_id(administrator)
        certificate = ssl.PEM_cert_to_DER_cert(identity.certificate_pem.decode("ascii"))
        self._binding = hashlib.sha256(certificate).digest()
        self._challenges = Challenges(clock, random_bytes)
        self._tokens = Tokens(clock, random_bytes)
        self._throttle = LoginThrottle(clock)

    def admits(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header holds a valid token; asking counts as use of the token."""
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        return self._tokens.check(authorization[len(_SCHEME) :].strip()) is not None

    def authenticate(self, connection: int, address: str, nonce: str) -> dict[str, object]:
        """A challenge for the caller."""
        issued = self._challenges.issue(_bound(connection, _nonce("nonce", nonce)))
        return {"challenge": issued.hex(), "role": LOGIN_ROLE, "key_id": self._key_id}

    def challenge_response(
        self, connection: int, address: str, challenge: str, nonce: str, response: str
    ) -> dict[str, object] | bool:
        """
        A token, or false if the challenge is used up or the signature is not the administrator's.

        `TooManyRequests` instead of false after too many of these. Who has the key is never kept waiting:
        others may fail from the same address, as all users of this machine do.
        """
        server_nonce, client_nonce = _nonce("challenge", challenge), _nonce("nonce", nonce)
        try:
            signature = bytes.fromhex(response[: _LONGEST_RESPONSE + 1])
        except ValueError:
            signature = b""
        if not self._challenges.take(server_nonce, _bound(connection, client_nonce)) or not verify(
            self._administrator,
            transcript(LOGIN_ROLE, self._key_id, client_nonce, server_nonce, self._binding),
            signature,
        ):
            if not self._throttle.allowed(address):
                raise TooManyRequests("Too many failed logins; wait a minute and try again.")
            self._throttle.failed(address)
            self._log.warn("A login from {address} failed", address=address)
            return False
        self._log.info("A controller logged in from {address}", address=address)
        return {
            "token": self._tokens.issue(LOGIN_ROLE),
            "expires_in": int(self._tokens.absolute_s),
            "idle_expires_in": int(self._tokens.idle_s),
        }

    def call(self, name: str, connection: int, address: str, arguments: Mapping[str, object]) -> object:
        """Carry out one of the two public functions, with arguments as its table entry has them."""
        texts = {parameter: str(value) for parameter, value in arguments.items()}
        if name == "authenticate":
            return self.authenticate(connection, address, **texts)
        return self.challenge_response(connection, address, **texts)


def _bound(connection: int, nonce: bytes) -> bytes:
    """The client's nonce tied to its connection, so that the challenge is of no use on another one."""
    return hashlib.sha256(connection.to_bytes(8, "big") + nonce).digest()


def _nonce(name: str, text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if len(nonce) != NONCE_SIZE or len(text) != 2 * NONCE_SIZE:
        raise InvalidParameters(errors={name: [f"{2 * NONCE_SIZE} hexadecimal digits are needed."]})
    return nonce
