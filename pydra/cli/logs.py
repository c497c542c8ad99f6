# SPDX-License-Identifier: MIT
"""The lines that a task instance wrote: ``logs``."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import click

from pydra.cli import shapes
from pydra.cli.command import INSTANCE_ID, speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.failures import INTERRUPTED, NOT_FOUND, CliError
from pydra.cli.output import Output
from pydra.client.patience import Patience
from pydra.cluster.controller import ControllerException

WAIT_S = 20.0
"""Seconds that the master may hold a request for further lines."""

LEVELS = ("debug", "info", "warning", "error", "critical")
STREAMS = ("stdout", "stderr", "log")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Line(NamedTuple):
    """A line; ``time`` is UTC seconds, ``unit`` names its work unit, empty for the root."""

    time: float
    level: str
    stream: str
    text: str
    unit: str = ""


class Wanted(NamedTuple):
    """Which lines are shown: from an instant on (UTC seconds), from a level on, of these streams (or all)."""

    since: float | None
    level: str | None
    streams: Sequence[str]

    def takes(self, line: Line) -> bool:
        """Return True if the line is wanted; a level that nobody knows is high enough."""
        level = line.level.lower()
        return (
            (self.since is None or line.time >= self.since)
            and (not self.streams or line.stream in self.streams)
            and (self.level is None or level not in LEVELS[: LEVELS.index(self.level)])
        )


def instant(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Return UTC seconds: so long ago (``30s``, ``10m``, ``2h``, ``1d``), or ISO 8601, UTC unless told."""
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd])", text)
    if ago is not None:
        now = time.time()  # noqa: TID251 - "ago" is by the clock of the one who asks
        return now - float(ago[1]) * UNITS_S[ago[2]]
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text[:100]!r} is neither like 30s, 10m, 2h or 1d nor like 2026-11-22T10:00:00."
        ) from None


def choice(instance: int, unit: str) -> dict[str, str]:
    """Return what names a work unit to the master: ``Sub:7``, ``3/Sub:7``, or ``Sub`` for all of a branch."""
    branch, _, index = unit.removeprefix(f"{instance}/").rpartition(":")
    if branch and index.isascii() and index.isdecimal():
        return {"subtask": branch, "workunit_id": index}
    return {"subtask": unit.removeprefix(f"{instance}/")}


class Log:
    """
    Reads the lines of one instance, from the first on.

    ``removed`` says if some are there no more; ``is_empty``, that none was read; ``is_final``, that no more
    come.
    """

    def __init__(self, controller: Controller, instance: int, unit: str | None = None) -> None:
        self._controller = controller
        self._instance = instance
        self._choice = {} if unit is None else choice(instance, unit)
        self._after = 0
        self.removed: str | None = None
        self.is_empty = True
        self.is_final = False

    def so_far(self) -> list[Line]:
        """Return all lines that are there now, by time; those of one time stay in their order."""
        lines: list[Line] = []
        more = True
        while more:
            page, more = self._page(0.0)
            lines += page
        return sorted(lines, key=lambda line: line.time)

    def further(self) -> Iterator[Line]:
        """Give the lines that come, until the instance has ended."""
        more = True
        patience = Patience()
        while more or not self.is_final:
            try:
                page, more = self._page(WAIT_S)
            except ControllerException as fault:
                patience.bear(fault)
                continue
            patience.reached()
            yield from page

    def _page(self, wait_s: float) -> tuple[list[Line], bool]:
        answer = self._controller.task_lines(self._instance, after=self._after, wait=wait_s, **self._choice)
        units = answer.get("units") or [""] * len(answer["lines"])
        lines = [
            Line(at, level, stream, text, unit)
            for (at, level, stream, text), unit in zip(answer["lines"], units, strict=True)
        ]
        self._after = answer["next"]
        self.removed = answer.get("removed")
        self.is_empty = self.is_empty and not lines
        self.is_final = bool(answer["final"])
        return lines, bool(answer.get("more"))


def check_unit(controller: Controller, instance: int, unit: str, is_final: bool) -> None:
    """Raise `CliError` if no such work unit is listed, nor any of such a branch."""
    wanted = choice(instance, unit)
    branch, index = wanted["subtask"], int(wanted.get("workunit_id", 0))
    after = f"{branch}:{index - 1}" if index else None
    found = controller.task_units(instance, branch, after=after, limit=1)["workunits"]
    if found and ("workunit_id" not in wanted or found[0]["workunit_key"] == index):
        return
    so_far = "" if is_final else " that ended or wrote lines so far"
    raise CliError(f"Task instance {instance} has no work unit {unit}{so_far}.", NOT_FOUND, "not_found")


@click.command()
@click.argument("instance", metavar="ID", type=INSTANCE_ID)
@click.option("-f", "--follow", is_flag=True, help="Go on until the task instance has ended.")
@click.option("--tail", type=click.IntRange(0), help="Only the last lines; with -f, then those that come.")
@click.option("--since", callback=instant, help="Only from then on: 30s, 10m, 2h, 1d ago, or a time in UTC.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="Only from this level on.")
@click.option("--stream", "streams", type=click.Choice(STREAMS), multiple=True, help="Only this one.")
@click.option("--unit", help="Only of this work unit (Sub:7), or of all of a branch (Sub).")
@speaks_to_master
def logs(
    controller: Controller,
    output: Output,
    instance: int,
    follow: bool,
    tail: int | None,
    since: float | None,
    level: str | None,
    streams: Sequence[str],
    unit: str | None,
) -> int:
    """
    Print the lines that a task instance wrote, by time.

    With -o json, one JSON object a line: time (to the microsecond), level, stream, unit, text.
    """
    wanted = Wanted(since, level, streams)
    log = Log(controller, instance, unit)
    try:
        lines = filter(wanted.takes, log.so_far())
        for line in lines if tail is None else deque(lines, maxlen=tail):
            _show(line, output)
        if log.removed:
            output.say(log.removed)
        if follow:
            for line in filter(wanted.takes, log.further()):
                _show(line, output)
    except KeyboardInterrupt:
        output.say(f"Task instance {instance} goes on, if it has not ended.")
        return INTERRUPTED
    if unit is not None and log.is_empty:
        check_unit(controller, instance, unit, log.is_final)
    return 0


def _show(line: Line, output: Output) -> None:
    if output.is_json:
        output.datum(
            {
                "time": shapes.iso(line.time, "microseconds"),
                "level": line.level.lower(),
                "stream": line.stream,
                "unit": line.unit or None,
                "text": line.text,
            }
        )
    else:
        output.log_line(shapes.iso(line.time) or "", line.level, shapes.line(line.text, line.unit))
