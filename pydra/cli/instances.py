# SPDX-License-Identifier: MIT
"""What runs, what ran, and what came of it: ``ps``, ``cancel``, ``history`` and ``result``."""

from __future__ import annotations

import itertools
import sys

import click

from pydra.cli import shapes
from pydra.cli.command import INSTANCE_ID, speaks_to_master, surroundings
from pydra.cli.connection import Controller
from pydra.cli.failures import FAILED, NOT_FOUND, CliError
from pydra.cli.output import Output, is_terminal
from pydra.cluster.controller import ControllerRemoteException

MOST = 500
"""Instances that one answer of the master lists."""

LATEST = 20
"""Instances of all tasks that are listed if nobody says how many."""


def _show(output: Output, records: list[shapes.Record]) -> None:
    """Print instances."""
    if output.is_json:
        output.data([shapes.shape(record) for record in records])
    else:
        now = surroundings(click.get_current_context()).clock()
        is_short = is_terminal(sys.stdout)
        output.table(shapes.COLUMNS, [shapes.row(record, now, is_short) for record in records])


@click.command()
@click.option("-a", "--all", "finished", is_flag=True, help="Also what has ended, newest first.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, MOST),
    help=f"How many at most (default: {MOST}; of --all, {LATEST}).",
)
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out so many of the first.")
@speaks_to_master
def ps(controller: Controller, output: Output, finished: bool, limit: int | None, skip: int) -> None:
    """List the task instances that wait or run."""
    if finished:
        if skip:
            raise click.UsageError("--skip is not for --all; see pydra history TASK --page N.")
        _show(output, controller.list_recent(limit=limit or LATEST))
        return
    limit = limit or MOST
    found = controller.list_queue(limit=limit, skip=skip)
    _show(output, found)
    if len(found) == limit and not output.is_json:
        output.say(f"There may be more: pydra ps --limit {limit} --skip {skip + limit}")


@click.command()
@click.argument("instances", metavar="ID...", type=INSTANCE_ID, nargs=-1, required=True)
@speaks_to_master
def cancel(controller: Controller, output: Output, instances: tuple[int, ...]) -> None:
    """
    Cancel task instances.

    One that waits is cancelled at once; one that runs is asked to stop, and stopped by force if it does not.
    """
    known = {instance: _cancelled(controller, instance) for instance in instances}
    if output.is_json:
        output.data(
            [
                {"id": each, "cancelled": is_cancelled, "state": state}
                for each, (is_cancelled, state) in known.items()
            ]
        )
    else:
        for instance, (is_cancelled, state) in known.items():
            if is_cancelled:
                is_over = state == "cancelled"
                output.say(
                    f"Task instance {instance} is cancelled."
                    if is_over
                    else f"Asked task instance {instance} to stop."
                )
    refused = {each: state for each, (is_cancelled, state) in known.items() if not is_cancelled}
    if refused:
        raise CliError("\n".join(itertools.starmap(_refusal, refused.items())), NOT_FOUND, "not_found")


def _cancelled(controller: Controller, instance: int) -> tuple[bool, str | None]:
    """Cancel; return whether that could be done, and the state of the instance now, None if there is none."""
    is_cancelled = bool(controller.cancel_task(task_id=instance))
    try:
        return is_cancelled, shapes.state(controller.task_result(instance))
    except ControllerRemoteException as error:
        if error.remote_code != "not_found":
            raise
        return is_cancelled, None


def _refusal(instance: int, state: str | None) -> str:
    if state is None:
        return f"There is no task instance {instance}."
    return f"Task instance {instance} has ended: it is {state}."


@click.command()
@click.argument("task_key", required=False)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="Ten runs a page.")
@speaks_to_master
def history(controller: Controller, output: Output, task_key: str | None, page: int) -> None:
    """List past runs of TASK_KEY, or the latest runs of all tasks, newest first."""
    if task_key is None:
        if page != 1:
            raise click.UsageError("--page needs a TASK_KEY.")
        _show(output, controller.list_recent(limit=LATEST))
        return
    answer = controller.task_history(task_key, page)
    _show(output, answer["instances"])
    if answer.get("next") and not output.is_json:
        output.say(f"More: pydra history {task_key} --page {answer['page'] + 1}")


@click.command()
@click.argument("instance", metavar="ID", type=INSTANCE_ID)
@speaks_to_master
def result(controller: Controller, output: Output, instance: int) -> int:
    """Print the result of a task instance; exit 1 if there is none."""
    answer = controller.task_result(instance)
    return show_outcome(controller, output, answer)


def show_outcome(controller: Controller, output: Output, answer: shapes.Record) -> int:
    """Print how an instance ended and return the exit code; raises ``CliError`` if it has not ended."""
    ended = shapes.is_final(answer)
    if answer.get("result") is None and answer.get("download"):
        from pydra.cluster.wire import payload

        # It is too large for the answer.
        answer = {**answer, "result": payload.to_json(controller.fetch_result(answer["id"]))}
    if output.is_json:
        output.data(shapes.outcome(answer))
        return 0 if shapes.state(answer) == "complete" else FAILED
    if not ended:
        raise CliError(
            f"Task instance {answer['id']} has not ended: {shapes.state(answer)}.", FAILED, "not_final"
        )
    if shapes.state(answer) == "complete":
        output.value(answer.get("result"))
        return 0
    if answer.get("traceback"):
        output.say(str(answer["traceback"]).rstrip("\n"))
    why = f": {answer['error']}" if answer.get("error") else "."
    output.say(f"Task instance {answer['id']} {_ended(shapes.state(answer))}{why}")
    return FAILED


def _ended(word: str) -> str:
    """Return the state as a verb."""
    return "was cancelled" if word == "cancelled" else word
