# SPDX-License-Identifier: MIT
"""
Table or JSON: the one place that decides how an answer looks.

Data goes to standard output, talk to standard error. JSON is ASCII, so nothing in it steers a terminal.
Colour is used on a terminal only, and never if NO_COLOR is set.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

import click

from pydra.cli.escape import visible

LEVEL_COLOURS = {"warning": "yellow", "warn": "yellow", "error": "red", "critical": "red"}

GAP = 2
"""Spaces between the columns of a table."""

NARROWEST = 8
"""Characters to which a column of a table may be cut."""


class Output:
    """Writes answers in the format asked for; ``is_json`` says which."""

    def __init__(self, form: str = "table") -> None:
        self.is_json = form == "json"

    def data(self, value: object) -> None:
        """Print a value as one JSON document."""
        click.echo(json.dumps(value, indent=2))

    def datum(self, value: object) -> None:
        """Print a value as JSON on one line."""
        click.echo(json.dumps(value))

    def text(self, text: str) -> None:
        """Print text; on a terminal, what would steer it is escaped."""
        click.echo(visible(text, keep="\n\t") if is_terminal(sys.stdout) else text)

    def value(self, value: object) -> None:
        """Print a result for people: text as it is, anything else as JSON."""
        self.text(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows under headings, in aligned columns; a cell stays on its line."""
        cells = [[visible("" if cell is None else str(cell)) for cell in row] for row in rows]
        if is_terminal(sys.stdout):
            _rich_table(columns, cells)
            return
        widths = [max(len(line[index]) for line in [list(columns), *cells]) for index in range(len(columns))]
        for line in [list(columns), *cells]:
            click.echo(
                "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            )

    def facts(self, facts: Mapping[str, object]) -> None:
        """Print names and their values, one a line; those without a value are left out."""
        width = max((len(name) for name in facts), default=0)
        for name, fact in facts.items():
            if fact is not None and fact != "":
                click.echo(f"{name.ljust(width)}  {visible(str(fact))}")

    def say(self, text: str) -> None:
        """Say something to the person; it is not data."""
        click.echo(visible(text, keep="\n\t") if is_terminal(sys.stderr) else text, err=True)

    def warn(self, text: str) -> None:
        """Say something that must not be overlooked."""
        click.echo(paint(visible(text, keep="\n"), "red", sys.stderr), err=True)

    def log_line(self, time_text: str, level: str, text: str, err: bool = False) -> None:
        """Print one line that a task wrote."""
        stream = sys.stderr if err else sys.stdout
        shown = visible(text, keep="\t") if is_terminal(stream) else text
        word = visible(level.lower())
        start = f"{time_text} {word:<7} "
        click.echo(start + paint(shown, LEVEL_COLOURS.get(word), stream), err=err)


def is_terminal(stream: TextIO) -> bool:
    """Return True if a person reads the stream."""
    return stream.isatty()


def paint(text: str, colour: str | None, stream: TextIO) -> str:
    """Return the text in a colour, if the stream may have colour."""
    if colour is None or os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return click.style(text, fg=colour, bold=True)


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; where it is too narrow, the widest columns are cut."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = [max(map(cell_len, texts)) for texts in zip(columns, *cells, strict=True)]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, fitted(widths, console.width), strict=True):
        table.add_column(column, overflow="ellipsis", no_wrap=True, width=width)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def fitted(widths: Sequence[int], total: int) -> list[int]:
    """Return the widths of columns that fit into ``total``; the first names the row, and is never cut."""
    left = list(widths)
    while sum(left) + GAP * (len(left) - 1) > total and max(left[1:], default=0) > NARROWEST:
        left[left.index(max(left[1:]), 1)] -= 1
    return left
