# SPDX-License-Identifier: MIT
"""How a task instance stands, or how the cluster stands: ``status``."""

from __future__ import annotations

import json
from typing import Any

import click

from pydra.cli import shapes
from pydra.cli.command import INSTANCE_ID, speaks_to_master, surroundings
from pydra.cli.connection import Controller
from pydra.cli.failures import NOT_FOUND, CliError
from pydra.cli.output import Output

SHOWN_ERRORS = 5
"""Files of a package that cannot be used, as the table shows them; JSON has all."""


@click.command()
@click.argument("instance", metavar="[ID]", type=INSTANCE_ID, required=False)
@speaks_to_master
def status(controller: Controller, output: Output, instance: int | None) -> None:
    """Show the task instance ID; without an ID, the cluster."""
    if instance is None:
        _cluster(controller, output)
    else:
        _instance(controller, output, instance)


def _instance(controller: Controller, output: Output, instance: int) -> None:
    """Print one task instance."""
    answer = controller.task_result(instance)
    history = controller.task_history_detail(task_instance_id=instance, workunits=False)
    if history is None:
        raise CliError(f"There is no task instance {instance}.", NOT_FOUND, "not_found")
    shown = {**shapes.shape(history["details"]), **shapes.outcome(answer)}
    if output.is_json:
        output.data(shown)
        return
    now = surroundings(click.get_current_context()).clock()
    duration, done = shapes.took(history["details"], now), shapes.percent(answer)
    output.facts(
        {
            "id": shown["id"],
            "task": shown["task_key"],
            "state": shown["state"],
            "progress": None if done is None else f"{done} %",
            "units": shapes.units(answer),
            "message": shown["message"],
            "args": json.dumps(shown["args"]),
            "queued": shown["queued"],
            "started": shown["started"],
            "completed": shown["completed"],
            "took": None if duration is None else f"{duration:g} s",
            "error": shown["error"],
        }
    )


def _nodes(controller: Controller) -> list[dict[str, Any]]:
    """Return every node of the cluster with what its workers do."""
    connected = controller.node_status()
    known: list[dict[str, Any]] = []  # records of the API
    page = 1
    while True:
        nodes, blocks = controller.node_list(page=page)
        known += nodes
        page += 1
        if page > max((number for block in blocks or [] for number in block or []), default=1):
            break
    shown: list[dict[str, Any]] = []
    for node in known:
        now = connected.get(str(node["id"]), {"status": 0, "workers": -1})
        workers = now["workers"] if isinstance(now["workers"], dict) else {}
        busy = [worker for worker in workers.values() if isinstance(worker, list) and worker[1] != -1]
        shown.append(
            {
                "id": node["id"],
                "host": node.get("host"),
                "port": node.get("port"),
                "connected": bool(now["status"]),
                "workers": len(workers),
                "busy": len(busy),
                "labels": node.get("labels") or [],
                "resources": node.get("resources") or {},
            }
        )
    return shown


def _held(resources: dict[str, dict[str, float]]) -> str:
    """Return how much of each resource is held, of how much."""
    return ", ".join(f"{name} {each['held']:g}/{each['offered']:g}" for name, each in resources.items())


def _cluster(controller: Controller, output: Output) -> None:
    """Print the nodes, the packages and the length of the queue."""
    information = controller.cluster_info()
    nodes, packages = _nodes(controller), controller.package_list()
    shown = {
        "version": information.get("version"),
        "isolation": information.get("isolation"),
        **information["instances"],
        "nodes": nodes,
        "packages": packages,
    }
    if output.is_json:
        output.data(shown)
        return
    facts = {name: shown[name] for name in ("version", "isolation", "queued", "running")}
    output.facts(facts | {"paused": shown["paused"] or None})
    output.text("")
    output.table(
        ("NODE", "ADDRESS", "STATE", "WORKERS", "BUSY", "HELD", "LABELS"),
        [
            (
                node["id"],
                f"{node['host']}:{node['port']}",
                "connected" if node["connected"] else "disconnected",
                node["workers"],
                node["busy"],
                _held(node["resources"]),
                " ".join(node["labels"]),
            )
            for node in nodes
        ],
    )
    output.text("")
    output.table(
        ("PACKAGE", "VERSION", "TASK"),
        [
            (package["package"], str(package["version"])[:12], key)
            for package in packages
            for key in (package["tasks"] or ["(none)"])
        ],
    )
    for package in packages:
        errors = package.get("errors") or []
        for error in errors[:SHOWN_ERRORS]:
            output.warn(f"{package['package']}/{error['file']}: {error['message']}")
        if len(errors) > SHOWN_ERRORS:
            rest = len(errors) - SHOWN_ERRORS
            output.warn(f"{package['package']}/: {rest} files more cannot be used; all of them: -o json")
