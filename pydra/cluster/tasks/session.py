# SPDX-License-Identifier: MIT
"""The root of a session: it holds the place of an instance whose units come from a client."""

from __future__ import annotations

from _thread import allocate_lock

from pydra.cluster.tasks.task import Task

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from typing import Any


class Session(Task):
    """
    Workers that are held for a client, which feeds them with units of one task.

    It does nothing itself, and lasts until it is stopped: the master does that when the client closes the
    session, or has been gone for too long.
    """

    description = "Workers that are held for a client."

    def __init__(self, msg: str | None = None) -> None:
        super().__init__(msg)
        self._end = allocate_lock()
        self._end.acquire()
        self._task = ""

    def work(self, task: str = "", **_: Any) -> None:  # Any: what newer masters may say besides
        """Wait for the stop."""
        self._task = task
        if not self.STOP_FLAG:
            self._end.acquire()

    def stop(self) -> None:
        """End the waiting; asking again changes nothing."""
        super().stop()
        if self._end.locked():
            self._end.release()

    def progress(self) -> int:
        """Nobody knows how much the client is going to ask for."""
        return -1

    def progressMessage(self) -> str | None:  # noqa: N802 - the original's name
        """Whose units it is for."""
        return f"holds workers for units of {self._task}" if self._task else None
