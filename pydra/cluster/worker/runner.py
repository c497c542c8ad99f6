# SPDX-License-Identifier: MIT
"""
One run of one task, and its one answer; or the service of a hired worker.

The task has the main thread. A thread reads the channel (that of a hired worker while a unit runs, see
``reading``), for the stop flag, for units and their results, and for its end, which ends the worker at once;
the reporter is another. Whatever the task of a RUN does, the
answer is one of RESULT, FAILED and STOPPED, after all its lines; only a process that dies gives none.
"""

from __future__ import annotations

import os
import sys
from _signal import (  # type: ignore[import-not-found]  # typeshed has it not; signal itself loads enum
    NSIG,
    SIG_IGN,
    getsignal,
    signal,
)
from _thread import start_new_thread

from pydra.cluster.tasks.call import arguments_of, result_pieces
from pydra.cluster.tasks.failure import RunFailure, failure_of
from pydra.cluster.wire.frames import (
    ANSWER_LIMIT,
    FAILED,
    LONG,
    MORE,
    PART,
    PART_SIZE,
    PRIMED,
    READY,
    RESULT,
    RESULTS,
    STOP,
    STOPPED,
    UNITS,
)
from pydra.cluster.wire.payload import SIZE_LIMIT
from pydra.cluster.worker.asking import AskedUnits
from pydra.cluster.worker.branches import Branches
from pydra.cluster.worker.loader import CodeFault, load_class, load_module, make_task, open_package
from pydra.cluster.worker.output import Log, LoggingCapture, Output
from pydra.cluster.worker.reporter import Reporter
from pydra.cluster.worker.serving import Serving
from pydra.cluster.worker.surroundings import Place, Surroundings
from pydra.errors import TaskCancelled

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pydra.cluster.tasks.task import Task
    from pydra.cluster.worker.channel import Channel


class Runner:
    """Carries out one RUN or SERVE frame and ends the process."""

    def __init__(self, channel: Channel, packages: str, clock: Callable[[], float]) -> None:
        self._channel = channel
        self._packages = packages
        self._place = Place()
        self._log = Log(channel, clock, self._place)
        self._output = Output(self._log)
        self._logging = LoggingCapture(self._log)
        self._reporter = Reporter(channel, self._log)
        self._units = AskedUnits(channel, self._place)
        self._serving: Serving | None = None
        self._stopping = False
        self._more = b""
        """What came of payloads whose frame is still to come."""
        self._process = os.getpid()
        self._is_open = False

    def prime(self, frame: list[object]) -> None:
        """
        Carry out a PRIME: import a module, keep the lines that come of it for the run, and tell.

        Whoever asked ends a worker that tells a fault: the run, in another one, fails by itself if it must.
        """
        _, package, module, dependencies = frame
        self._log.hold()
        self._open(str(package), dependencies)
        try:
            load_module(str(package), str(module))
            fault = "It writes too much while it is imported." if self._log.is_overflowing else ""
        except CodeFault as failed:
            fault = str(failed)
        if os.getpid() != self._process:
            os._exit(0)  # a fork that the module made came back; the worker itself will answer
        self._channel.send([PRIMED, fault, _memory()])

    def run(self, frame: list[object], more: bytearray) -> NoReturn:
        """Carry out a RUN whose arguments began with ``more``, which is emptied; the process ends then."""
        _, attempt, instance, task_key, package, args, *rest = frame
        worker_key = str(rest[0]) if rest else ""
        dependencies = rest[1] if len(rest) > 1 else ()
        surroundings = self._surroundings(worker_key, instance, attempt)
        more += args  # type: ignore[arg-type]  # from the daemon
        start_new_thread(self._listen, ())
        try:
            self._open(str(package), dependencies)
            self._log.release()
            answer = self._work(surroundings, str(task_key), str(package), more)
        except BaseException as fault:  # noqa: BLE001 - whatever comes through, there is one answer
            answer = failure_of(fault)
        self._answer(answer)

    def serve(self, frame: list[object]) -> NoReturn:
        """Carry out a SERVE; the process ends when it is told to stop, or if the task cannot be loaded."""
        _, worker, instance, task_key, package, worker_key, dependencies = frame
        surroundings = self._surroundings(worker_key, instance, worker)
        self._serving = Serving(
            self._channel,
            self._log,
            self._output,
            self._place,
            self._units,
            self._logging.capture,
            self._take,
        )
        self._serving.start()
        try:
            self._open(str(package), dependencies)
            self._log.release()
            branches = Branches(str(package), str(task_key), surroundings)
            self._channel.send([READY])
            self._serving.serve(branches)
            answer = None
        except CodeFault as fault:
            answer = RunFailure(fault.code, str(fault), fault.traceback)
        except BaseException as fault:  # noqa: BLE001 - such as one that a signal handler of a task raised late
            answer = failure_of(fault)
        self._answer(answer)

    def _surroundings(self, worker_key: object, instance: object, attempt: object) -> Surroundings:
        self._place.instance = int(str(instance))
        return Surroundings(
            str(worker_key), int(str(instance)), str(attempt), self._logging.capture, self._units
        )

    def _open(self, package: str, dependencies: object) -> None:
        """Make ready for user code, once."""
        if self._is_open:
            return
        self._is_open = True
        os.register_at_fork(after_in_child=self._forked)
        self._output.install()
        open_package(self._packages, package, dependencies)  # type: ignore[arg-type]  # from the daemon

    def _work(
        self, surroundings: Surroundings, task_key: str, package: str, args: bytearray
    ) -> list[bytes] | RunFailure | None:
        """The pieces of the packed result, a failure, or None for a task that was stopped."""
        arguments = arguments_of(args)
        args.clear()
        if isinstance(arguments, RunFailure):
            return arguments
        try:
            task = make_task(load_class(package, task_key), task_key)
        except CodeFault as fault:
            return RunFailure(fault.code, str(fault), fault.traceback)
        task._worker = surroundings
        self._place.task = task
        if "logging" in sys.modules:
            self._logging.capture()
        if self._stopping:
            return None
        self._reporter.start(task)
        try:
            result = task.start(arguments)
        except BaseException as fault:  # noqa: BLE001 - a task may raise anything, SystemExit included
            if not isinstance(fault, TaskCancelled):
                return failure_of(fault)
            task.STOP_FLAG = True  # who raises it stops, as without a cluster
            result = None
        return None if self._is_stopped(task) else result_pieces(result, SIZE_LIMIT)

    def _is_stopped(self, task: Task) -> bool:
        """Its stop flag was set, by the daemon or by its own code, which then is told."""
        if self._stopping or not task.STOP_FLAG:
            return self._stopping
        self._log.add("INFO", "log", "The task stopped itself, and so it is cancelled.")
        return True

    def _listen(self) -> None:
        try:
            while True:
                self._take()
        finally:
            os._exit(1)

    def _take(self) -> None:
        """Wait for what comes next, and carry it out; without a channel there is no worker."""
        if (frame := self._channel.receive()) is None:
            os._exit(1)
        kind, more = frame[0], self._more
        if kind == RESULTS:
            self._units.received(_completed(frame, 3, more))
        elif kind == UNITS and self._serving is not None:
            self._serving.received(_completed(frame, 4, more))
        elif kind == STOP:
            self._stop()
        self._more = more + frame[1] if kind == MORE else b""  # type: ignore[operator]  # the daemon's own
        if len(self._more) > ANSWER_LIMIT:
            os._exit(1)

    def _stop(self) -> None:
        self._stopping = True
        if self._serving is not None:
            self._serving.end()
        self._units.stop()
        task = self._place.task
        if task is None:
            return
        try:
            task.STOP_FLAG = True
            task.stop()
        except BaseException as fault:  # noqa: BLE001 - an author's own stop() may fail in any way
            self._log.add(
                "WARNING", "log", f"The task could not be told to stop: {failure_of(fault).message}"
            )

    def _answer(self, answer: list[bytes] | RunFailure | None) -> NoReturn:
        if os.getpid() != self._process:
            os._exit(0)  # a fork of the task came back from work(); the worker itself will answer
        _ignore_signals()
        self._reporter.end()
        if self._serving is not None:
            self._serving.flush()
        self._output.end()
        self._log.close()
        if answer is None:
            self._channel.send([STOPPED])
        elif isinstance(answer, RunFailure):
            self._channel.send([FAILED, answer.code, answer.message, answer.traceback])
        else:
            if (size := sum(map(len, answer))) > ANSWER_LIMIT:
                self._channel.send([LONG, size])
            send_answer(self._channel, [RESULT], *answer)
        os._exit(0)

    def _forked(self) -> None:
        """In a process that the task forked: it is not the worker."""
        self._channel.close()
        if self._serving is not None:
            self._serving.end()
        self._log.forked()
        self._output.forked()


def send_answer(channel: Channel, frame: list[object], *pieces: bytes) -> None:
    """Send ``frame`` with the payload in these pieces as its last item, in parts if it is long."""
    *whole, last = pieces
    for piece in whole:
        for part in _parts(piece):
            channel.send([PART, part])
    *parts, rest = _parts(last)
    for part in parts:
        channel.send([PART, part])
    channel.send([*frame, rest])


def _parts(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    return [view[start : start + PART_SIZE] for start in range(0, len(data), PART_SIZE)] or [view]


def _ignore_signals() -> None:
    """Signal handlers of the task run no more: one that comes late must not raise in the answer."""
    for number in range(1, NSIG):
        if callable(getsignal(number)):
            signal(number, SIG_IGN)


def _completed(frame: list[object], item: int, more: bytes) -> list[object]:
    """A frame of units whose first payload, in the list at ``item``, began with ``more``."""
    if more:
        frame[item][0] = more + frame[item][0]  # type: ignore[index]  # from the daemon
    return frame


def _memory() -> int:
    """Bytes of this process that it shares with no file."""
    with open("/proc/self/statm") as opened:
        _, resident, shared, *_ = map(int, opened.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")
