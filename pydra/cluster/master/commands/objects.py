# SPDX-License-Identifier: MIT
"""The JSON shapes of the function API."""

from __future__ import annotations

import datetime
import json
from typing import NamedTuple

import msgspec

from pydra.cluster.interfaces import Progress
from pydra.cluster.master.units.tally import UnitsView
from pydra.cluster.wire import payload
from pydra.errors import WireError
from pydra.model.instance import Instance, Payload
from pydra.model.status import Status
from pydra.model.unit import UnitRow, unit_path

JSON = dict[str, object]

SHOWN_RESULT = 4096
"""Bytes of the result, and characters of the traceback, of a work unit that are shown among others."""

UNREADABLE = "result_unreadable"
"""The code of what is complete, but told bytes that are no result."""

LISTED = 1024
"""Bytes of the arguments or the result of an instance that are shown in a list: these are made JSON."""


def as_time(instant: float | None) -> str | None:
    """``YYYY-mm-dd HH:MM:SS`` in UTC, or None."""
    if instant is None:
        return None
    return datetime.datetime.fromtimestamp(instant, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def as_json(data: bytes) -> object:
    """The JSON of MessagePack bytes that a task or a client made; None if they are none."""
    try:
        return payload.to_json(payload.unpack(data))
    except WireError:
        return None


class Shown(NamedTuple):
    """A result for people."""

    value: object
    """Its JSON."""
    is_whole: bool = False
    """That is all of it: bytes, dates and others it only shows."""
    fault: str = ""
    """Why it cannot be read; a worker may tell any bytes as its result."""


def shown(data: bytes) -> Shown:
    """What can be shown of a packed result."""
    try:
        told = payload.unpack(data)
    except WireError as fault:
        return Shown(None, fault=f"The result cannot be read: {fault}")
    as_shown = payload.to_json(told)
    return Shown(as_shown, told == as_shown)


def value(held: Payload | None, most: int) -> object:
    """The JSON of an inline payload; None for a blob, which only ``task_result`` reads, or above ``most``."""
    return as_json(held.inline) if held is not None and not held.sha256 and held.size <= most else None


def percent(instance: Instance, progress: Progress | None) -> int:
    """0 to 100, or -1 for unknown, as of what failed or was cancelled: how far it came is not kept."""
    if instance.status is Status.COMPLETE:
        return 100
    if progress is not None and progress.attempt == instance.attempt:
        return progress.percent
    return -1 if instance.status.is_final else 0


def units_object(units: UnitsView | None) -> JSON:
    """``units``, with how many of them are where, for an instance that has any."""
    return {} if units is None else {"units": msgspec.structs.asdict(units)}


def _standing(instance: Instance, progress: Progress | None, units: UnitsView | None) -> JSON:
    """Which instance it is, and where it stands."""
    failure = instance.failure
    return {
        **units_object(units),
        "id": instance.id,
        "task_key": instance.task_key,
        "status": instance.status.api_code,
        "state": instance.status.name.lower(),
        "message": progress.message if progress is not None else None,
        "error": failure.message if failure is not None else None,
        "error_code": failure.code if failure is not None else None,
    }


def instance_object(
    instance: Instance,
    progress: Progress | None = None,
    units: UnitsView | None = None,
    most: int = LISTED,
) -> JSON:
    """
    An instance, as lists show it: arguments and a result of more than ``most`` bytes are null there.

    ``size`` are the bytes of the packed result.
    """
    failure, arguments = instance.failure, value(instance.args, most)
    return {
        **_standing(instance, progress, units),
        "args": None if arguments is None else json.dumps(arguments),
        "queued": as_time(instance.queued),
        "started": as_time(instance.started),
        "completed": as_time(instance.completed),
        "worker": instance.worker,
        "version": instance.version,
        "progress": percent(instance, progress),
        "results": value(instance.result, most)
        if failure is None
        else failure.traceback[-most:] or failure.message[:most],
        "size": None if instance.result is None else instance.result.size,
    }


def outcome_object(
    instance: Instance,
    progress: Progress | None,
    seen: int,
    result: Shown,
    units: UnitsView | None = None,
) -> JSON:
    """
    Where an instance stands and what came of it, for ``wait_task`` and ``task_result``.

    ``size`` are the bytes of the packed result. If the JSON in ``result`` is not all of it, ``download`` is
    where all of it can be had. If what the worker told is no result at all, ``error_code`` is
    ``result_unreadable``.
    """
    held, failure = instance.result, instance.failure
    fault = {"error": result.fault, "error_code": UNREADABLE} if result.fault else {}
    return {
        **_standing(instance, progress, units),
        **fault,
        "final": instance.status.is_final,
        "percent": percent(instance, progress),
        "result": result.value,
        "size": None if held is None else held.size,
        "download": None if held is None or result.is_whole else f"/results/{instance.id}",
        "traceback": failure.traceback if failure is not None else None,
        "seen": seen,
    }


def unit_object(unit: UnitRow, *, is_alone: bool = False) -> JSON:
    """
    A work unit that the store has; its arguments are kept while it is queued, its start is not.

    Of a long traceback it has the end, unless the unit is shown alone.
    """
    failure, result = unit.failure, unit.result
    return {
        "path": unit_path(unit.instance, unit.branch, unit.index),
        "subtask_key": unit.branch,
        "workunit_key": unit.index,
        "args": as_json(unit.args) if unit.args and len(unit.args) <= SHOWN_RESULT else None,
        "status": unit.status.api_code,
        "state": unit.status.name.lower(),
        "started": None,
        "completed": as_time(unit.ended),
        "node": unit.node,
        "attempt": None if unit.attempt is None else str(unit.attempt),
        "result": value(result, SHOWN_RESULT),
        "size": None if result is None else result.size,
        "error": failure.message if failure is not None else None,
        "error_code": failure.code if failure is not None else None,
        "traceback": None if failure is None else failure.traceback[0 if is_alone else -SHOWN_RESULT :],
    }
