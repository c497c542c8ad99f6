# SPDX-License-Identifier: MIT
"""The lines that a task instance wrote: ``logs``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import click

from pydra.cli import shapes
from pydra.cli.command import speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.failures import INTERRUPTED
from pydra.cli.output import Output

WAIT_S = 20.0
"""Seconds that the master may hold a request for further lines."""

Line = tuple[float, str, str, str]


def read_lines(controller: Controller, instance: int, follow: bool) -> Iterator[Line]:
    """Give the lines of an instance from its first; with ``follow``, until it has ended."""
    after = 0
    while True:
        answer = controller.task_lines(instance, after=after, wait=WAIT_S if follow else 0)
        yield from answer["lines"]
        ended = answer["next"] == after and (not follow or answer["final"])
        after = answer["next"]
        if ended:
            return


@click.command()
@click.argument("instance", metavar="ID", type=click.IntRange(1))
@click.option("-f", "--follow", is_flag=True, help="Go on until the task instance has ended.")
@click.option("--tail", type=click.IntRange(0), help="Only the last lines; not with -f.")
@speaks_to_master
def logs(controller: Controller, output: Output, instance: int, follow: bool, tail: int | None) -> int:
    """
    Print the lines that a task instance wrote.

    With -o json, one JSON object a line: time, level, stream, text.
    """
    if follow and tail is not None:
        raise click.UsageError("--tail cannot be used with -f.")
    lines = read_lines(controller, instance, follow)
    try:
        for time, level, stream, text in lines if tail is None else deque(lines, maxlen=tail):
            if output.is_json:
                output.datum(
                    {"time": shapes.iso(time), "level": level.lower(), "stream": stream, "text": text}
                )
            else:
                output.log_line(shapes.iso(time) or "", level, text)
    except KeyboardInterrupt:
        output.say(f"Task instance {instance} goes on, if it has not ended.")
        return INTERRUPTED
    return 0
