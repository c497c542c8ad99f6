# SPDX-License-Identifier: MIT
"""
The table of what a controller may ask, and the binding of JSON arguments to it.

A command is called with keyword arguments only, under the names of this table; values were checked for type
and range here, so a command never sees another type than is written below.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from pydra.cluster.interfaces import Commands
from pydra.errors import InvalidParameters, RequestError

LARGEST_INTEGER: Final = 2**63 - 1
"""Ids and numbers beyond it name nothing, and no database column holds them."""

LONGEST_WAIT_S: Final = 25.0
"""Seconds that one call may wait for something to happen; clients ask again."""

REQUIRED: Final = msgspec.UNSET
"""Default of a parameter that has none."""

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})

_WORDS: Final = {
    "integer": "a whole number is needed",
    "number": "a number is needed",
    "boolean": "true or false is needed",
    "text": "text is needed",
    "object": "an object is needed",
    "texts": "a list of texts is needed",
    "any": "",
}


class Parameter(msgspec.Struct, frozen=True):
    """
    One argument: its name, its kind (a key of the words above), and its default.

    ``aliases`` are other names that are accepted for it; numbers are clipped to ``lowest`` and ``highest``;
    with ``nullable``, null means the default.
    """

    name: str
    kind: str
    default: object = REQUIRED
    aliases: tuple[str, ...] = ()
    nullable: bool = False
    lowest: float | None = None
    highest: float | None = None

    def convert(self, value: object) -> object:
        """The value as the command gets it; ValueError in words for the caller."""
        if value is None and self.nullable:
            return self.standard()
        match self.kind:
            case "integer":
                value = _whole(value)
            case "number":
                value = _finite(value)
            case "boolean":
                _need(isinstance(value, bool), self.kind)
            case "text":
                _need(isinstance(value, str), self.kind)
            case "object":
                _need(isinstance(value, dict), self.kind)
            case "texts":
                _need(isinstance(value, list) and all(isinstance(item, str) for item in value), self.kind)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._clip(value)
        return value

    def standard(self) -> object:
        """The default; a new object each time, if it is one."""
        return {} if self.default is _NOTHING else self.default

    def _clip(self, value: float) -> float:
        if self.lowest is not None and value < self.lowest:
            return type(value)(self.lowest)
        if self.highest is not None and value > self.highest:
            return type(value)(self.highest)
        return value


class Function(msgspec.Struct, frozen=True):
    """
    A function of the controller API.

    ``public``: may be called before login. ``waits``: only waits and reads, so it is cancelled when its
    caller goes away; others are carried out to their end. ``keyed``: the ``Idempotency-Key`` header is handed
    to the command as ``request_key``. ``collects``: all named arguments but the first parameter are gathered
    into the parameter of that name, whatever they are called; ``by_place`` names a parameter that is
    not to be one of them, and can only be given as the second positional argument.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    public: bool = False
    waits: bool = False
    keyed: bool = False
    collects: str = ""
    by_place: str = ""


def checked_request_key(key: str) -> str:
    """A key that a submission may have; `RequestError` if it is none."""
    if not key.isascii() or not 16 <= len(key) <= 128 or not key.replace("-", "").replace("_", "").isalnum():
        raise RequestError("A request key is 16 to 128 letters, digits, '-' or '_'.")
    return key


def bind(function: Function, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
    """The arguments by name, checked, with defaults filled in; `InvalidParameters` says all that is wrong."""
    errors: dict[str, list[str]] = {}
    # Collected arguments may have any name, so such a function has one parameter of its own: the first.
    own = function.parameters[:1] if function.collects else function.parameters
    places = [each.name for each in own] + [function.by_place] * bool(function.by_place)
    if len(args) > len(places):
        errors["args"] = [
            f"{function.name} takes at most {len(places)} positional arguments, not {len(args)}."
        ]
    given = dict(zip(places, args, strict=False))
    names = {alias: each.name for each in own for alias in (each.name, *each.aliases)}
    collected: dict[str, object] = {}
    for name, value in kwargs.items():
        target = names.get(name)
        if target is not None and target not in given:
            given[target] = value
        elif function.collects:
            collected[name] = value
        elif target is not None:
            errors.setdefault(target, []).append("this argument was given twice.")
        else:
            known = ", ".join(each.name for each in own) or "none"
            errors.setdefault(name[:100], []).append(f"there is no such argument; there are: {known}.")
    if function.collects:
        given[function.collects] = collected
    bound = {each.name: _value(each, given, errors) for each in function.parameters}
    if errors:
        raise InvalidParameters(errors=errors)
    return bound


def _value(parameter: Parameter, given: Mapping[str, object], errors: dict[str, list[str]]) -> object:
    if parameter.name in given:
        try:
            return parameter.convert(given[parameter.name])
        except ValueError as fault:
            errors.setdefault(parameter.name, []).append(f"{fault}.")
    elif parameter.default is REQUIRED:
        errors.setdefault(parameter.name, []).append("this argument is needed.")
    return parameter.standard()


def _need(holds: bool, kind: str) -> None:
    if not holds:
        raise ValueError(_WORDS[kind])


def _whole(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)  # JSON makes texts of keys, so ids come back as texts
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(_WORDS["integer"])
    if abs(value) > LARGEST_INTEGER:
        raise ValueError(f"{_WORDS['integer']} of at most {LARGEST_INTEGER}")
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(_WORDS["number"])
    if abs(value) > LARGEST_INTEGER or not math.isfinite(value):
        raise ValueError(f"{_WORDS['number']} of at most {LARGEST_INTEGER}")
    return float(value)


_TASK_ID = Parameter("task_id", "integer")
_TASK_KEY = Parameter("task_key", "text")
_REQUEST_KEY = Parameter("request_key", "text", default=None, nullable=True)
_OPTIONS = Parameter("options", "object", default=None, nullable=True)
_PAGE = Parameter("page", "integer", default=1)


def _table(*functions: Function) -> dict[str, Function]:
    return {function.name: function for function in functions}


FUNCTIONS: Final[Mapping[str, Function]] = _table(
    Function("authenticate", (Parameter("nonce", "text"),), public=True),
    Function(
        "challenge_response",
        (Parameter("challenge", "text"), Parameter("nonce", "text"), Parameter("response", "text")),
        public=True,
    ),
    Function("cancel_task", (Parameter("task_id", "integer", aliases=("task_key",)),)),
    Function("cluster_info"),
    Function("explain", (_TASK_ID,)),
    Function(
        "kill_worker",
        (
            Parameter("worker_key", "text"),
            Parameter("kill", "boolean", default=False),
            Parameter("fail", "boolean", default=True),
        ),
    ),
    Function(
        "list_queue",
        (
            Parameter("limit", "integer", default=500, lowest=1, highest=500),
            Parameter("skip", "integer", default=0, lowest=0),
        ),
    ),
    Function("list_recent", (Parameter("limit", "integer", default=20, lowest=1, highest=500),)),
    Function("list_running"),
    Function(
        "list_tasks",
        (
            Parameter("toplevel", "boolean", default=True),
            Parameter("keys", "texts", default=None, nullable=True),
        ),
    ),
    Function("node_detail", (Parameter("id", "integer"),)),
    Function("node_list", (Parameter("page", "any", default=1),)),
    Function("node_status"),
    Function("package_list"),
    Function("package_remove", (Parameter("package", "text"),)),
    Function("pause_task", (_TASK_ID,)),
    Function(
        "queue_task",
        (
            _TASK_KEY,
            Parameter("args", "object", default=_NOTHING, nullable=True),
            _REQUEST_KEY,
            _OPTIONS,
            Parameter("args_payload", "text", default=None, nullable=True),
            Parameter("args_packed", "text", default=None, nullable=True),
        ),
        keyed=True,
    ),
    Function("resume_task", (_TASK_ID,)),
    Function(
        "run_tasks",
        (_TASK_KEY, Parameter("args", "object"), _REQUEST_KEY, _OPTIONS),
        keyed=True,
        collects="args",
        by_place="options",
    ),
    Function("task_form", (_TASK_KEY,)),
    Function("task_history", (Parameter("key", "text", aliases=("task_key",)), _PAGE)),
    Function(
        "task_history_detail",
        (
            Parameter("task_id", "integer", aliases=("task_instance_id",)),
            Parameter("workunits", "boolean", default=True),
        ),
    ),
    Function(
        "task_lines",
        (
            _TASK_ID,
            Parameter("after", "integer", default=0, lowest=0),
            Parameter("wait", "number", default=0.0, lowest=0.0, highest=LONGEST_WAIT_S),
            Parameter("subtask", "text", default=None, nullable=True),
            Parameter("workunit_id", "any", default=None, nullable=True),
        ),
        waits=True,
    ),
    Function(
        "task_log",
        (
            _TASK_ID,
            Parameter("subtask", "text", default=None, nullable=True),
            Parameter("workunit_id", "any", default=None, nullable=True),
        ),
    ),
    Function("task_result", (_TASK_ID,)),
    Function(
        "task_statuses",
        (
            Parameter("limit", "integer", default=10_000, lowest=1, highest=10_000),
            Parameter("skip", "integer", default=0, lowest=0),
        ),
    ),
    Function(
        "task_units",
        (
            _TASK_ID,
            Parameter("branch", "text", default=None, nullable=True),
            Parameter("after", "text", default=None, nullable=True),
            Parameter("limit", "integer", default=100, lowest=1, highest=500),
            Parameter("state", "text", default=None, nullable=True),
        ),
    ),
    Function(
        "wait_task",
        (
            _TASK_ID,
            Parameter("timeout", "number", default=LONGEST_WAIT_S, lowest=0.0, highest=LONGEST_WAIT_S),
            Parameter("seen", "integer", default=None, nullable=True),
        ),
        waits=True,
    ),
)
"""Every function by name. A name that the master has no command for is answered as unknown."""


def commands_of(*owners: object) -> Commands:
    """Of each function of the table the command, a method of its name; ValueError unless one owner has it."""
    commands: dict[str, Callable[..., Awaitable[Any]]] = {}
    for name in (function.name for function in FUNCTIONS.values() if not function.public):
        found = [getattr(owner, name) for owner in owners if hasattr(owner, name)]
        if len(found) != 1:
            raise ValueError(f"{len(found)} commands are called {name}.")
        commands[name] = found[0]
    return commands
