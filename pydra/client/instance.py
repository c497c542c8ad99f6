# SPDX-License-Identifier: MIT
"""One run of a task, as a program sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pydra.client.patience import Patience
from pydra.cluster.controller import ControllerException
from pydra.cluster.controller.web.controller import WebController
from pydra.errors import TaskCancelled, TaskFailed
from pydra.model.status import Status

_WAIT_S = 25.0
"""The longest that the master lets one call wait."""


_UNITS = 500
"""Work units that one call lists."""


class Line(NamedTuple):
    """A line that a task wrote; ``time`` is UTC seconds, ``stream`` is stdout, stderr or log."""

    time: float
    level: str
    stream: str
    text: str


class TaskInstance:
    """
    A task instance, by its id. All methods ask the master, and raise `ControllerException`.

    Those that wait go on waiting while the master is away, for up to a minute: it may be started again.

    The mapping that `state` and `wait` return has ``id, status, state, percent, message, result, error,
    traceback, size, download``: a ``result`` that JSON does not hold, or that is large, has a ``download``.
    """

    def __init__(
        self,
        controller: WebController,
        instance_id: int,
        task_key: str | None = None,
        patience: Callable[[], Patience] = Patience,
    ) -> None:
        self._controller = controller
        self._patience = patience
        self.id = instance_id
        self.task_key = task_key
        """None if the instance was found by its id."""

    def state(self) -> dict[str, Any]:
        """How the instance stands now."""
        found: dict[str, Any] = self._controller.task_result(self.id)
        return found

    def wait(
        self,
        progress: Callable[[dict[str, Any]], object] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """
        How the instance ended; ``progress`` is called with the state at each change, the last included.

        `TimeoutError` if it has not ended in time; it goes on all the same.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        seen = -1  # of no state, so the first answer comes at once
        patience = self._patience()
        while True:
            left_s = _WAIT_S if end is None else max(0.0, min(_WAIT_S, end - time.monotonic()))
            news = {} if progress is None else {"seen": seen}
            try:
                state: dict[str, Any] = self._controller.wait_task(self.id, timeout=left_s, **news)
            except ControllerException as fault:
                patience.bear(fault)
            else:
                patience.reached()
                if progress is not None and state["seen"] != seen:
                    progress(state)
                seen = state["seen"]
                if Status(state["status"]).is_final:
                    return state
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"Instance {self.id} has not ended within {timeout_s} seconds.")

    def result(self, timeout_s: float | None = None) -> Any:  # whatever the task returned
        """
        What the task returned, when it has: bytes, dates and so on as such, of any size; a tuple as a list.

        `TaskFailed` (with the task's traceback as a note, and the code of the failure as ``code``),
        `TaskCancelled`, or `TimeoutError`.
        """
        state = self.wait(timeout_s=timeout_s)
        status = Status(state["status"])
        if status is Status.COMPLETE:
            # JSON does not hold everything, nor what is large.
            return self._controller.fetch_result(self.id) if state.get("download") else state["result"]
        if status is Status.CANCELLED:
            raise TaskCancelled(f"Instance {self.id} was cancelled.")
        failure = TaskFailed(f"Instance {self.id} failed: {state['error']}")
        failure.code = state.get("error_code") or TaskFailed.code
        if state["traceback"]:
            failure.add_note(state["traceback"])
        raise failure

    def cancel(self) -> bool:
        """Ask for the end of the instance; false if it has ended already or is not known."""
        return bool(self._controller.cancel_task(self.id))

    def pause(self) -> None:
        """Let nothing new of the instance begin; refused for what runs and has its work not done in units."""
        self._controller.pause_task(self.id)

    def resume(self) -> None:
        """Let a paused instance go on."""
        self._controller.resume_task(self.id)

    def explain(self) -> dict[str, Any]:
        """Why the instance waits: ``text`` in words, ``dependencies``, and ``nodes`` with a reason each."""
        found: dict[str, Any] = self._controller.explain(self.id)
        return found

    def lines(self, *, follow: bool = True, unit: tuple[str, int] | None = None) -> Iterator[Line]:
        """
        What the task writes, line by line, until it has ended; without ``follow``, what is there now.

        ``unit`` is the branch and the index of a work unit: then only what it writes.
        """
        chosen = {} if unit is None else {"subtask": unit[0], "workunit_id": unit[1]}
        after = 0
        patience = self._patience()
        while True:
            wait = _WAIT_S if follow else 0
            try:
                found = self._controller.task_lines(self.id, after=after, wait=wait, **chosen)
            except ControllerException as fault:
                patience.bear(fault)
                continue
            patience.reached()
            for line in found["lines"]:
                yield Line(*line)
            is_further = found["next"] != after
            after = found["next"]
            if (found["final"] or not follow) and not is_further:
                return

    def units(self, *, branch: str | None = None, failed: bool = False) -> Iterator[dict[str, Any]]:
        """
        The work units that are recorded, by branch and index; only of a branch, or those that failed.

        Each has ``path, subtask_key, workunit_key, state, completed, node, result, size, error, traceback``;
        ``result`` is None if its ``size`` is above 4 KiB.
        """
        after = None
        while True:
            state = "failed" if failed else None
            found = self._controller.task_units(self.id, branch, after=after, limit=_UNITS, state=state)
            yield from found["workunits"]
            after = found["next"]
            if after is None:
                return

    def __repr__(self) -> str:
        return f"<TaskInstance {self.id}>"
