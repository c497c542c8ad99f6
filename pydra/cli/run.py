# SPDX-License-Identifier: MIT
"""Submit a task: ``run``."""

from __future__ import annotations

import json
import uuid

import click

from pydra.cli import shapes
from pydra.cli.command import speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.failures import INTERRUPTED, TIMEOUT, USAGE, CliError
from pydra.cli.output import Output
from pydra.cli.run_options import Seconds, run_options


def parse_arguments(given: tuple[str, ...]) -> dict[str, object]:
    """
    Return the arguments of ``-a``: ``name=text`` is text, ``name:=JSON`` is the value.

    Raises ``click.UsageError`` for one that is neither, and for a name given twice.
    """
    parsed: dict[str, object] = {}
    for argument in given:
        name, equals, text = argument.partition("=")
        typed = name.endswith(":")
        name = name.removesuffix(":") if typed else name
        if not equals or not name:
            raise click.UsageError(
                f"-a {argument}: write NAME=TEXT, or NAME:=JSON for a number, list and so on."
            )
        if name in parsed:
            raise click.UsageError(f"-a {argument}: {name} is given twice.")
        try:
            parsed[name] = json.loads(text, parse_constant=_no_number) if typed else text
        except ValueError as error:
            raise click.UsageError(f"-a {argument}: not JSON: {error}") from None
    return parsed


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not part of it")


def submit(
    controller: Controller,
    task_key: str,
    arguments: dict[str, object],
    options: dict[str, object] | None = None,
) -> dict[str, object]:
    """
    Queue a task and return what the master answers.

    Raises ``CliError`` with each field's message if the arguments were refused.
    """
    more = {"options": options} if options else {}
    answer: dict[str, object] = controller.queue_task(
        task_key, arguments, request_key=uuid.uuid4().hex, **more
    )
    refused = answer.get("errors")
    if isinstance(refused, dict):
        faults = "\n".join(
            f"  {name}: {' '.join(map(str, texts))}" for name, texts in sorted(refused.items())
        )
        raise CliError(f"{task_key} was refused:\n{faults}", USAGE, "invalid_parameters")
    return answer


@click.command()
@click.argument("task_key")
@click.option(
    "-a",
    "--arg",
    "given",
    multiple=True,
    metavar="NAME=TEXT",
    help="An argument; NAME:=JSON gives it a type.",
)
@click.option("-w", "--wait", is_flag=True, help="Show it live, print its result, exit 1 if it failed.")
@click.option("--timeout", type=Seconds(0, min_open=True), help="Seconds to wait; then exit 124.")
@run_options
@speaks_to_master
def run(
    controller: Controller,
    output: Output,
    task_key: str,
    given: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    options: dict[str, object],
) -> int:
    """
    Run TASK_KEY (package.module.Class) and print the id of the task instance.

    With --wait, progress and log lines go to standard error and the result to standard output. Ctrl-C ends
    the waiting, not the task.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait.")
    answer = submit(controller, task_key, parse_arguments(given), options)
    instance = int(str(answer["instance_id"]))
    if not wait:
        if output.is_json:
            queued = answer.get("time")
            when = shapes.iso(queued) if isinstance(queued, str | int | float) else None
            output.data({"id": instance, "task_key": task_key, "queued": when})
        else:
            output.text(str(instance))
        return 0

    from pydra.cli.follow import StillRunning, follow
    from pydra.cli.instances import show_outcome

    goes_on = f"Task instance {instance} goes on; to cancel it: pydra cancel {instance}"
    output.say(f"Task instance {instance} of {task_key}")
    try:
        return show_outcome(controller, output, follow(controller, instance, output, timeout))
    except KeyboardInterrupt:
        raise CliError(goes_on, INTERRUPTED, "interrupted") from None
    except StillRunning:
        raise CliError(f"Not ended after {timeout:g} s. {goes_on}", TIMEOUT, "timeout") from None
