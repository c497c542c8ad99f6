# SPDX-License-Identifier: MIT
"""
One attempt on this node, from the master's word to its outcome.

Fetch the package and the arguments, take a warm worker, send RUN, listen, and tell exactly one outcome. The
worker is killed as soon as there is one: it is used once, and what is still alive of it is not waited for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerExit, WorkerProcess, Workers
from pydra.cluster.node.limit_words import after
from pydra.cluster.node.outbox import Outcome
from pydra.cluster.node.task_log import TaskLog
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import COMPLETE, FAILED, LOST, STOPPED, RunUnit, UnitFinished
from pydra.errors import (
    InvalidParameters,
    LimitExceeded,
    LoadError,
    PydraError,
    WorkerDied,
    WorkersUnavailable,
)
from pydra.model.instance import INLINE_LIMIT, Failure, Payload

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between two asks for a worker while none can be started; then the attempt counts as lost."""

MESSAGE_LIMIT = 4 * 1024
TRACEBACK_LIMIT = 64 * 1024
TASK_CODES = frozenset({"failed", LoadError.code, LimitExceeded.code, InvalidParameters.code})
"""Failure codes that a worker may claim; any other is read as ``failed``."""


class UnitRun:
    """Runs one attempt; ``finished`` is called once with its outcome, ``progressed`` as it tells progress."""

    log_source = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        message: RunUnit,
        workers: Workers,
        fetch_package: Callable[[RunUnit], Awaitable[None]],
        fetch_arguments: Callable[[Payload], Awaitable[bytes]],
        log: TaskLog,
        progressed: Callable[[UnitRun, int, str | None], None],
        finished: Callable[[UnitRun, Outcome], None],
    ) -> None:
        self.message = message
        self.log = log
        self._clock = clock
        self._begun = clock.seconds()
        self._failure: Failure | None = None
        """What the task told, until its worker is gone: then it is known whether a limit was the reason."""
        self._workers = workers
        self._fetch_package = fetch_package
        self._fetch_arguments = fetch_arguments
        self._progressed = progressed
        self._finished = finished
        self._worker: WorkerProcess | None = None
        self._ended = False
        self._stopping = False
        self._parts: list[bytes] = []
        self._parts_size = 0

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when the worker was sent its unit, or has failed to be."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        message = self.message
        try:
            await self._fetch_package(message)
            arguments = await self._fetch_arguments(message.args)
            if self._ended:
                return
            worker = await self._take()
        except PydraError as fault:
            lost = not isinstance(fault, LoadError | LimitExceeded)
            self._end(LOST if lost else FAILED, failure=Failure(fault.code, str(fault)))
            return
        if self._ended:
            worker.kill()
            return
        self._worker = worker
        self._begun = self._clock.seconds()
        head, rest = arguments[: frames.PART_SIZE], arguments[frames.PART_SIZE :]
        while rest:
            worker.send([frames.MORE, head])
            head, rest = rest[: frames.PART_SIZE], rest[frames.PART_SIZE :]
        worker.send(
            [
                frames.RUN,
                str(message.attempt),
                message.instance,
                message.task_key,
                message.package,
                head,
                message.worker,
                [package for package, _ in message.needs.dependencies],
            ]
        )
        if self._stopping:
            worker.send([frames.STOP])

    async def _take(self) -> WorkerProcess:
        """A worker for the unit; it waits a while for one: what the machine is short of it may soon have."""
        message = self.message
        module = message.task_key.removeprefix(f"{message.package}.").rpartition(".")[0]
        pauses = iter(PAUSES_S)
        while True:
            try:
                return await self._workers.take(self, message.package, message.version, message.needs, module)
            except WorkersUnavailable as fault:
                pause_s = next(pauses, None)
                if pause_s is None or self._ended:
                    raise
                attempt, why = str(message.attempt), str(fault)
                self.log_source.warn("Attempt {attempt} waits for a worker: {why}", attempt=attempt, why=why)
                await deferLater(self._clock, pause_s)

    def stop(self) -> None:
        """Set the task's stop flag; before it has a worker, it ends at once."""
        self._stopping = True
        if self._worker is None:
            self._end(STOPPED)
        else:
            self._worker.send([frames.STOP])

    def kill(self, reason: str) -> None:
        """End it now."""
        self._end(LOST, failure=Failure(WorkerDied.code, reason))

    def frame_received(self, frame: list[object]) -> None:
        """What the worker says; anything that the protocol does not allow ends the attempt."""
        if self._ended or self._failure is not None:
            return
        match frame:
            case [frames.PROGRESS, int() as percent, None | str() as text] if -1 <= percent <= 100:
                # True is an int to Python, and none to the master.
                self._progressed(self, int(percent), text[:MESSAGE_LIMIT] if text else text)
            case [frames.LOG, rows]:
                self.log.lines(rows)
            case [frames.PART, bytes() as part] if self._parts_size + len(part) <= frames.ANSWER_LIMIT:
                self._parts.append(part)
                self._parts_size += len(part)
            case [frames.RESULT, bytes() as rest] if self._parts_size + len(rest) <= frames.ANSWER_LIMIT:
                self._complete(b"".join([*self._parts, rest]))
            case [frames.FAILED, str() as code, str() as text, str() as traceback]:
                code = code if code in TASK_CODES else "failed"
                failure = Failure(code, text[:MESSAGE_LIMIT], traceback[-TRACEBACK_LIMIT:])
                self._fail(failure)
            case [frames.STOPPED] if self._stopping:
                self._end(STOPPED)
            case _:
                self._end(FAILED, failure=Failure("wire", "The worker broke the protocol and was ended."))

    def output_received(self, data: bytes) -> None:
        """Raw output of its processes; some may come after the outcome."""
        self.log.output(data)

    def exited(self, ending: WorkerExit) -> None:
        """The worker is gone: without an outcome so far, a limit is why, or the attempt is lost."""
        told = self._failure
        is_told = told is not None and told.code == LimitExceeded.code
        if ending.limit and not self._ended and not is_told:
            words = after(ending.limit, self._clock.seconds() - self._begun)
            self.log.note(words)
            if told is not None:
                words = f"{words} ({told.message})"
            told = Failure(LimitExceeded.code, words[:MESSAGE_LIMIT], told.traceback if told else "")
        self.log.finish()
        if told is not None:
            self._end(FAILED, failure=told)
            return
        self._end(
            LOST, failure=Failure(WorkerDied.code, f"The worker ended before the task: {ending.reason}.")
        )

    def _fail(self, failure: Failure) -> None:
        """The task failed, by itself or because it reached a limit: its worker's end will tell."""
        if failure.code == LimitExceeded.code:
            words = after(failure.message, self._clock.seconds() - self._begun)
            self.log.note(words)
            failure = msgspec.structs.replace(failure, message=words)
        if self._worker is None:
            self._end(FAILED, failure=failure)
            return
        self._failure = failure
        self._worker.kill()

    def _complete(self, payload: bytes) -> None:
        if len(payload) <= INLINE_LIMIT:
            self._end(COMPLETE, result=Payload(len(payload), inline=payload))
            return
        digest = hashlib.sha256(payload).hexdigest()
        self._end(COMPLETE, result=Payload(len(payload), sha256=digest), blob=payload)

    def _end(
        self,
        outcome: str,
        *,
        result: Payload | None = None,
        failure: Failure | None = None,
        blob: bytes | None = None,
    ) -> None:
        if self._ended:
            return
        self._ended = True
        self._parts = []
        self.log.flush()
        if self._worker is not None:
            self._worker.kill()
        told = UnitFinished(self.message.attempt, outcome, result, failure, self.log.kept)
        if self._worker is None:
            # Nobody will say that it is gone.
            self.log.finish()
        self._finished(self, Outcome(told, blob))
