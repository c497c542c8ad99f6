# SPDX-License-Identifier: MIT
"""Task instances as the commands show them: times in ISO 8601 and UTC, arguments as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydra.model.status import Status

COLUMNS = ("ID", "TASK", "STATE", "PROGRESS", "QUEUED", "TOOK")

Record = Mapping[str, Any]  # an object of the API, as JSON gave it


def is_final(record: Record) -> bool:
    """Return True if the instance does not change any more."""
    return Status(record["status"]).is_final


def state(record: Record) -> str:
    """Return the state in one word."""
    return str(record.get("state") or Status(record["status"]).name).lower()


def iso(instant: str | float | None, timespec: str = "milliseconds") -> str | None:
    """Return an instant of the API (text in UTC, or seconds) in ISO 8601; None if there is none."""
    if not instant:
        return None
    if isinstance(instant, str):
        return instant.replace(" ", "T") + ("" if instant.endswith("Z") else "Z")
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def took(record: Record, now: float) -> float | None:
    """
    Return the seconds from start to end, or to ``now`` if it runs; None if it did not start.

    What still runs has whole seconds: its start is the master's time, ``now`` is that of this machine.
    """
    started, completed = iso(record.get("started")), iso(record.get("completed"))
    if started is None or (completed is None and is_final(record)):
        return None
    began = datetime.fromisoformat(started)
    if completed is None:
        return float(max(0, int(now - began.timestamp())))
    return (datetime.fromisoformat(completed) - began).total_seconds()


def percent(record: Record) -> int | None:
    """Return the progress from 0 to 100; None if it is not known."""
    known = record.get("percent", record.get("progress"))
    return int(known) if known is not None and known >= 0 else None


def units(record: Record) -> str | None:
    """Return how many work units are where, in words; None if the instance has none."""
    counts = record.get("units")
    if not counts:
        return None
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or None


def done(record: Record) -> str:
    """Return the progress as a cell: percent, the work units that are complete, and those that failed."""
    known, counts = percent(record), record.get("units")
    cells = [] if known is None else [f"{known} %"]
    if counts:
        cells.append("1 unit" if counts["complete"] == 1 else f"{counts['complete']} units")
        if counts["failed"]:
            cells.append(f"{counts['failed']} failed")
    return ", ".join(cells)


def short(instant: str | None, now: float) -> str | None:
    """Return an instant as ``iso`` gave it without its date if that is today's, else without its seconds."""
    if instant is None:
        return None
    day, _, clock = instant.partition("T")
    return clock if day == (iso(now) or "").partition("T")[0] else f"{day} {clock[:5]}Z"


def arguments(record: Record) -> object:
    """Return the arguments as a value; the API gives them as JSON text."""
    given = record.get("args")
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def line(text: str, unit: str) -> str:
    """Return a line that a task wrote, with the work unit that wrote it, if it was one."""
    return f"[{unit}] {text}" if unit else text


def row(record: Record, now: float, is_short: bool = False) -> Sequence[object]:
    """
    Return the cells of one instance, for ``COLUMNS``; ``now`` is an instant in UTC.

    With ``is_short`` its time is short, so that there is room for its task.
    """
    duration, queued = took(record, now), iso(record.get("queued"))
    return (
        record["id"],
        record["task_key"],
        state(record),
        done(record),
        short(queued, now) if is_short else queued,
        "" if duration is None else f"{duration:g} s",
    )


def shape(record: Record) -> dict[str, object]:
    """Return one instance as JSON shows it."""
    return {
        "id": record["id"],
        "task_key": record["task_key"],
        "state": state(record),
        "percent": percent(record),
        "args": arguments(record),
        "queued": iso(record.get("queued")),
        "started": iso(record.get("started")),
        "completed": iso(record.get("completed")),
        **_units(record),
    }


def outcome(answer: Record) -> dict[str, object]:
    """Return how an instance stands or ended, as JSON shows it."""
    return {
        "id": answer["id"],
        "state": state(answer),
        "percent": percent(answer),
        "message": answer.get("message"),
        "result": answer.get("result"),
        "error": answer.get("error"),
        "error_code": answer.get("error_code"),
        "traceback": answer.get("traceback"),
        **_units(answer),
    }


def _units(record: Record) -> dict[str, object]:
    """Return the counts of work units of an instance that has any."""
    return {"units": record["units"]} if record.get("units") else {}
