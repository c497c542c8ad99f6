# SPDX-License-Identifier: MIT
"""
One attempt on this node, from the master's word to its outcome.

Fetch the package, take a warm worker, send it the arguments as they come and, when they are known to be good,
RUN, listen, and tell exactly one outcome. What it asks for meanwhile, its asker gets. The worker is killed as
soon as there is one: it is used once, and what is still alive of it is not waited for.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerExit, WorkerProcess
from pydra.cluster.node.arguments import send_arguments
from pydra.cluster.node.limit_words import after, is_reached
from pydra.cluster.node.outbox import Outcome
from pydra.cluster.node.room import Claim
from pydra.cluster.node.spool import Spool, SpooledAnswer
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.node.told import Parts, limit_failure, told_failure
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import COMPLETE, FAILED, LOST, STOPPED, RunUnit, UnitFinished
from pydra.errors import LimitExceeded, LoadError, PydraError, WireError, WorkerDied
from pydra.model.instance import INLINE_LIMIT, MESSAGE_LIMIT, Failure, Payload
from pydra.model.options import Guarantee


class UnitRun:
    """Runs one attempt; ``finished`` is called once with its outcome, ``progressed`` as it tells progress."""

    log_source = Logger()

    def __init__(
        self,
        around: Surroundings,
        message: RunUnit,
        progressed: Callable[[UnitRun, int, str | None], None],
        finished: Callable[[UnitRun, Outcome], None],
    ) -> None:
        self.message = message
        self.log = around.open_log(message.attempt, message.instance, message.seal)
        self._around = around
        self._asker = around.askers.open(message.attempt, self._send, self._backlog, _may_ask)
        self._begun = around.clock.seconds()
        self._ran_s = 0.0
        self._goes_since: float | None = self._begun
        """None while its instance is paused."""
        self._failure: Failure | None = None
        """What the task told, until its worker is gone: then it is known whether a limit was the reason."""
        self._progressed = progressed
        self._finished = finished
        self._worker: WorkerProcess | None = None
        self._ended = False
        self._stopping = False
        self._parts = Parts()
        self._is_sent = False
        """The worker has its unit, with all its arguments."""
        self._claim: Claim | None = None
        """Room for a result that is too long for memory, once it is announced."""
        self._long: SpooledAnswer | None = None
        self._is_whole = False
        """All of the result came, and it is being written."""
        self._is_gone = False
        self._held_back: Outcome | None = None
        """Of an exclusive attempt: nobody is told before its worker is gone."""

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when the worker was sent its unit, or has failed to be."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        message = self.message
        try:
            await self._around.packages.fetch(message)
            arguments = await self._around.arguments.open(message.args)
            if self._ended:
                return
            worker = await self._around.take_worker(self, message, lambda: self._ended)
        except PydraError as fault:
            self._not_begun(fault)
            return
        if self._ended:
            worker.kill()
            return
        self._worker = worker
        self._around.leases.bind(message.attempt, worker.live_until)
        self._begun = self._around.clock.seconds()
        try:
            rest = await send_arguments(self._around.clock, worker, arguments, lambda: self._ended)
        except OSError as fault:
            self.kill(f"The arguments could not be read: {fault}")
        except PydraError as fault:
            self._not_begun(fault)
        if self._ended:
            return
        self._is_sent = True
        worker.send(
            [
                frames.RUN,
                str(message.attempt),
                message.instance,
                message.task_key,
                message.package,
                rest,
                message.worker,
                [package for package, _ in message.needs.dependencies],
            ]
        )
        if self._stopping:
            worker.send([frames.STOP])

    def _not_begun(self, fault: PydraError) -> None:
        """Something of what it needs cannot be had."""
        lost = not isinstance(fault, LoadError | LimitExceeded)
        self._end(LOST if lost else FAILED, failure=Failure(fault.code, str(fault)))

    def _send(self, frame: list[object]) -> None:
        if self._worker is not None:
            self._worker.send(frame)

    def _backlog(self) -> int:
        return self._worker.backlog() if self._worker is not None else 0

    def ran_s(self) -> float:
        """Seconds since it came here in which its instance was not paused."""
        now = self._around.clock.seconds()
        return self._ran_s + (0.0 if self._goes_since is None else now - self._goes_since)

    def hold(self, *, paused: bool) -> None:
        """Its instance is paused, or goes on; the worker does not know."""
        if paused != (self._goes_since is None):
            self._ran_s = self.ran_s()
            self._goes_since = None if paused else self._around.clock.seconds()

    def stop(self) -> None:
        """Set the task's stop flag; if it has not begun, or its result is on its way, it ends at once."""
        self._stopping = True
        if self._worker is None or not self._is_sent or self._parts or self._claim is not None:
            self._end(STOPPED)
        else:
            self._worker.send([frames.STOP])

    def kill(self, reason: str) -> None:
        """End it now."""
        self._end(LOST, failure=Failure(WorkerDied.code, reason))

    def frame_received(self, frame: list[object]) -> None:
        """What the worker says; anything that the protocol does not allow ends the attempt."""
        if self._ended or self._failure is not None or self._is_whole:
            return
        try:
            self._take(frame)
        except WireError as fault:
            self._end(FAILED, failure=Failure(fault.code, str(fault)))

    def _take(self, frame: list[object]) -> None:
        match frame:
            case [frames.ASK, *_]:
                if self._long is not None:
                    raise WireError("The worker asked for a unit with too long arguments.")
                self._asker.asked(frame, self._parts.take() if self._parts else b"")
            case [frames.FORGET, *_]:
                self._asker.forgot(frame)
            case [frames.PROGRESS, int() as percent, None | str() as text] if -1 <= percent <= 100:
                # True is an int to Python, and none to the master.
                self._progressed(self, int(percent), text[:MESSAGE_LIMIT] if text else text)
            case [frames.LOG, rows]:
                self.log.lines(rows)
            case [frames.LONG, int() as size]:
                self._announced(size)
            case [frames.PART, bytes() as part]:
                self._take_part(part)
            case [frames.RESULT, bytes() as rest]:
                self._complete(rest)
            case [frames.FAILED, str() as code, str() as text, str() as traceback]:
                self._fail(told_failure(code, text, traceback))
            case [frames.STOPPED]:
                self._end(STOPPED)
            case _:
                raise WireError("The worker broke the protocol and was ended.")

    def output_received(self, data: bytes) -> None:
        """Raw output of its processes; some may come after the outcome."""
        self.log.output(data)

    def exited(self, ending: WorkerExit) -> None:
        """The worker is gone: without an outcome so far, a limit is why, or the attempt is lost."""
        if ending.is_overdue:
            self._around.leases.lapse(self.message.attempt)
        told = self._failure
        is_told = told is not None and told.code == LimitExceeded.code
        if ending.limit and not self._ended and not self._is_whole and not is_told:
            seconds = self._around.clock.seconds() - self._begun
            self.log.note(after(ending.limit, seconds))
            told = limit_failure(ending, seconds, told)
        self.log.finish()
        self._is_gone = True
        if self._held_back is not None:
            self._finished(self, self._held_back)
            return
        if told is not None:
            self._end(FAILED, failure=told)
            return
        if self._is_whole:
            return  # the outcome comes when it is written
        words = f"The worker ended before the task: {ending.reason}."
        if ending.has_sent_garbage:
            self._end(FAILED, failure=Failure(WireError.code, words))
        else:
            self._end(LOST, failure=Failure(WorkerDied.code, words))

    def _fail(self, failure: Failure) -> None:
        """The task failed, by itself or because it reached a limit: its worker's end will tell."""
        if failure.code == LimitExceeded.code and is_reached(failure.message):
            words = after(failure.message, self._around.clock.seconds() - self._begun)
            self.log.note(words)
            failure = msgspec.structs.replace(failure, message=words)
        if self._worker is None:
            self._end(FAILED, failure=failure)
            return
        self._failure = failure
        self._worker.kill()

    def _announced(self, size: int) -> None:
        """The result is too long for memory: let it come when there is room for it."""
        assert self._worker is not None
        if self._claim is not None or self._parts or size <= frames.ANSWER_LIMIT:
            raise WireError("The worker announced a result that it may not announce.")
        if self._stopping:
            self._end(STOPPED)
        elif size > (limit := self._around.result_limit):
            words = f"The result is above {limit // 2**20} MiB packed (RESULT_LIMIT_MB); return less."
            self._fail(Failure(LimitExceeded.code, words))
        else:
            self._claim = self._around.room.claim(size, self._has_room, self._too_slow)
            if not self._claim.is_granted:
                self._worker.pause_output(True)
                self.log.note(
                    "The result waits for room in the outbox of the node (OUTBOX_LIMIT_MB).", "INFO"
                )

    def _has_room(self) -> None:
        if self._worker is not None and self._claim is not None:
            self._worker.pause_output(False)

    def _too_slow(self) -> None:
        words = "The worker announced a result, but did not send it while others waited to send theirs."
        self._end(FAILED, failure=Failure(WireError.code, words))

    def _pause(self, paused: bool) -> None:
        """The disk is behind, or has caught up."""
        assert self._worker is not None
        assert self._claim is not None
        self._claim.is_held_up = paused or self._is_whole
        self._worker.pause_output(paused)

    def _take_part(self, part: bytes) -> None:
        long = self._long
        if long is None:
            if self._parts.has_room(part):
                self._parts.add(part)
                return
            assert self._worker is not None
            spool = self._around.outbox.spool()
            long = self._long = SpooledAnswer(spool, self._pause, self._not_kept)
            self._add(long, self._parts.take())
        self._add(long, part)

    def _add(self, long: SpooledAnswer, part: bytes) -> None:
        if self._claim is None:
            raise WireError("The worker sent a result that it had not announced.")
        self._claim.take(len(part))
        long.add(part)

    def _complete(self, rest: bytes) -> None:
        if self._claim is None and self._parts.has_room(rest):
            self._complete_in_memory(self._parts.take(rest))
            return
        self._take_part(rest)
        if self._claim is None or self._long is None or self._claim.left:
            raise WireError("The worker sent a shorter result than it had announced.")
        self._is_whole = self._claim.is_held_up = True
        self._long.finish(self._spooled)

    def _spooled(self, spool: Spool) -> None:
        self._end(COMPLETE, result=Payload(spool.size, sha256=spool.digest), blob=spool)

    def _not_kept(self, fault: BaseException) -> None:
        self.kill(f"The result could not be kept on the node: {fault}")

    def _complete_in_memory(self, payload: bytes) -> None:
        if len(payload) <= INLINE_LIMIT:
            self._end(COMPLETE, result=Payload(len(payload), inline=payload))
            return
        self._end(COMPLETE, result=Payload(len(payload), sha256=self._parts.digest), blob=payload)

    def _end(
        self,
        outcome: str,
        *,
        result: Payload | None = None,
        failure: Failure | None = None,
        blob: bytes | Spool | None = None,
    ) -> None:
        if self._ended:
            return
        self._ended = True
        self._parts.clear()
        if self._long is not None:
            self._long.abandon()
            self._long = None
        self._around.askers.close(self.message.attempt)
        self.log.flush()
        if self._worker is not None:
            self._worker.kill()
        told = UnitFinished(self.message.attempt, outcome, result, failure, self.log.kept)
        if self._worker is None:
            # Nobody will say that it is gone.
            self.log.finish()
        is_watched = self._worker is not None and not self._is_gone
        if is_watched and self.message.guarantee & Guarantee.EXCLUSIVE and outcome != COMPLETE:
            self._held_back = Outcome(told)
        else:
            self._finished(self, Outcome(told, blob))
        if self._claim is not None:
            self._claim.end()  # only now: the outbox has what came


def _may_ask(branch: str) -> bool:
    """True of a branch of the root itself: that of a unit begins with its path."""
    return "/" not in branch
