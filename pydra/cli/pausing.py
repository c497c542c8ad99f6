# SPDX-License-Identifier: MIT
"""Let task instances pause and go on: ``pause`` and ``resume``."""

from __future__ import annotations

from collections.abc import Callable

import click

from pydra.cli.command import INSTANCE_ID, speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.failures import CliError, error_of
from pydra.cli.output import Output
from pydra.cluster.controller import ControllerRemoteException

_instances = click.argument("instances", metavar="ID...", type=INSTANCE_ID, nargs=-1, required=True)


@click.command()
@_instances
@speaks_to_master
def pause(controller: Controller, output: Output, instances: tuple[int, ...]) -> None:
    """
    Pause task instances: what waits, and what has its work done in units.

    Nothing new of them begins; units that run come to their end, and other instances get the slots.
    Units that others wait for still begin, so that these can end.
    """
    _ask(controller.pause_task, output, instances, "paused")


@click.command()
@_instances
@speaks_to_master
def resume(controller: Controller, output: Output, instances: tuple[int, ...]) -> None:
    """Let paused task instances go on."""
    _ask(controller.resume_task, output, instances, "resumed")


def _ask(function: Callable[..., object], output: Output, instances: tuple[int, ...], word: str) -> None:
    """Ask for each: that one is refused does not keep the others from it. The first refusal counts."""
    refused: dict[int, CliError] = {}
    for instance in instances:
        try:
            function(instance)
        except ControllerRemoteException as fault:
            known = error_of(fault)
            if known is None:
                raise
            refused[instance] = known
        else:
            if not output.is_json:
                output.say(f"Task instance {instance} is {word}.")
    if output.is_json:
        output.data([{"id": instance, word: instance not in refused} for instance in instances])
    if refused:
        first = next(iter(refused.values()))
        raise CliError("\n".join(map(str, refused.values())), first.exit_code, first.code)
