# SPDX-License-Identifier: MIT
"""
Brings log lines to the master: each once and in order, also over broken links, slow masters and restarts.

Lines are sent as soon as they come, from memory, while a thread writes them into the file of their attempt.
What the master does not take in time is read from there later. A file is removed when the attempt has ended
and the master has acknowledged all of it. What was sent is bounded by a window, so heartbeats do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.cluster.node.held_log import HeldLog, found_in, path_of, read_at, write_at
from pydra.cluster.wire.log_records import LogRecord, framed, pack_lines, records_in
from pydra.cluster.wire.messages import ToMaster, UnitLog
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine

WINDOW = 512 * 1024
"""Bytes of all attempts that are sent before an acknowledgement must come."""

READ_SIZE = 512 * 1024
"""Bytes that one reading of a file covers; more than the largest record has."""

UNWRITTEN_LIMIT = 1024 * 1024
"""Bytes of one attempt that wait for the disk."""

HELD_LIMIT = 1024 * 1024 * 1024
"""Bytes of all attempts that wait for the master."""

AGAIN_S = 10.0
"""Seconds after which what was sent is sent again, if the master acknowledges nothing."""

RETRY_S = 1.0
"""Seconds after which a write that failed is tried again."""


class LogDelivery:
    """Holds the logs of all attempts; ``tell`` sends to the master."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, directory: Path, in_thread: InThread, tell: Callable[[ToMaster], bool]
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._in_thread = in_thread
        self._tell = tell
        self._logs: dict[Attempt, HeldLog] = {}
        self._eager: dict[HeldLog, None] = {}
        """Those with something to send, in the order of their turns."""
        self._is_linked = False
        self._is_reading = False
        self._in_flight = 0
        self._held = 0
        self._watch: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._has_news = False
        self._written: Deferred[None] | None = None
        """Fires when a write has ended, while the end of all of them is waited for."""

    async def load(self) -> None:
        """Take up what an earlier daemon left; once, before there can be a link."""
        for log in await self._in_thread(lambda: list(found_in(self._directory))):
            self._logs[log.attempt] = log
            self._held += log.end

    def open(self, attempt: Attempt, instance: InstanceId, seal: bytes) -> HeldLog:
        """The log of an attempt that writes its first lines."""
        log = HeldLog(attempt, instance, seal, path_of(self._directory, attempt, instance, seal))
        self._logs[attempt] = log
        return log

    def keep(
        self, log: HeldLog, lines: Sequence[LogLine], subtask: str | None = None, unit: int | None = None
    ) -> bool:
        """Keep and deliver lines; False, and nothing is kept, if there is no room for them."""
        if log.is_refused or log.has_ended:
            return True
        record = LogRecord(log.attempt, log.lines, len(lines), pack_lines(lines), subtask, unit)
        data = framed(record)
        unwritten = log.end - log.written
        if unwritten + len(data) > UNWRITTEN_LIMIT or self._held + len(data) > HELD_LIMIT:
            return False
        log.add(record, data)
        self._held += len(data)
        self._write(log)
        self._eager[log] = None
        self._pump()
        return True

    def end(self, log: HeldLog) -> None:
        """Nothing more comes."""
        log.has_ended = True
        self._forget_if_delivered(log)

    def stored(self, attempt: Attempt, lines: int, is_wanted: bool) -> None:
        """The master has the lines before this number, or wants none of this attempt."""
        log = self._logs.get(attempt)
        if log is None:
            return
        self._has_news = True
        if is_wanted:
            self._in_flight -= log.acknowledged(lines)
        else:
            self.log.warn("The master does not want the lines of attempt {attempt}", attempt=str(attempt))
            self._in_flight -= log.sent_at - log.acknowledged_at
            log.is_refused = True
            log.send_again()
            self._eager.pop(log, None)
        self._forget_if_delivered(log)
        self._pump()

    def link_up(self) -> None:
        """There is a master to send to: all that it did not acknowledge is sent (again)."""
        self._is_linked = True
        self._send_all_again()

    def link_down(self) -> None:
        """Nothing can be sent."""
        self._is_linked = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def stop(self) -> None:
        """Have in the files what is not written yet, as far as the disk takes it now; then ``halt``."""
        for log in list(self._logs.values()):
            self._write(log)
        while any(log.is_writing for log in self._logs.values()):
            self._written = Deferred()
            await self._written
        self.halt()

    def halt(self) -> None:
        """Leave no timer behind; what is held stays in its files."""
        self.link_down()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def held(self) -> tuple[Attempt, ...]:
        """The attempts whose lines the master does not have all."""
        return tuple(self._logs)

    def _send_all_again(self) -> None:
        self._in_flight = 0
        self._eager.clear()
        for log in self._logs.values():
            log.send_again()
            if log.sent_at < log.end and not log.is_refused:
                self._eager[log] = None
        self._pump()

    def _pump(self) -> None:
        """Send what the window allows: a log as long as it has records in memory, then the next one."""
        turns = len(self._eager)
        while self._is_linked and self._eager and turns and self._in_flight < WINDOW:
            log = next(iter(self._eager))
            following = None if log.is_reading else log.take_next()
            if following is not None:
                self._send(log, *following)
                continue
            turns -= 1
            del self._eager[log]
            if log.sent_at < log.end:
                self._eager[log] = None
                self._read(log)
        if self._in_flight and self._watch is None:
            self._has_news = False
            self._watch = self._clock.callLater(AGAIN_S, self._look)

    def _send(self, log: HeldLog, record: LogRecord, end: int) -> None:
        if self._tell(UnitLog(log.instance, log.seal, record)):
            self._in_flight += end - log.sent_at
            log.in_flight.append((record.end, end))
            log.sent_at = end
        else:
            self._is_linked = False

    def _look(self) -> None:
        """Some time has passed since something was sent."""
        self._watch = None
        if not self._in_flight:
            return
        if not self._has_news:
            self.log.warn("The master acknowledged no lines for {s:g} s; sending again", s=AGAIN_S)
            self._send_all_again()
        if self._watch is None:
            self._has_news = False
            self._watch = self._clock.callLater(AGAIN_S, self._look)

    def _read(self, log: HeldLog) -> None:
        """Get the next records from the file of a log; one file at a time."""
        if self._is_reading or log.sent_at >= log.written:
            return
        self._is_reading = log.is_reading = True
        self._begin(self._read_next(log))

    async def _read_next(self, log: HeldLog) -> None:
        position = log.sent_at
        try:
            data = await self._in_thread(read_at, log.path, position, READ_SIZE)
        except FileNotFoundError:
            data = b""
        except OSError as fault:
            self.log.error("Lines could not be read, trying again: {fault}", fault=str(fault))
            self._try_again_later()
            return
        finally:
            self._is_reading = log.is_reading = False
        # What is just being written is in memory too, and sent from there.
        found = [(record, position + end) for record, end in records_in(data)]
        found = [(record, end) for record, end in found if end <= log.written]
        if position == log.sent_at:
            if found:
                log.ahead.extend(found)
            else:
                self._cut(log)
        self._forget_if_delivered(log)
        self._pump()

    def _cut(self, log: HeldLog) -> None:
        """The file ends before a whole record, as after a kill in the midst of a write: the rest is none."""
        self.log.warn("The log {path} ends in half a record", path=str(log.path))
        if log.unwritten:
            # It goes on after that; the gap counts as sent, to be acknowledged with what follows.
            self._in_flight += log.written - log.sent_at
            log.sent_at = log.written
        else:
            self._held -= log.end - log.sent_at
            log.end = log.written = log.sent_at

    def _write(self, log: HeldLog) -> None:
        if not log.is_writing and log.unwritten:
            log.is_writing = True
            self._begin(self._write_all(log))

    async def _write_all(self, log: HeldLog) -> None:
        try:
            while log.unwritten and not log.is_refused and not log.is_delivered:
                data = b"".join(data for _, data in log.unwritten.values())
                log.has_file = True
                await self._in_thread(write_at, log.path, log.written, data)
                log.wrote(len(data))
        except OSError as fault:
            self.log.error("Lines could not be written, trying again: {fault}", fault=str(fault))
            self._try_again_later()
        finally:
            log.is_writing = False
            if self._written is not None:
                written, self._written = self._written, None
                written.callback(None)
        self._forget_if_delivered(log)

    def _try_again_later(self) -> None:
        if self._retry is None:
            self._retry = self._clock.callLater(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        for log in list(self._logs.values()):
            self._write(log)
        self._pump()

    def _forget_if_delivered(self, log: HeldLog) -> None:
        if log.is_delivered and not log.is_writing and not log.is_reading and log.attempt in self._logs:
            del self._logs[log.attempt]
            self._eager.pop(log, None)
            self._held -= log.end
            if log.has_file:
                self._begin(self._remove(log.path))

    async def _remove(self, path: Path) -> None:
        await self._in_thread(path.unlink, True)

    def _begin(self, coroutine: Coroutine[Deferred[None], None, None]) -> None:
        begun = Deferred.fromCoroutine(coroutine)
        begun.addErrback(lambda fault: self.log.failure("The file of a log could not be used", fault))
