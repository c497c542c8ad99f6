# SPDX-License-Identifier: MIT
"""Let task instances pause and go on: ``pause`` and ``resume``."""

from __future__ import annotations

import click

from pydra.cli.command import speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.output import Output

_instances = click.argument("instances", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)


@click.command()
@_instances
@speaks_to_master
def pause(controller: Controller, output: Output, instances: tuple[int, ...]) -> None:
    """
    Pause task instances: what waits, and what has its work done in units.

    Nothing new of them begins; units that run come to their end, and other instances get the slots.
    """
    for instance in instances:
        controller.pause_task(instance)
    _tell(output, instances, "paused")


@click.command()
@_instances
@speaks_to_master
def resume(controller: Controller, output: Output, instances: tuple[int, ...]) -> None:
    """Let paused task instances go on."""
    for instance in instances:
        controller.resume_task(instance)
    _tell(output, instances, "resumed")


def _tell(output: Output, instances: tuple[int, ...], word: str) -> None:
    if output.is_json:
        output.data([{"id": instance, word: True} for instance in instances])
        return
    for instance in instances:
        output.say(f"Task instance {instance} is {word}.")
