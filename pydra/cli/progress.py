# SPDX-License-Identifier: MIT
"""Progress of one task instance: a bar on a terminal, plain lines elsewhere; both on standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

from pydra.cli.escape import visible
from pydra.cli.output import LEVEL_COLOURS, Output, is_terminal


class Display(Protocol):
    """Shows how an instance gets on; a context manager."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def progress(self, state: str, percent: int | None, message: str | None) -> None:
        """Show the state; ``percent`` is None if it is not known."""

    def line(self, time_text: str, level: str, text: str) -> None:
        """Show a line that the task wrote."""


def display(output: Output) -> Display:
    """Return a live bar if standard error is a terminal, else plain lines."""
    return LiveDisplay() if is_terminal(sys.stderr) else PlainDisplay(output)


class PlainDisplay:
    """One line for each state and for each ten percent; for each message if no percentage is known."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._shown: tuple[str, str | int | None] | None = None

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """There is nothing to tidy."""

    def progress(self, state: str, percent: int | None, message: str | None) -> None:
        """Write a line if there is news."""
        news = (state, message if percent is None else percent // 10)
        if news == self._shown:
            return
        self._shown = news
        known = "" if percent is None else f" {percent} %"
        self._output.say(f"{state}{known}" + (f" {message}" if message else ""))

    def line(self, time_text: str, level: str, text: str) -> None:
        """Write the line."""
        self._output.log_line(time_text, level, text, err=True)


class LiveDisplay:
    """A bar that moves, with the log lines above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            # By name: a terminal of few colours shows those that are mixed all in the same grey.
            BarColumn(
                style="bright_black", complete_style="cyan", finished_style="green", pulse_style="cyan"
            ),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=False,
        )
        self._bar = self._progress.add_task("queued", total=None)

    def __enter__(self) -> Self:
        """Draw the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Leave the last state of the bar standing."""
        self._progress.stop()

    def progress(self, state: str, percent: int | None, message: str | None) -> None:
        """Move the bar."""
        told = f"{state}: {visible(message)}" if message else state
        if percent is None:  # the bar stays where it was: how far what failed had come
            self._progress.update(self._bar, description=told)
        else:
            self._progress.update(self._bar, description=told, total=100, completed=percent)

    def line(self, time_text: str, level: str, text: str) -> None:
        """Print the line above the bar."""
        from rich.text import Text

        word = visible(level.lower())
        line = Text()
        line.append(f"{time_text} {word:<7} ", style="dim")
        line.append(visible(text, keep="\t"), style=LEVEL_COLOURS.get(word, ""))
        self._progress.console.print(line, soft_wrap=True)
