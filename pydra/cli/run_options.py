# SPDX-License-Identifier: MIT
"""How a task instance is to be run, as options of the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

WHEN = {
    "success": {},
    "failure": {"success": False, "failure": True},
    "end": {"failure": True},
}


class Numbers(click.ParamType[list[int]]):
    """Numbers of task instances, with commas between them."""

    name = "ID[,ID...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:  # Any: what click hands in
        """Return the numbers."""
        try:
            return [int(number) for number in str(value).split(",")]
        except ValueError:
            self.fail(
                f"{value!r}: write the numbers of task instances, with commas between them.", param, ctx
            )


class Seconds(click.FloatRange):
    """A number of seconds, which NaN and infinity are not."""

    name = "SECONDS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:  # Any: what click hands in
        """Return the number."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


class Amount(click.ParamType[tuple[str, float]]):
    """A resource and how much of it."""

    name = "NAME=AMOUNT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:  # Any: what click hands in
        """Return the name and the amount."""
        name, _, amount = str(value).partition("=")
        try:
            number = _mebibytes(amount) if name == "memory" else float(amount)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r}: write NAME=AMOUNT, as in gpus=1 or memory=4GiB.", param, ctx)
        return name, number


def _mebibytes(amount: str) -> float:
    """As META of a package has it: a number is MiB, others have a unit. `ValueError`."""
    from pydra.cluster.packages.limits import size_of

    size = size_of(amount)
    if size is None:
        raise ValueError(amount)
    return size / 1024**2


_OPTIONS = (
    click.option("--priority", type=int, help="Smaller runs first.  [default: 5]"),
    click.option(
        "--time-limit", type=Seconds(0), help="Seconds that it may run; then it has failed. 0: no limit."
    ),
    click.option("--retries", type=int, help="How often it is run again if it fails."),
    click.option("--retry-delay", type=Seconds(0), help="Seconds before the first retry; they double."),
    click.option(
        "--retry",
        type=click.Choice(["lost", "never"]),
        help="When it is run again: if its worker or node was lost, or never.  [default: as the task says]",
    ),
    click.option("--exclusive", is_flag=True, help="Never have two attempts of it alive at the same time."),
    click.option("--after", type=Numbers(), help="Run when all of these have ended."),
    click.option("--after-any", type=Numbers(), help="Run when one of these has ended."),
    click.option("--follow", type=Numbers(), help="Run when all of these have ended, on their node."),
    click.option("--follow-any", type=Numbers(), help="Run when one of these has ended, on its node."),
    click.option(
        "--when",
        type=click.Choice(list(WHEN)),
        default="success",
        show_default=True,
        help="How they end.",
    ),
    click.option("--label", "labels", multiple=True, help="The node must have this label; may be repeated."),
    click.option(
        "--resource",
        "resources",
        type=Amount(),
        multiple=True,
        help="What it holds of its node, as gpus=1 or memory=4GiB; may be repeated.",
    ),
)


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:  # a command has options of its own
    """Give a command these options; it is called with them in ``options``, as the master reads them."""

    def command(*args: Any, **given: Any) -> Any:
        own = {name: given.pop(name) for name in _NAMES}
        return function(*args, options=_options(**own), **given)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__dict__.update(function.__dict__)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_NAMES = (
    "priority",
    "time_limit",
    "retries",
    "retry_delay",
    "retry",
    "exclusive",
    "after",
    "after_any",
    "follow",
    "follow_any",
    "when",
    "labels",
    "resources",
)


def _options(
    labels: tuple[str, ...],
    resources: tuple[tuple[str, float], ...],
    when: str,
    **given: Any,  # numbers, and lists of them
) -> dict[str, object]:
    """What was given of the options."""
    options: dict[str, object] = {
        name: given[name]
        for name in ("priority", "time_limit", "retries", "retry_delay", "retry", "exclusive")
        if given[name] is not None and given[name] is not False
    }
    for name in ("after", "follow"):
        every, some = given[name], given[f"{name}_any"]
        if every is not None and some is not None:
            raise click.UsageError(f"Give one of --{name} and --{name}-any.")
        if every is not None or some is not None:
            mode = {} if some is None else {"mode": "any"}
            options[name] = {"instances": every or some, **mode, **WHEN[when]}
    if when != "success" and not options.keys() & {"after", "follow"}:
        raise click.UsageError("--when needs --after or --follow.")
    if labels:
        options["labels"] = list(labels)
    if resources:
        options["resources"] = amounts = dict(resources)
        if len(amounts) < len(resources):
            raise click.UsageError("Give each --resource once.")
    return options
