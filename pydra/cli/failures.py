# SPDX-License-Identifier: MIT
"""
What went wrong, as one sentence and one exit code.

Under ``-o json`` it is one JSON object on standard error: ``{"error": {"code", "message", "exit_code"}}``.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from pydra.cli.escape import visible
from pydra.errors import Forbidden, InvalidParameters, NotFound, PydraError, Unauthorized

FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
UNREACHABLE = 5
TIMEOUT = 124
INTERRUPTED = 130


class CliError(Exception):
    """A command cannot go on: ``exit_code`` is for the shell, ``code`` for programs."""

    def __init__(self, message: str, exit_code: int = FAILED, code: str = "error") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code


EXIT_CODES: dict[str, int] = {
    NotFound.code: NOT_FOUND,
    "task_not_found": NOT_FOUND,
    InvalidParameters.code: USAGE,
    Unauthorized.code: NOT_ALLOWED,
    Forbidden.code: NOT_ALLOWED,
    "too_many_requests": NOT_ALLOWED,
}
"""Codes of ``pydra.errors`` that are more than a general error."""


CONTROLLER_CODES: dict[int, tuple[int, str, str]] = {
    -1: (NOT_ALLOWED, "auth_fail", " (--key)"),
    -2: (UNREACHABLE, "disconnected", " (--host, --port; pydra cluster up starts one here)"),
    -4: (NOT_ALLOWED, "no_key", " (--key)"),
    -6: (FAILED, "function_not_found", ""),
}
"""The codes of ``pydra.cluster.controller``: exit code, code for programs, the options that may mend it."""


def error_of(error: Exception) -> CliError | None:
    """Return what is known of an exception; None for one that nobody expected."""
    controller = sys.modules.get("pydra.cluster.controller")
    if controller is not None and isinstance(error, controller.ControllerException):
        return _controller_error(error)
    if isinstance(error, PydraError):
        return CliError(str(error), EXIT_CODES.get(error.code, FAILED), error.code)
    return None


def _controller_error(
    error: Any,
) -> CliError:  # a ControllerException, which is not imported for its name alone
    """Return what an exception of the controller means; its module is loaded, since it was raised."""
    from pydra.cluster import controller as api

    if isinstance(error, api.ControllerRemoteException):
        exit_code = EXIT_CODES.get(error.remote_code, FAILED)
        return CliError(_remote_message(error.error) or str(error), exit_code, error.remote_code)
    exit_code, code, hint = CONTROLLER_CODES.get(error.code, (FAILED, "unknown", ""))
    return CliError(f"{error}{hint}", exit_code, code)


def _remote_message(error: object) -> str:
    """Return the sentence, or the faults of each argument."""
    if isinstance(error, dict):
        return "; ".join(f"{name}: {' '.join(map(str, texts))}" for name, texts in sorted(error.items()))
    return str(error or "")


def wants_json(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> bool:
    """Return True if the command line, which need not be valid, or PYDRA_OUTPUT asks for JSON."""
    chosen = (os.environ if environ is None else environ).get("PYDRA_OUTPUT", "")
    words = list(arguments)
    for index, word in enumerate(words):
        if word == "--":
            break
        if word in ("-o", "--output") and index + 1 < len(words):
            chosen = words[index + 1]
        elif word.startswith("--output="):
            chosen = word.partition("=")[2]
        elif word.startswith("-o") and not word.startswith("--"):
            chosen = word[2:]
        elif word == "--json":
            chosen = "json"
    return chosen == "json"


def report(error: click.ClickException | CliError, arguments: Sequence[str]) -> int:
    """Write the error to standard error and return its exit code."""
    if wants_json(arguments):
        message = str(error) if isinstance(error, CliError) else error.format_message()
        code = error.code if isinstance(error, CliError) else "usage"
        fault = {"code": code, "message": message, "exit_code": error.exit_code}
        click.echo(json.dumps({"error": fault}), err=True)
    elif isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(shown)
        click.echo(visible(shown.getvalue(), keep="\n"), err=True, nl=False)
    else:
        click.echo("Error: " + visible(str(error), keep="\n"), err=True)
    return error.exit_code
