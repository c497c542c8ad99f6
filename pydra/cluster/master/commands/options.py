# SPDX-License-Identifier: MIT
"""How a caller wants an instance run: JSON that may be anything, and the options that it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pydra.cluster.controller.functions import LARGEST_INTEGER
from pydra.errors import InvalidParameters
from pydra.model.ids import InstanceId
from pydra.model.options import (
    LABEL_PATTERN,
    LONGEST_LIMIT_S,
    LONGEST_RETRY_DELAY_S,
    MOST_AMOUNT,
    MOST_LABELS,
    MOST_RESOURCES,
    MOST_RETRIES,
    NO_OPTIONS,
    RESOURCE_PATTERN,
    RETRY_LOST,
    RETRY_NEVER,
    Dependency,
    Guarantee,
    Retry,
    RunOptions,
)
from pydra.model.package import TaskDescription

UNIT_TIME_LIMIT = "unit_time_limit"
"""The option that sessions have besides."""

FIELD = "options"
"""Errors are told by ``options.<name>``."""

MOST_DEPENDENCIES = 1000
MOST_PRIORITY = 1_000_000

_NAME_SHOWN = 50

_LABEL, _RESOURCE = re.compile(LABEL_PATTERN), re.compile(RESOURCE_PATTERN)


def read_options(given: Mapping[str, object] | None, task: TaskDescription | None = None) -> RunOptions:
    """
    The options that a caller gave; what was not given, or is null, is as the task (if it is one's) has it.

    `InvalidParameters` says what is wrong with each. Whether the instances exist is not looked at.
    """
    values: dict[str, Any] = {}
    if task is not None and (task.time_limit or task.retries):
        values = {"time_limit": task.time_limit, "retries": task.retries, "retry_delay": task.retry_delay}
    values |= _read(given or {}, _READERS)
    return _completed(RunOptions(**values), given or {}, task)


def session_options(given: Mapping[str, object], task: TaskDescription) -> tuple[float, RunOptions]:
    """
    The time limit of units, and the options, of a session of units of a task.

    Of the options, only what is promised of the units is as the task has it.
    """
    read = _read(given, _SESSION_READERS)
    limit = read.pop(UNIT_TIME_LIMIT, 0.0)
    return limit, _completed(RunOptions(**read), given, task)


def _read(given: Mapping[str, object], readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """What was given, and is not null; Any, since each value is of the type of its option."""
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, value in given.items():
        read = readers.get(name)
        if read is None:
            known = ", ".join(readers)
            errors[f"{FIELD}.{name[:_NAME_SHOWN]}"] = [f"there is no such option; there are: {known}."]
        elif value is not None:
            try:
                values[name] = read(value)
            except ValueError as fault:
                errors[f"{FIELD}.{name}"] = [f"{fault}."]
    if errors:
        raise InvalidParameters(errors=errors)
    return values


def _completed(options: RunOptions, given: Mapping[str, object], task: TaskDescription | None) -> RunOptions:
    """Options with what the task promises, from which nobody can take anything."""
    promised = Guarantee.NONE
    if task is not None:
        promised = RunOptions(retry=task.retry, exclusive=task.exclusive).guarantee
    errors: dict[str, list[str]] = {}
    if promised & Guarantee.ONCE and given.get("retry") == RETRY_LOST:
        errors[f"{FIELD}.retry"] = ["the task itself says that it is never run again."]
    if promised & Guarantee.EXCLUSIVE and given.get("exclusive") is False:
        errors[f"{FIELD}.exclusive"] = ["the task itself says that it is exclusive."]
    wanted = options.guarantee | promised
    retries = options.retries
    if wanted & Guarantee.ONCE:
        if given.get("retries"):
            errors[f"{FIELD}.retries"] = ["what is never run again (retry: never) can have no retries."]
        if task is not None and task.unit_retries:
            told = f"unit_retries = {task.unit_retries}; so it cannot be never."
            errors[f"{FIELD}.retry"] = [f"the task runs units that failed again: {told}"]
        retries = 0  # those of the task are for who does not ask for this
    if errors:
        raise InvalidParameters(errors=errors)
    if wanted:
        options = msgspec.structs.replace(
            options,
            retries=retries,
            retry=RETRY_NEVER if wanted & Guarantee.ONCE else RETRY_LOST,
            exclusive=bool(wanted & Guarantee.EXCLUSIVE),
        )
    return NO_OPTIONS if options == NO_OPTIONS else options


def unknown_instances(options: RunOptions, unknown: list[InstanceId]) -> InvalidParameters:
    """The fault of depending on instances that never were."""
    errors = {}
    for name in ("after", "follow"):
        dependency: Dependency | None = getattr(options, name)
        missing = [each for each in unknown if dependency is not None and each in dependency.instances]
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            errors[f"{FIELD}.{name}"] = [f"there is no task instance {shown}."]
    return InvalidParameters(errors=errors)


def _whole(lowest: int, highest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest} is needed")
        return value

    return read


def _seconds(highest: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        return _number(value, highest, f"seconds from 0 to {highest:.0f} are needed")

    return read


def _number(value: object, highest: float, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        raise ValueError(wanted)  # NaN is not within any bounds
    return float(value)


def _retry(value: object) -> Retry:
    if value == RETRY_NEVER:
        return RETRY_NEVER
    if value == RETRY_LOST:
        return RETRY_LOST
    raise ValueError(f"'{RETRY_LOST}' or '{RETRY_NEVER}' is needed")


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def _resources(value: object) -> dict[str, float]:
    wanted = f"an object of at most {MOST_RESOURCES} names and amounts is needed"
    if not isinstance(value, dict) or len(value) > MOST_RESOURCES:
        raise ValueError(wanted)
    read: dict[str, float] = {}
    for name, amount in value.items():
        if not isinstance(name, str) or not _RESOURCE.match(name):
            shown = str(name)[:_NAME_SHOWN]
            raise ValueError(f"{shown!r} is no name of a resource: a-z, 0-9 and _, at most 32")
        read[name] = _number(amount, MOST_AMOUNT, f"{name}: an amount from 0 to {MOST_AMOUNT:.0f} is needed")
    return {name: read[name] for name in sorted(read) if read[name]}


def _labels(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or len(value) > MOST_LABELS:
        raise ValueError(f"a list of at most {MOST_LABELS} labels is needed")
    for label in value:
        if not isinstance(label, str) or not _LABEL.match(label):
            shown = str(label)[:_NAME_SHOWN]
            raise ValueError(f"{shown!r} is no label: letters, digits and _.:=-, at most 64")
    return tuple(sorted(set(value)))


def _dependency(value: object) -> Dependency | None:
    """A number, a list of numbers, or an object with the mode as well."""
    fields = value if isinstance(value, dict) else {"instances": value}
    if unknown := fields.keys() - {"instances", "mode", "success", "failure"}:
        shown = ", ".join(sorted(str(name)[:_NAME_SHOWN] for name in unknown)[:5])
        raise ValueError(f"there is no {shown}; there are: instances, mode, success, failure")
    mode, success, failure = (
        fields.get("mode", "all"),
        fields.get("success", True),
        fields.get("failure", False),
    )
    if mode not in ("all", "any"):
        raise ValueError("the mode is 'all' or 'any'")
    if not isinstance(success, bool) or not isinstance(failure, bool) or not (success or failure):
        raise ValueError("success and failure are true or false, and one of them true")
    instances = _instances(fields.get("instances"))
    return Dependency(instances, mode == "all", success, failure) if instances else None


def _instances(value: object) -> tuple[InstanceId, ...]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > MOST_DEPENDENCIES:
        raise ValueError(f"at most {MOST_DEPENDENCIES} task instances can be named, not {len(listed)}")
    read = _whole(1, LARGEST_INTEGER)
    try:
        if any(isinstance(each, float) for each in listed):  # no id is written so
            raise ValueError
        return tuple(InstanceId(number) for number in dict.fromkeys(map(read, listed)))
    except ValueError:
        raise ValueError("the numbers of task instances are needed") from None


_READERS: dict[str, Callable[[Any], Any]] = {
    "priority": _whole(-MOST_PRIORITY, MOST_PRIORITY),
    "time_limit": _seconds(LONGEST_LIMIT_S),
    "retries": _whole(0, MOST_RETRIES),
    "retry_delay": _seconds(LONGEST_RETRY_DELAY_S),
    "retry": _retry,
    "exclusive": _switch,
    "resources": _resources,
    "labels": _labels,
    "after": _dependency,
    "follow": _dependency,
}
_SESSION_READERS = _READERS | {UNIT_TIME_LIMIT: _seconds(LONGEST_LIMIT_S)}


def options_object(options: RunOptions) -> dict[str, object] | None:
    """The options as JSON, in the form in which they are given; null if there are none."""
    if options == NO_OPTIONS:
        return None
    shown: dict[str, object] = msgspec.to_builtins(options)
    for name in ("after", "follow"):
        dependency: Dependency | None = getattr(options, name)
        if dependency is not None:
            shown[name] = {
                "instances": list(dependency.instances),
                "mode": "all" if dependency.all else "any",
                "success": dependency.success,
                "failure": dependency.failure,
            }
    return shown
