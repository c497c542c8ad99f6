# SPDX-License-Identifier: MIT
"""
One hired worker, from the master's word to its end: batches of units go in, their results come out in order.

It loads its task and is then sent units, never more than it can take. Its results are checked, as it is not
trusted: it can tell only of the units that it was sent, each once and in their order.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerExit, WorkerProcess
from pydra.cluster.node.groups import groups
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.node.told import Parts, limit_failure, told_failure
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import HireWorker, RunUnits, UnitsDone
from pydra.errors import LimitExceeded, PydraError, WireError, WorkerDied
from pydra.model.ids import Attempt
from pydra.model.instance import INLINE_LIMIT, Failure, Payload
from pydra.model.unit import BRANCH_LIMIT, INDEX_LIMIT

SENT_LIMIT = 8 * 1024 * 1024
"""Bytes of arguments that a worker is sent before it has told results; one unit may have more."""

RESULT_SIZE, FAILURE_SIZE = 8, 128
"""Bytes of a result, and of a failure, besides what the worker told, at most."""

LONGEST_BUSY_S = 1e9


@attrs.define(eq=False)
class _Piece:
    """Units of a batch that are sent in one frame; ``name`` is what the worker knows them by."""

    name: str
    batch: Attempt
    branch: str
    start: int
    """Position of the first in the batch."""
    indexes: list[int]
    args: list[bytes]
    size: int
    time_limit: float
    payload: Payload | None = None
    """The arguments of its one unit, which are still to be fetched."""
    done: int = 0


class HiredWorker:
    """Runs units until it is released; ``lost`` is called once if it ends before that."""

    log_source = Logger()

    def __init__(
        self, around: Surroundings, message: HireWorker, lost: Callable[[HiredWorker, Failure], None]
    ) -> None:
        self.message = message
        self._around = around
        self._lost = lost
        self._log = around.open_log(message.worker, message.instance, message.seal)
        self._asker = around.askers.open(message.worker, self._send, self._backlog, self._may_ask)
        self._begun = around.clock.seconds()
        self._worker: WorkerProcess | None = None
        self._is_loaded = False
        self._ended = False
        self._failure: Failure | None = None
        """What it told of its end, until it is gone: then it is known whether a limit was the reason."""
        self._parts = Parts()
        self._waiting: deque[_Piece] = deque()
        self._sent: deque[_Piece] = deque()
        self._sent_bytes = 0
        self._is_fetching = False
        self._deadline: IDelayedCall | None = None
        self.is_exclusive = False
        """It was given something exclusive: nobody is told of its end before it is gone."""
        self._is_gone = False
        self._held_back: Failure | None = None

    @property
    def is_ending(self) -> bool:
        """It was ended, and is not gone."""
        return self._held_back is not None

    def start(self) -> Deferred[None]:
        """Begin; the Deferred fires when the worker is to load its task, or has failed to be taken."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        message = self.message
        try:
            await self._around.packages.fetch(message)
            if self._ended:
                return
            worker = await self._around.take_worker(self, message, lambda: self._ended)
        except PydraError as fault:
            self._end(Failure(fault.code, str(fault)))
            return
        if self._ended:
            worker.kill()
            return
        self._worker = worker
        self.bind()
        self._begun = self._around.clock.seconds()
        worker.send(
            [
                frames.SERVE,
                str(message.worker),
                message.instance,
                message.task_key,
                message.package,
                message.key,
                [package for package, _ in message.needs.dependencies],
            ]
        )
        self.go_on()

    def bind(self) -> None:
        """What is exclusive in it, if anything is, has its limit kept by who can end it."""
        if self._worker is not None:
            self._around.leases.bind(self.message.worker, self._worker.live_until)

    def run(self, message: RunUnits) -> None:
        """Run a batch, after those before."""
        name = str(message.batch)
        if not message.blobs:
            size = sum(map(len, message.args))
            self._add(message, name, 0, len(message.indexes), size, None)
        else:
            start = 0
            for place, payload in sorted(message.blobs.items()):
                if start < place:
                    size = sum(map(len, message.args[start:place]))
                    self._add(message, f"{name}+{start}", start, place, size, None)
                self._add(message, f"{name}+{place}", place, place + 1, payload.size, payload)
                start = place + 1
            if start < len(message.indexes):
                size = sum(map(len, message.args[start:]))
                self._add(message, f"{name}+{start}", start, len(message.indexes), size, None)
        self.go_on()

    def _add(
        self, message: RunUnits, name: str, start: int, end: int, size: int, payload: Payload | None
    ) -> None:
        indexes, args = message.indexes[start:end], message.args[start:end]
        about = (name, message.batch, message.branch, start, indexes, args, size, message.time_limit, payload)
        self._waiting.append(_Piece(*about))

    def go_on(self) -> None:
        """Send what it may be sent now: something has changed."""
        while self._waiting and self._worker is not None and not self._ended and not self._is_fetching:
            piece = self._waiting[0]
            if self._around.outbox.refusal() or (self._sent and self._sent_bytes + piece.size > SENT_LIMIT):
                return
            if piece.payload is not None:
                self._is_fetching = True
                fetched = Deferred.fromCoroutine(self._fetch(piece, piece.payload))
                fetched.addErrback(self._fault)
                continue
            self._waiting.popleft()
            self._send_piece(piece)

    async def _fetch(self, piece: _Piece, payload: Payload) -> None:
        try:
            piece.args = [await self._around.arguments.fetch(payload)]
        except PydraError as fault:
            self._end(Failure(fault.code, str(fault)))
            return
        finally:
            self._is_fetching = False
        piece.payload = None
        self.go_on()

    def _send_piece(self, piece: _Piece) -> None:
        self._sent.append(piece)
        self._sent_bytes += piece.size
        args, piece.args = piece.args, []
        if len(args) == 1:
            parts, rest = frames.in_parts(frames.MORE, args[0])
            for part in parts:
                self._send(part)
            args = [rest]
        self._send([frames.UNITS, piece.name, piece.branch, piece.indexes, args])
        if len(self._sent) == 1:
            self._begin_unit()

    def _send(self, frame: list[object]) -> None:
        if self._worker is not None:
            self._worker.send(frame)

    def _backlog(self) -> int:
        return self._worker.backlog() if self._worker is not None else 0

    def _may_ask(self, branch: str) -> bool:
        """True if the branch begins with the path of a unit that it has."""
        unit, _, index = branch.rpartition("/")[0].rpartition(":")
        if not index.isdecimal():
            return False
        return any(unit == piece.branch and int(index) in piece.indexes for piece in self._sent)

    # What the worker tells.

    def frame_received(self, frame: list[object]) -> None:
        """What the worker says; anything that the protocol does not allow ends it."""
        if self._ended or self._failure is not None:
            return
        try:
            self._take(frame)
        except WireError as fault:
            self._end(Failure(fault.code, str(fault)))

    def _take(self, frame: list[object]) -> None:
        match frame:
            case [frames.DONE, str() as name, int() as start, list() as results, dict() as failures, busy_s]:
                self._done(name, start, results, failures, busy_s)
            case [frames.PART, bytes() as part]:
                self._parts.add(part)
            case [frames.ASK, *_]:
                self._asker.asked(frame, self._parts.take() if self._parts else b"")
            case [frames.FORGET, *_]:
                self._asker.forgot(frame)
            case [frames.LOG, rows, str() as branch, int() as index] if (
                0 <= index <= INDEX_LIMIT and len(branch) <= BRANCH_LIMIT
            ):
                self._log.unit_lines(rows, branch, int(index))
            case [frames.LOG, rows]:
                self._log.lines(rows)
            case [frames.READY] if not self._is_loaded:
                self._is_loaded = True
                self._begin_unit()
            case [frames.PROGRESS, int(), None | str()]:
                pass  # a unit has none that anybody sees
            case [frames.FAILED, str() as code, str() as text, str() as traceback]:
                self._failure = told_failure(code, text, traceback)
                if self._worker is not None:
                    self._worker.kill()
            case _:
                raise WireError("The worker broke the protocol and was ended.")

    def output_received(self, data: bytes) -> None:
        """Raw output of its processes."""
        self._log.output(data)

    def exited(self, ending: WorkerExit) -> None:
        """The worker is gone."""
        if ending.is_overdue:
            self._around.leases.lapse(self.message.worker)
        told = self._failure
        if ending.limit and not self._ended and (told is None or told.code != LimitExceeded.code):
            told = limit_failure(ending, self._around.clock.seconds() - self._begun, told)
            self._note(told.message)
        code = WireError.code if ending.has_sent_garbage else WorkerDied.code
        self._is_gone = True
        self._end(told or Failure(code, f"The worker ended before its units: {ending.reason}."))
        self._log.finish()
        if self._held_back is not None:
            failure, self._held_back = self._held_back, None
            self._lost(self, failure)

    def _done(self, name: str, start: int, results: list[Any], told: dict[object, object], busy: Any) -> None:
        """Results, which may be anything."""
        piece = self._sent[0] if self._sent else None
        if piece is None or name != piece.name or start != piece.done:
            raise WireError("The worker told results of units that it was not to run now.")
        count = len(results)
        if not count or piece.done + count > len(piece.indexes):
            raise WireError("The worker told results of more units than it has.")
        is_time = isinstance(busy, int | float) and 0 <= busy <= LONGEST_BUSY_S
        if set(map(type, results)) != {bytes} or not is_time:
            raise WireError("The worker told results of another form.")
        packed: list[bytes] = results
        digest = ""
        if self._parts:
            if count != 1:
                raise WireError("The worker told several results with parts.")
            packed = [self._parts.take(packed[0])]
            digest = self._parts.digest
        failures = _failures(told, count)
        for place in failures:
            packed[place] = b""
        piece.done += count
        self._keep(piece.batch, piece.start + start, packed, failures, busy, digest)
        if piece.done == len(piece.indexes):
            self._sent.popleft()
            self._sent_bytes -= piece.size
            self.go_on()
        self._begin_unit()

    def _keep(
        self,
        batch: Attempt,
        start: int,
        results: list[bytes],
        failures: dict[int, Failure],
        busy_s: float,
        first_digest: str,
    ) -> None:
        """Have results delivered, in messages that travel; the digest of the first may be known."""
        sizes = list(map(len, results))
        has_large = max(sizes) > INLINE_LIMIT
        if has_large:
            sizes = [min(size, INLINE_LIMIT) for size in sizes]
        for place, failure in failures.items():
            sizes[place] += len(failure.message.encode()) + len(failure.traceback.encode()) + FAILURE_SIZE
        for first, end in groups(sizes, RESULT_SIZE):
            group = results[first:end]
            blobs: dict[int, Payload] = {}
            data: dict[str, bytes] = {}
            for place, result in enumerate(group) if has_large else ():
                if len(result) > INLINE_LIMIT:
                    digest = first_digest or hashlib.sha256(result).hexdigest()
                    blobs[place] = Payload(len(result), sha256=digest)
                    data[digest], group[place] = result, b""
            failed = {place - first: failures[place] for place in failures if first <= place < end}
            share = busy_s * (end - first) / len(results)
            message = UnitsDone(self.message.worker, batch, start + first, group, failed, blobs, share)
            self._around.outbox.keep_results(message, data)

    # Time.

    def _begin_unit(self) -> None:
        """The first unit without a result begins about now, if the task is loaded."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        if self._is_loaded and self._sent and self._sent[0].time_limit:
            self._deadline = self._around.clock.callLater(self._sent[0].time_limit, self._too_long)

    def _too_long(self) -> None:
        words = f"time limit of {self._sent[0].time_limit:g} s reached"
        self._note(words)
        self._end(Failure(LimitExceeded.code, words))

    def _note(self, words: str) -> None:
        """A line of ours, as one of the unit that runs, if any does."""
        if self._sent:
            piece = self._sent[0]
            self._log.unit_lines([], piece.branch, piece.indexes[piece.done])
        self._log.note(words)

    # Its end.

    def kill(self, reason: str) -> None:
        """End it now, and tell why."""
        self._end(Failure(WorkerDied.code, reason))

    def release(self) -> None:
        """End it now; nobody wants to know."""
        if self._ended:
            return
        self._ended = True
        self._failure = None
        self._parts.clear()
        self._waiting.clear()
        self._sent.clear()
        self._begin_unit()
        self._around.askers.close(self.message.worker)
        self._log.flush()
        if self._worker is not None:
            self._worker.kill()
        else:
            self._log.finish()  # nobody will say that it is gone

    def _end(self, failure: Failure) -> None:
        if self._ended:
            return
        self.release()
        if self.is_exclusive and self._worker is not None and not self._is_gone:
            self._held_back = failure
        else:
            self._lost(self, failure)

    def _fault(self, fault: object) -> None:
        self.log_source.error("Units could not be sent to a worker: {fault}", fault=fault)
        self.kill("The node failed to send it units; its log has the details.")


def _failures(told: dict[object, object], count: int) -> dict[int, Failure]:
    """The failures of a DONE; `WireError` if they are none."""
    failures: dict[int, Failure] = {}
    for place, failure in told.items():
        match failure:
            case [str() as code, str() as text, str() as traceback] if (
                isinstance(place, int) and 0 <= place < count
            ):
                failures[place] = told_failure(code, text, traceback)
            case _:
                raise WireError("The worker told failures of another form.")
    return failures
