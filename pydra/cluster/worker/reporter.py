# SPDX-License-Identifier: MIT
"""A thread beside the task that sends its lines and its progress while it works."""

from __future__ import annotations

from _thread import start_new_thread
from time import monotonic

from pydra.cluster.wire.frames import PROGRESS

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from pydra.cluster.tasks.task import Task
    from pydra.cluster.worker.channel import Channel
    from pydra.cluster.worker.output import Log

LINES_AFTER_S = 0.05
"""How long a line may wait for others."""

PROGRESS_EVERY_S = 0.15
"""How often the task is asked for its progress."""

MESSAGE_LIMIT = 1024
"""Characters of a progress message."""


class Reporter:
    """
    Asks ``progress()`` and ``progressMessage()`` of a task and sends what changed.

    The first look comes after the first interval, so a short task costs no frame. An exception in either
    is told once in the log, and the task goes on.
    """

    def __init__(self, channel: Channel, log: Log) -> None:
        self._channel = channel
        self._log = log
        self._task: Task | None = None
        self._sent: tuple[int, str | None] = (0, None)
        self._complained = False
        self._ended = False

    def start(self, task: Task) -> None:
        """Begin to report; ``task`` is about to work."""
        self._task = task
        start_new_thread(self._report, ())

    def end(self) -> None:
        """Report nothing more."""
        self._ended = True

    def _report(self) -> None:
        asked = monotonic()
        while not self._ended:
            if self._log.wake.acquire(timeout=PROGRESS_EVERY_S):
                self._log.wake.acquire(timeout=LINES_AFTER_S)
                if not self._ended:
                    self._log.flush()
            if monotonic() - asked >= PROGRESS_EVERY_S and not self._ended:
                self._ask()
                asked = monotonic()

    def _ask(self) -> None:
        assert self._task is not None
        try:
            found = (_percent(self._task.progress()), _message(self._task.progressMessage()))
        except BaseException as fault:  # noqa: BLE001 - the author's code, which must not end its own run
            if not self._complained:
                self._complained = True
                self._log.add("WARNING", "log", f"The progress of the task cannot be told: {_words(fault)}")
            return
        if found != self._sent and not self._ended:
            self._sent = found
            self._channel.send([PROGRESS, *found])


def _percent(value: object) -> int:
    """0 to 100, or -1; `TypeError` for what is no number."""
    if not isinstance(value, int | float):
        raise TypeError(f"progress() returned a {type(value).__name__}, not a number")
    return max(-1, min(100, int(value)))


def _message(value: object) -> str | None:
    if value is None:
        return None
    return str(value)[:MESSAGE_LIMIT].encode("utf-8", "backslashreplace").decode()


def _words(fault: BaseException) -> str:
    try:
        return f"{type(fault).__name__}: {fault}"
    except BaseException:  # noqa: BLE001 - even its text is the author's code
        return type(fault).__name__
