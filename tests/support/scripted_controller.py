# SPDX-License-Identifier: MIT
"""A controller that answers from a script, for what the command line makes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

INSTANCES = {"queued": 3, "running": 2, "paused": 1}

Answer = Any  # what JSON can hold; an exception is raised; a callable is called with the arguments


class ScriptedController:
    """
    Answers each function from its list, the last answer for ever; ``calls`` is what was asked.

    A function that is not in the script fails the test.
    """

    def __init__(self, isolation: str = "full", **script: Sequence[Answer]) -> None:
        information = {"isolation": isolation, "version": "1", "instances": INSTANCES}
        self._script = {"cluster_info": [information], **script}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.is_closed = False

    def close(self) -> None:
        """Note that the caller tidied up."""
        self.is_closed = True

    def __getattr__(self, function: str, /) -> Callable[..., Any]:
        if function.startswith("__"):
            raise AttributeError(function)

        def answer(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((function, args, kwargs))
            answers = list(self._script[function])
            if len(answers) > 1:
                self._script[function] = answers[1:]
            given = answers[0]
            if isinstance(given, BaseException):
                raise given
            return given(*args, **kwargs) if callable(given) else given

        return answer

    def asked(self, function: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the arguments of every call of a function."""
        return [(args, kwargs) for name, args, kwargs in self.calls if name == function]
