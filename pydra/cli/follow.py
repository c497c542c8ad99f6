# SPDX-License-Identifier: MIT
"""
Watching one task instance until it ends.

Progress and log lines are asked for in turn on one connection: the master holds the first question until
there is news, or for ``TURN_S``. A master that goes away is waited for, since it may be starting again.
"""

from __future__ import annotations

import contextlib
import time

from pydra.cli import shapes
from pydra.cli.connection import Controller
from pydra.cli.output import Output
from pydra.cli.progress import Display, display
from pydra.client.patience import Patience
from pydra.errors import PydraError

TURN_S = 0.5
"""Seconds that one question for news may take, so log lines are never older."""

WAITING_S = 3.0
"""Seconds after which it is said why a task instance waits; most do not wait so long."""


class StillRunning(PydraError):
    """The task has not ended in the time given."""

    code = "timeout"


def follow(controller: Controller, instance: int, output: Output, timeout_s: float | None) -> shapes.Record:
    """
    Show an instance until it has ended and return its outcome.

    Raises ``StillRunning`` after ``timeout_s``, and the controller's exception if the master stays away.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with display(output) as shown:
        watch = Watch(controller, instance, shown, output)
        while True:
            left = TURN_S if deadline is None else min(TURN_S, deadline - time.monotonic())
            answer = watch.turn(max(left, 0.0))
            if answer is not None and shapes.is_final(answer):
                return answer
            if left <= 0:
                raise StillRunning


class Watch:
    """What was seen of an instance so far."""

    def __init__(self, controller: Controller, instance: int, shown: Display, output: Output) -> None:
        self._controller = controller
        self._instance = instance
        self._shown = shown
        self._output = output
        self._seen: int | None = None
        self._after = 0
        self._begun = time.monotonic()
        self._patience = Patience()
        self._has_told = False

    def turn(self, wait_s: float) -> shapes.Record | None:
        """Ask once for news and show them; None if the master could not be reached."""
        from pydra.cluster.controller import ControllerException

        try:
            answer: shapes.Record = self._controller.wait_task(
                self._instance, timeout=wait_s, seen=self._seen
            )
            self._lines()
            if shapes.is_final(answer):
                self._last_lines()  # before its end is shown
        except ControllerException as error:
            was_away = self._patience.is_away
            self._patience.bear(error)
            if not was_away:
                self._output.say("The master does not answer; trying again.")
            return None
        self._patience.reached()
        self._seen = answer.get("seen")
        if shapes.state(answer) == "queued" and not self._has_told:
            self._tell_why()
        self._shown.progress(shapes.state(answer), shapes.percent(answer), answer.get("message"))
        return answer

    def _tell_why(self) -> None:
        """Say why it waits, once, if it does for a while."""
        from pydra.cluster.controller import ControllerException

        if time.monotonic() - self._begun >= WAITING_S:
            self._has_told = True
            with contextlib.suppress(ControllerException):  # the next question will show what is wrong
                why = self._controller.explain(self._instance)["text"]
                self._output.say(f"{why} More: pydra explain {self._instance}")

    def _lines(self, wait_s: float = 0.0) -> bool:
        """Show the lines that are new; False if there will be no more."""
        answer = self._controller.task_lines(self._instance, after=self._after, wait=wait_s)
        units = answer.get("units") or [""] * len(answer["lines"])
        for (instant, level, _stream, text), unit in zip(answer["lines"], units, strict=True):
            self._shown.line(shapes.iso(instant) or "", level, shapes.line(text, unit))
        more = bool(answer["lines"]) or not answer["final"]
        self._after = answer["next"]
        return more

    def _last_lines(self) -> None:
        """Show what the task wrote last; its lines may arrive after its result."""
        deadline = time.monotonic() + 3.0
        while self._lines(TURN_S) and time.monotonic() < deadline:
            pass
