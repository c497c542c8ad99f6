# SPDX-License-Identifier: MIT
"""
What a task writes becomes lines with a time, a level and a stream.

Lines travel in batches: the reporter flushes them some milliseconds after the first, a full batch is
flushed by the thread that fills it (so a flood waits for the daemon), and the rest goes before the final
answer.
"""

from __future__ import annotations

import io
import os
import sys
from _thread import RLock, allocate_lock

from pydra.cluster.wire.frames import LOG

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

    from pydra.cluster.worker.channel import Channel
    from pydra.cluster.worker.surroundings import Place

LINE_LIMIT = 16 * 1024
"""Bytes of one line; a longer one becomes several."""

BATCH_SIZE = 64 * 1024
"""Bytes of lines that are sent without waiting."""


class Log:
    """The lines that were not sent yet; those of a unit, which is at ``place``, make a frame of their own."""

    def __init__(self, channel: Channel, clock: Callable[[], float], place: Place) -> None:
        self._channel = channel
        self._clock = clock
        self._place = place
        self._frames: list[list[object]] = []
        self._lines: list[object] = []
        """Those of the last frame."""
        self._label: list[object] = []
        self._size = 0
        self._closed = False
        self._forked = False
        self._held = False
        self._dropped = 0
        self._lock = RLock()
        self.wake = allocate_lock()
        """Released when there is a first line to send; the reporter waits for it."""
        self.wake.acquire()

    def add(self, level: str, stream: str, text: str) -> None:
        """Add what was written; text that UTF-8 has no bytes for is written as escapes."""
        data = text.encode("utf-8", "backslashreplace")
        for line in data.split(b"\n"):
            self.add_bytes(level, stream, line)

    def add_bytes(self, level: str, stream: str, line: bytes) -> None:
        """Add one line, in pieces if it is long."""
        while len(line) > LINE_LIMIT:
            end = _boundary(line)
            self._append(level, stream, line[:end])
            line = line[end:]
        self._append(level, stream, line)

    def hold(self) -> None:
        """Keep lines back until ``release``, as much as one batch; more are counted and dropped."""
        self._held = True

    def release(self) -> None:
        """Send what was held back, and what comes."""
        with self._lock:
            self._held = False
            if self._dropped:
                text = f"[{self._dropped} lines that came before the task were dropped]"
                self._keep([self._clock(), "WARNING", "log", text])
            if self._frames:
                self.call()

    def call(self) -> None:
        """Wake whoever flushes."""
        with self._lock:
            if self.wake.locked():
                self.wake.release()

    @property
    def is_overflowing(self) -> bool:
        """True if lines were dropped."""
        return self._dropped > 0

    def flush(self) -> None:
        """Send all lines, unless they are held back."""
        if self._held:
            return
        with self._lock:
            frames, self._frames, self._size = self._frames, [], 0
            if frames:
                self._channel.send(*frames)

    def close(self) -> None:
        """Send all lines; later ones are dropped, since nothing may follow the final answer."""
        with self._lock:
            self.flush()
            self._closed = True

    def forked(self) -> None:
        """This is a process that the task forked: lines go to its descriptor 2, and no lock is taken."""
        self._forked = True

    def _append(self, level: str, stream: str, line: bytes) -> None:
        if self._forked:
            os.write(2, line + b"\n")
            return
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        with self._lock:
            if self._closed:
                return
            if self._held and self._size >= BATCH_SIZE:
                self._dropped += 1
                return
            is_first = not self._frames
            self._keep([self._clock(), level, stream, text])
            self._size += len(line) + 48
            if self._size >= BATCH_SIZE:
                self.flush()
            elif is_first and not self._held:
                self.call()

    def _keep(self, line: list[object]) -> None:
        label = self._place.label()
        if not self._frames or label != self._label:
            self._label = label
            self._lines = []
            self._frames.append([LOG, self._lines, *label])
        self._lines.append(line)


class LineStream(io.BufferedIOBase):
    """The bytes below ``sys.stdout`` or ``sys.stderr``, cut into lines."""

    def __init__(self, log: Log, descriptor: int, level: str, stream: str) -> None:
        super().__init__()
        self._log = log
        self.name = f"<{stream}>"
        self._descriptor = descriptor
        self._level = level
        self._stream = stream
        self.held = bytearray()
        """A line that has no end yet."""
        self._lock = RLock()
        self._forked = False

    def write(self, data: object) -> int:
        """Take bytes; whole lines go on, the rest waits for its end."""
        taken = bytes(data)  # type: ignore[call-overload]  # any object with the buffer protocol
        if self._forked:
            return os.write(self._descriptor, taken)
        with self._lock:
            self.held += taken
            if b"\n" in taken or len(self.held) > LINE_LIMIT:
                *lines, rest = bytes(self.held).split(b"\n")
                while len(rest) > LINE_LIMIT:
                    end = _boundary(rest)
                    lines.append(rest[:end])
                    rest = rest[end:]
                self.held[:] = rest
                for line in lines:
                    self._log.add_bytes(self._level, self._stream, line)
        return len(taken)

    def end(self) -> None:
        """Nothing more is written: a last line without its end goes on too."""
        with self._lock:
            rest = bytes(self.held)
            self.held.clear()
        if rest:
            self._log.add_bytes(self._level, self._stream, rest)

    def forked(self) -> None:
        """This is a process that the task forked: it writes to the descriptor, and takes no locks."""
        self.held.clear()
        self._forked = True

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The real descriptor, for processes that the task starts."""
        return self._descriptor


class Output:
    """``sys.stdout`` and ``sys.stderr`` of a task."""

    def __init__(self, log: Log) -> None:
        self._streams = (LineStream(log, 1, "INFO", "stdout"), LineStream(log, 2, "ERROR", "stderr"))
        self._texts = tuple(_text(stream) for stream in self._streams)
        self.held = tuple(stream.held for stream in self._streams)
        """Their lines that have no end yet."""

    def install(self) -> None:
        """Let Python write here; C code and other processes write to descriptors 1 and 2, as ever."""
        sys.stdout, sys.stderr = self._texts
        sys.__stdout__, sys.__stderr__ = self._texts  # type: ignore[misc]  # or a task restores them

    def end(self) -> None:
        """Pass on last lines that have no end."""
        for stream in self._streams:
            stream.end()

    def forked(self) -> None:
        """Write directly from now on, in a process that the task forked."""
        for stream in self._streams:
            stream.forked()


class LoggingCapture:
    """Brings the records of ``logging`` to the log, if the task uses that at all."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._done = False

    def capture(self) -> None:
        """
        Add a handler where it makes no line twice; a second call changes nothing.

        The root logger gets it, or only the tasks' own if the author gave the root handlers of his own.
        """
        if self._done:
            return
        self._done = True
        import logging  # noqa: PLC0415 - 14 ms that most tasks never need

        log = self._log

        class LogHandler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                try:
                    log.add(_level(record.levelno), "log", self.format(record))
                except Exception:  # noqa: BLE001 - the record is the author's, and its text may fail in any way
                    self.handleError(record)

        tasks = logging.getLogger("pydra.task")
        tasks.setLevel(logging.INFO)
        root = logging.getLogger()
        if root.handlers:
            tasks.propagate = False
            tasks.addHandler(LogHandler())
        else:
            root.addHandler(LogHandler())


def _level(number: int) -> str:
    """The name of the level of ``logging`` that a number reaches; an author may have levels between them."""
    for reached, name in ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO")):
        if number >= reached:
            return name
    return "DEBUG"


def _text(stream: LineStream) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, "utf-8", "backslashreplace", write_through=True)


def _boundary(line: bytes) -> int:
    """Where to cut a long line without cutting a character."""
    end = LINE_LIMIT
    while end > LINE_LIMIT - 4 and 0x80 <= line[end] < 0xC0:
        end -= 1
    return end
