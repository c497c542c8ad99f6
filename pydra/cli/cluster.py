# SPDX-License-Identifier: MIT
"""A cluster on this machine: ``cluster up`` and ``cluster down``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from pydra.cli.command import UNSANDBOXED, output_option, surroundings
from pydra.cli.connection import Surroundings
from pydra.cli.escape import visible
from pydra.cli.failures import FAILED, CliError
from pydra.cli.output import Output
from pydra.client.target import default_directory

if TYPE_CHECKING:
    from pydra.cli.local_cluster.layout import Layout
    from pydra.cli.local_cluster.record import Process, Record

WATCH_S = 0.2


class NamedDirectory(click.Path):
    """A directory that was named: no text at all, as of a variable that is not set, is not this one."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Return the path."""
        if value == "":
            self.fail("The name of the directory is empty; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


directory_option = click.option(
    "--dir",
    "directory",
    type=NamedDirectory(file_okay=False, path_type=Path),
    help="Directory of the cluster.  [default: pydra in the user's data directory]",
)


@click.group()
def cluster() -> None:
    """Start and end a cluster on this machine."""


@cluster.command()
@directory_option
@click.option("--nodes", type=click.IntRange(1, 64), help="Node daemons.  [default: 1, or as before]")
@click.option("--workers", type=click.IntRange(0, 4096), help="Worker slots of each node; 0 is one per core.")
@click.option("--port", type=click.IntRange(0, 65535), help="Controller port; 0 is any that is free.")
@click.option(
    "--tasks", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Use another TASKS_DIR."
)
@click.option(
    "--isolation",
    type=click.Choice(["sandbox", "none"]),
    default="sandbox",
    show_default=True,
    help="none: tasks run without a sandbox and can do all that you can.",
)
@click.option("--detach", is_flag=True, help="Come back when it is ready, and leave it running.")
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@output_option
@click.pass_context
def up(
    context: click.Context,
    directory: Path | None,
    nodes: int | None,
    workers: int | None,
    port: int | None,
    tasks: Path | None,
    isolation: str,
    detach: bool,
    as_json: bool,
    form: str,
) -> int:
    """
    Start a master and nodes that are paired with each other.

    Stays in the foreground until Ctrl-C ends everything, unless --detach is given. A directory whose daemons
    died is started again on the same store. With --json, one line tells host, port, key and pids when the
    first node is ready to work.
    """
    from pydra.cli.local_cluster.layout import Layout
    from pydra.cli.local_cluster.start import Starter, Wish

    outside = surroundings(context)
    output = Output("json" if as_json else form)
    layout = Layout(directory or default_directory(outside.environ))
    if isolation == "none":
        output.warn(UNSANDBOXED)
    wish = Wish(nodes, workers, port, isolation, tasks)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    record = Starter(layout, output.say, outside.connect, environ=outside.environ).start(wish)
    _tell(output, layout, record)
    if detach:
        if not output.is_json:
            output.say(f"It runs on. To end it: {layout.down}")
        return 0
    output.say("Ctrl-C ends it.")
    return _stay(layout, output)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End like Ctrl-C, whatever the signal was."""
    raise KeyboardInterrupt


def _tell(output: Output, layout: Layout, record: Record) -> None:
    """Say where the cluster is."""
    pids = [daemon.process.pid for daemon in record.daemons if daemon.process is not None]
    if output.is_json:
        output.datum(
            {
                "controller": {"host": record.host, "port": record.master.port},
                "key": str(layout.key),
                "dir": str(layout.directory),
                "pids": {"master": pids[0], "nodes": pids[1:]},
                "isolation": record.reported_isolation,
            }
        )
        sys.stdout.flush()
        return
    output.facts(
        {
            "controller": f"https://{record.host}:{record.master.port}",
            "key": layout.key,
            "settings": layout.client_settings,
            "tasks": record.tasks,
            "isolation": record.reported_isolation,
            "processes": " ".join(map(str, pids)),
        }
    )


def _stay(layout: Layout, output: Output) -> int:
    """Watch the daemons; end them all on Ctrl-C. Ends by itself, with 1, when none is left."""
    from pydra.cli.local_cluster.daemon import adopt_orphans, pause, undisturbed
    from pydra.cli.local_cluster.record import read_record
    from pydra.cli.local_cluster.stop import stop_cluster

    adopt_orphans()
    dead: set[Process] = set()
    try:
        while True:
            record = read_record(layout)
            known = [] if record is None else [each for each in record.daemons if each.process is not None]
            if not known:
                output.say("The cluster was ended.")
                return 0
            _reap()
            fresh = [each for each in known if not each.is_alive and each.process not in dead]
            if fresh and _is_at_work(layout, record):
                pause(WATCH_S)
                continue
            for daemon in fresh:
                assert daemon.process is not None, "it is known"
                dead.add(daemon.process)
                output.warn(
                    f"{daemon.name} (process {daemon.process.pid}) died; see "
                    f"{visible(str(layout.output(daemon.name)))}"
                )
            if not any(daemon.is_alive for daemon in known):
                stop_cluster(layout, output.say)
                return FAILED
            pause(WATCH_S)
    except KeyboardInterrupt:
        with undisturbed():
            output.say("Ending the cluster.")
            stop_cluster(layout, output.say)
            _reap()
        return 0


def _is_at_work(layout: Layout, record: Record | None) -> bool:
    """Return True if another command ends or starts daemons here; what it ended has not died."""
    from pydra.cli.local_cluster.record import read_record

    try:
        with layout.locked():
            return read_record(layout) != record
    except CliError:
        return True


def _reap() -> None:
    """Let go of every child that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


@cluster.command()
@directory_option
@output_option
@click.pass_context
def down(context: click.Context, directory: Path | None, form: str) -> None:
    """
    End the cluster of a directory.

    Its store, keys and logs stay, and `up` starts it again.
    """
    from pydra.cli.local_cluster.layout import Layout
    from pydra.cli.local_cluster.stop import stop_cluster

    outside: Surroundings = surroundings(context)
    output = Output(form)
    layout = Layout(directory or default_directory(outside.environ))
    running = stop_cluster(layout, output.say)
    if output.is_json:
        output.data({"dir": str(layout.directory), "ended": running})
    else:
        output.say(f"Ended {len(running)} processes." if running else "Nothing was running.")
