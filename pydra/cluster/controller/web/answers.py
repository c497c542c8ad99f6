# SPDX-License-Identifier: MIT
"""What an answer of the master means to the client."""

from __future__ import annotations

import json
from typing import Any

from pydra.cluster.controller import (
    CONTROLLER_ERROR_AUTH_FAIL,
    CONTROLLER_ERROR_FUNCTION_NOT_FOUND,
    CONTROLLER_ERROR_UNKNOWN,
    ControllerException,
    ControllerRemoteException,
)
from pydra.cluster.controller.web.connection import Answer


def meaning(function: str, answer: Answer) -> Any:  # the JSON of any function
    """The value that was returned, or the exception that the answer stands for."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _strange(answer) from None
    if answer.status == 200:
        return value
    if not isinstance(value, dict) or "exception" not in value:
        raise _strange(answer)
    code, text = str(value.get("code", "error")), str(value["exception"])
    if answer.status == 401:
        raise ControllerException(
            CONTROLLER_ERROR_AUTH_FAIL, "The master does not take the login that it gave."
        )
    if code == "function_not_found":
        raise ControllerException(
            CONTROLLER_ERROR_FUNCTION_NOT_FOUND,
            f"The master has no function {function}; GET / on the controller port lists those it has.",
        )
    raise ControllerRemoteException(
        value.get("errors") or text, str(value.get("traceback") or ""), code, f"{function}: {text}"
    )


def _strange(answer: Answer) -> ControllerException:
    return ControllerException(
        CONTROLLER_ERROR_UNKNOWN,
        f"The answer (HTTP status {answer.status}) is not one of a Pydra master; see that HOST and "
        "CONTROLLER_PORT name the master itself.",
    )
