# SPDX-License-Identifier: MIT
"""
The controller API: how anything outside steers the master.

``functions`` is the table of what can be asked; ``web`` speaks it over HTTPS, and holds ``WebController``,
its client. This file has the codes and exceptions of that client and loads nothing.
"""

from __future__ import annotations

CONTROLLER_ERROR_AUTH_FAIL = -1
"""The master refused the key."""

CONTROLLER_ERROR_DISCONNECTED = -2
"""The master cannot be reached, or what answers there is not it."""

CONTROLLER_ERROR_IN_REMOTE_FUNCTION = -3
"""The function was called and ended with an error; see `ControllerRemoteException`."""

CONTROLLER_ERROR_NO_RSA_KEY = -4
"""A key is needed and there is none that can be used."""

CONTROLLER_ERROR_UNKNOWN = -5
"""Something answered that does not speak the controller API."""

CONTROLLER_ERROR_FUNCTION_NOT_FOUND = -6
"""The master has no function of that name."""

BODY_LIMIT = 1024 * 1024
"""Bytes of the body of a call; arguments that need more are sent ahead."""

LOGIN_ROLE = "administrator"
"""As whom the holder of ``master.key`` logs in; it is part of what is signed."""

_SENTENCES = {
    CONTROLLER_ERROR_AUTH_FAIL: (
        "The master refused the key; use a current copy of master.key from the master's runtime directory."
    ),
    CONTROLLER_ERROR_DISCONNECTED: (
        "The master cannot be reached; see that it runs and that HOST and CONTROLLER_PORT are right."
    ),
    CONTROLLER_ERROR_IN_REMOTE_FUNCTION: "The function failed in the master; its log has the details.",
    CONTROLLER_ERROR_NO_RSA_KEY: (
        "There is no usable key; copy master.key from the master's runtime directory and give its path."
    ),
    CONTROLLER_ERROR_UNKNOWN: (
        "The answer is not one of a Pydra master; see that HOST and CONTROLLER_PORT name the master itself."
    ),
    CONTROLLER_ERROR_FUNCTION_NOT_FOUND: (
        "The master has no function of that name; GET / on the controller port lists the names."
    ),
}


class ControllerException(Exception):
    """A call of the controller API did not end well; ``code`` is one of the numbers in this module."""

    def __init__(self, code: int = CONTROLLER_ERROR_UNKNOWN, message: str | None = None) -> None:
        super().__init__(message or _SENTENCES.get(code, _SENTENCES[CONTROLLER_ERROR_UNKNOWN]))
        self.code = code


class ControllerRemoteException(ControllerException):
    """
    The function was called and ended with an error.

    ``error`` is a map of argument to messages if arguments were not valid, else a sentence; ``remote_code``
    is the stable code of `pydra.errors`; ``traceback`` is text, empty unless the failure is a task's own.
    """

    def __init__(
        self,
        error: object = None,
        traceback: str = "",
        remote_code: str = "error",
        message: str | None = None,
    ) -> None:
        super().__init__(
            CONTROLLER_ERROR_IN_REMOTE_FUNCTION, message or (error if isinstance(error, str) else None)
        )
        self.error = error
        self.traceback = traceback
        self.remote_code = remote_code
