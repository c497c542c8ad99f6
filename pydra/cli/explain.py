# SPDX-License-Identifier: MIT
"""Why a task instance waits: ``explain``."""

from __future__ import annotations

from typing import Any

import click

from pydra.cli import shapes
from pydra.cli.command import INSTANCE_ID, speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.output import Output

SHOWN = 20
"""Dependencies that the table shows; JSON has all."""


@click.command()
@click.argument("instance", metavar="ID", type=INSTANCE_ID)
@speaks_to_master
def explain(controller: Controller, output: Output, instance: int) -> None:
    """
    Say why task instance ID waits.

    What it depends on, how many run before it, and of each node why it was not taken.
    """
    found: dict[str, Any] = controller.explain(instance)
    if output.is_json:
        output.data({**found, "state": shapes.state(found)})
        return
    units = found.get("units")
    output.facts(
        {
            "id": found["id"],
            "task": found["task_key"],
            "state": shapes.state(found),
            "why": found["text"],
            "units": _units(units) if units else None,
            "asked for": _wishes(found.get("options") or {}),
        }
    )
    needed = found.get("dependencies") or []
    if needed:
        output.text("")
        output.table(
            ("DEPENDS ON", "HOW", "STATE", "WANTED"),
            [
                (each["id"], each["kind"], each["state"], "good" if each["met"] else "")
                for each in needed[:SHOWN]
            ],
        )
        if len(needed) > SHOWN:
            output.say(f"{len(needed) - SHOWN} more; all of them: -o json")
    if found.get("nodes"):
        output.text("")
        output.table(
            ("NODE", "ADDRESS", "WHY NOT"),
            [(node["id"], _address(node), node["reason"]) for node in found["nodes"]],
        )


def _units(units: dict[str, int]) -> str:
    """Return how many units wait and run, and how many workers they have, in a line."""
    waiting, running, workers = units["queued"], units["running"], units["workers"]
    waits, runs = "waits" if waiting == 1 else "wait", "is" if running == 1 else "are"
    told = f"{waiting or 'none'} {waits}, {running or 'none'} {runs} with "
    return told + ("a worker" if workers < 2 else f"{workers} workers")


def _address(node: dict[str, Any]) -> str:
    return f"{node['host']}:{node['port']}" if node.get("host") else "?"


def _wishes(options: dict[str, Any]) -> str:
    """Return what was asked for of a node, in a line."""
    labels = [f"label {label}" for label in options.get("labels", ())]
    resources = [f"{amount:g} {name}" for name, amount in sorted(options.get("resources", {}).items())]
    return ", ".join(labels + resources)
