# SPDX-License-Identifier: MIT
"""
What a hired worker does: it runs the units of batches, one after another, until it is ended.

They have the main thread, and each a task of its own, made anew. A thread beside it sends the results of a
long batch while it goes on.
"""

from __future__ import annotations

import sys
from _queue import SimpleQueue
from _thread import allocate_lock, start_new_thread

from pydra.cluster.tasks.call import arguments_of, packed_result, stopped_itself
from pydra.cluster.tasks.failure import RunFailure, failure_of
from pydra.cluster.worker.loader import CodeFault, make_task
from pydra.cluster.worker.reading import Reading
from pydra.cluster.worker.results import Results

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from pydra.cluster.tasks.task import Task
    from pydra.cluster.worker.asking import AskedUnits
    from pydra.cluster.worker.branches import Branches
    from pydra.cluster.worker.channel import Channel
    from pydra.cluster.worker.output import Log, Output
    from pydra.cluster.worker.surroundings import Place

FLUSH_S = 0.01
"""How long a result, or a line, may wait for others."""


class Serving:
    """Takes UNITS frames, which ``take`` of the channel brings, and answers with DONE."""

    def __init__(
        self,
        channel: Channel,
        log: Log,
        output: Output,
        place: Place,
        units: AskedUnits,
        capture: Callable[[], None],
        take: Callable[[], None],
    ) -> None:
        self._log = log
        self._output = output
        self._place = place
        self._units = units
        self._capture = capture
        self._results = Results(channel, log)
        self._batches: SimpleQueue[list[object] | None] = SimpleQueue()
        self._is_waiting = self._is_over = False
        self._reading = Reading(take, lambda: self._is_waiting and not self._batches.empty())
        units.waits = self._reading.hurry

    def start(self) -> None:
        """The channel is read from now on."""
        self._reading.start()

    def serve(self, branches: Branches) -> None:
        """Run what comes, until ``end``."""
        start_new_thread(self._flush_in_time, ())
        while not self._is_over and (frame := self._next()) is not None:
            self._reading.leave()
            self._run(branches, frame)

    def flush(self) -> None:
        """Send the results that wait."""
        self._results.flush()

    def received(self, frame: list[object]) -> None:
        """A UNITS frame has come."""
        self._batches.put(frame)

    def end(self) -> None:
        """Begin no further unit; the result of the running one is not wanted."""
        self._is_over = True
        self._batches.put(None)

    def _next(self) -> list[object] | None:
        """The next batch; None at the end."""
        self._reading.read_while(self._batches.empty)
        self._is_waiting = True
        frame = self._batches.get()
        self._is_waiting = False
        return frame

    def _run(self, branches: Branches, frame: list[object]) -> None:
        _, batch, branch, indexes, args = frame
        assert isinstance(indexes, list)
        assert isinstance(args, list)
        place, units, add = self._place, self._units, self._results.add
        printed, complained = self._output.held
        place.branch, place.index = str(branch), indexes[0]
        found = branches.find(str(branch))
        if "logging" in sys.modules:
            self._capture()
        self._results.begin(str(batch), len(indexes))
        if isinstance(found, RunFailure):
            for _ in indexes:
                add(b"", found)
            return
        place.key, task = found
        make, name = task._remade, task.get_key()
        for index, arguments in zip(indexes, args, strict=True):
            place.index = index
            outcome = self._outcome(make, name, arguments)
            if printed or complained:
                self._output.end()
            if self._is_over:
                return
            if units.branches:
                units.end()
            if type(outcome) is bytes:
                add(outcome)
            else:
                add(b"", outcome)  # type: ignore[arg-type]  # mypy does not narrow by this

    def _outcome(self, make: Callable[[], Task], name: str, args: bytes) -> bytes | RunFailure:
        arguments = arguments_of(args)
        if isinstance(arguments, RunFailure):
            return arguments
        try:
            fresh = self._place.task = make_task(make, name)
        except CodeFault as fault:
            return RunFailure(fault.code, str(fault), fault.traceback)
        if self._is_over:
            return b""
        try:
            result = fresh.start(arguments)
        except BaseException as fault:  # noqa: BLE001 - a task may raise anything, SystemExit included
            return failure_of(fault)
        return stopped_itself(fresh) or packed_result(result)

    def _flush_in_time(self) -> None:
        """A thread of its own."""
        pause = allocate_lock()
        pause.acquire()
        while True:
            self._log.wake.acquire()
            pause.acquire(timeout=FLUSH_S)
            self._results.flush()
            self._log.flush()
