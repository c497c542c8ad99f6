# SPDX-License-Identifier: MIT
"""What each command that speaks to the master has: its options, its client, and a word on isolation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from pydra.cli.connection import Controller, Surroundings
from pydra.cli.output import Output
from pydra.client.target import find_target

UNSANDBOXED = (
    "This cluster runs tasks WITHOUT a sandbox (isolation: none): they can do all that its nodes can do."
)


class _InstanceId(click.IntRange):
    """The number of a task instance."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not the number of a task instance; see: pydra ps --all", param, ctx)


INSTANCE_ID = _InstanceId(1)

output_option = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    envvar="PYDRA_OUTPUT",
    show_envvar=True,
    help="How the answer looks.",
)

CONNECTION_OPTIONS = (
    click.option("--key", envvar="PYDRA_CONTROLLER_KEY", show_envvar=True, help="Its master.key."),
    click.option(
        "--port", type=int, envvar="PYDRA_CONTROLLER_PORT", show_envvar=True, help="Its controller port."
    ),
    click.option("--host", envvar="PYDRA_HOST", show_envvar=True, help="Host of the master."),
    output_option,
)


def surroundings(context: click.Context) -> Surroundings:
    """Return what this process meets outside."""
    return context.obj if isinstance(context.obj, Surroundings) else Surroundings()


def speaks_to_master(
    # A command has options of its own and may answer with an exit code.
    function: Callable[..., Any],
) -> Callable[..., Any]:
    """
    Give a command the options of a connection.

    It is called with ``controller`` and ``output`` first. If the cluster runs tasks without a sandbox, every
    command says so.
    """

    def command(
        context: click.Context,
        host: str | None,
        port: int | None,
        key: str | None,
        form: str,
        **options: Any,  # the command's own
    ) -> Any:
        outside = surroundings(context)
        controller = outside.connect(find_target(host, port, key, outside.environ))
        context.call_on_close(controller.close)
        output = Output(form)
        warn_of_isolation(controller, output)
        return function(controller, output, **options)

    decorated: Callable[..., Any] = click.pass_context(command)
    functools.update_wrapper(decorated, function)
    for option in CONNECTION_OPTIONS:
        decorated = option(decorated)
    return decorated


def warn_of_isolation(controller: Controller, output: Output) -> dict[str, object]:
    """Say it if tasks run without a sandbox; return what the master says of the cluster."""
    information: dict[str, object] = controller.cluster_info()
    if information.get("isolation") == "none":
        output.warn(UNSANDBOXED)
    return information
