# SPDX-License-Identifier: MIT
"""
The entry point; it knows the names of the commands and loads one only when it is asked for.

``pydra --help`` is answered from the table below, so it stays quick whatever the commands need.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from pydra.cli.failures import INTERRUPTED, CliError, error_of, report

COMMANDS: dict[str, tuple[str, str]] = {
    "cluster": ("pydra.cli.cluster:cluster", "Start and end a cluster on this machine."),
    "task": ("pydra.cli.task:task", "List, check, deploy and remove packages of tasks."),
    "run": ("pydra.cli.run:run", "Run a task; with --wait, show it live and print its result."),
    "ps": ("pydra.cli.instances:ps", "List what waits and what runs."),
    "status": ("pydra.cli.status:status", "Show one task instance, or the cluster."),
    "explain": ("pydra.cli.explain:explain", "Say why a task instance waits, node by node."),
    "logs": ("pydra.cli.logs:logs", "Print the lines that a task instance wrote."),
    "units": ("pydra.cli.units:units", "List the work units of a task instance."),
    "cancel": ("pydra.cli.instances:cancel", "Cancel task instances."),
    "pause": ("pydra.cli.pausing:pause", "Let task instances pause."),
    "resume": ("pydra.cli.pausing:resume", "Let paused task instances go on."),
    "history": ("pydra.cli.instances:history", "List past runs, newest first."),
    "result": ("pydra.cli.instances:result", "Print the result of a task instance."),
}
"""Command -> where it is, and what it does in one sentence."""


class LazyCommands(click.Group):
    """A group whose commands are imported when they run, and whose failures end as exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # handed through to click, whatever it is
    ) -> Any:
        """Run a command and, unless called as a part of something else, exit with its code."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except (click.ClickException, CliError) as error:
            code = report(error, arguments)
        except click.Abort:
            code = INTERRUPTED
        except Exception as error:
            # The edge of the command line: what is known becomes a sentence and a code; our faults are shown.
            known = error_of(error)
            if known is None:
                raise
            code = report(known, arguments)
        sys.exit(code if isinstance(code, int) else 0)


def show_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the version and exit, if it was asked for."""
    if asked and not ctx.resilient_parsing:
        from pydra import __version__

        click.echo(f"pydra {__version__}")
        ctx.exit()


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """
    Run tasks on a Pydra cluster.

    Data goes to standard output, everything else to standard error. Exit codes: 0 good, 1 the task failed, 2
    usage, 3 not found, 4 not allowed, 5 cannot connect, 124 timeout, 130 Ctrl-C.
    """


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    cli(prog_name="pydra")
    raise SystemExit(0)
