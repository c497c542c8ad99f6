# SPDX-License-Identifier: MIT
"""The work units of a task instance: ``units``."""

from __future__ import annotations

import json

import click

from pydra.cli import shapes
from pydra.cli.command import INSTANCE_ID, speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.failures import NOT_FOUND, CliError
from pydra.cli.output import Output

COLUMNS = ("UNIT", "STATE", "NODE", "ENDED", "RESULT")
PAGE = 500
CELL = 60
"""Characters of a result or a failure in a table."""


@click.command()
@click.argument("instance", metavar="ID", type=INSTANCE_ID)
@click.option("--branch", help="Only of this branch, such as Sub.")
@click.option("--failed", is_flag=True, help="Only those that failed.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="How many at most."
)
@click.option("--after", metavar="UNIT", help="Begin after this one, such as Sub:7.")
@speaks_to_master
def units(
    controller: Controller,
    output: Output,
    instance: int,
    branch: str | None,
    failed: bool,
    limit: int,
    after: str | None,
) -> None:
    """
    List the work units of a task instance that ended, by branch and index.

    Units that a client submitted are listed from then on; the others wait and run without being listed.
    """
    state = "failed" if failed else None
    after = None if after is None else after.removeprefix(f"{instance}/")
    found: list[shapes.Record] = []
    while True:
        left = min(PAGE, limit - len(found))
        answer = controller.task_units(instance, branch, after=after, limit=left, state=state)
        found += answer["workunits"]
        after = answer["next"]
        if after is None or len(found) >= limit:
            break
    if branch is not None and state is None and not found:
        words = f"Task instance {instance} has no work unit of branch {branch} that ended."
        raise CliError(words, NOT_FOUND, "not_found")
    if output.is_json:
        output.data([_shape(unit) for unit in found])
        return
    output.table(COLUMNS, [_row(unit) for unit in found])
    counts = shapes.units(answer)
    output.say(f"Work units: {counts}." if counts else f"Task instance {instance} has no work units.")
    if after is not None:
        chosen = (f" --branch {branch}" if branch else "") + (" --failed" if failed else "")
        output.say(f"More: pydra units {instance}{chosen} --after {after} -n {limit}")


def _row(unit: shapes.Record) -> list[object]:
    return [unit["path"], unit["state"], unit["node"], shapes.iso(unit["completed"]), _outcome(unit)]


def _outcome(unit: shapes.Record) -> str:
    """Return what came of a unit as a cell."""
    if unit["state"] == "queued":
        return ""
    if unit["state"] == "failed":
        text = str(unit["error"])
    elif unit["result"] is None and unit["size"] != 1:
        text = f"({unit['size']} bytes)"  # too many to be shown, or what JSON cannot hold
    else:
        text = json.dumps(unit["result"], ensure_ascii=False)
    return text if len(text) <= CELL else f"{text[: CELL - 3]}..."


def _shape(unit: shapes.Record) -> dict[str, object]:
    """Return one unit as JSON shows it."""
    return {
        "unit": unit["path"],
        "branch": unit["subtask_key"],
        "index": unit["workunit_key"],
        "state": unit["state"],
        "node": unit["node"],
        "ended": shapes.iso(unit["completed"]),
        "result": unit["result"],
        "size": unit["size"],
        "error": unit["error"],
        "traceback": unit["traceback"],
    }
