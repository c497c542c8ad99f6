# SPDX-License-Identifier: MIT
"""
The log of a daemon: one line for people for each event, in files that are rotated, or on a terminal.

A line is ``time level [namespace] text``; the time is UTC to the millisecond. Text that came from elsewhere
cannot begin a line of its own, and what looks like a secret is not written. The standard library's loggers
end in the same log. Only daemons import this: it loads Twisted.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Protocol, TextIO

from twisted.logger import (
    ILogObserver,
    LogBeginner,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pydra.errors import ConfigError

LINE_LIMIT = 16384
"""Characters of a line; the rest is cut off."""

FRAME_LIMIT = 20
"""Innermost frames of a failure that its line names."""

ABOUT = ("instance", "attempt", "node", "package")
"""Fields that are added to a line whose own text does not name them."""

SECRET_FIELDS = frozenset(
    {"authorization", "cookie", "key_pem", "password", "private_key", "private_pem", "secret", "token"}
)
"""Fields that are never written, whatever the format of an event says."""

_HIDDEN = "(hidden)"
_SECRETS = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        _HIDDEN,
    ),
    (re.compile(r"(?i)\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {_HIDDEN}"),
    (
        re.compile(r"(?i)\b((?:token|password|passwd|secret|cookie)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&})]+"),
        rf"\1{_HIDDEN}",
    ),
)

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}

# What the level of a record of the standard library is called here, by its lower bound.
_LEVELS = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
    (logging.NOTSET, LogLevel.debug),
)


class LogSettings(Protocol):
    """What is used of the settings."""

    @property
    def LOG_LEVEL(self) -> str:  # noqa: N802 - the name of a setting
        """The least important level that is written."""
        ...

    @property
    def LOG_SIZE(self) -> int:  # noqa: N802 - the name of a setting
        """Bytes of a file."""
        ...

    @property
    def LOG_BACKUP(self) -> int:  # noqa: N802 - the name of a setting
        """Number of old files."""
        ...

    @property
    def log_dir(self) -> Path:
        """Directory of the files."""
        ...


def line_of(event: LogEvent) -> str:
    """The line of an event, without its end."""
    shown = {field: _HIDDEN if field in SECRET_FIELDS else value for field, value in event.items()}
    text = formatEvent(shown)
    template = event.get("log_format") or ""
    about = [f"{field}={event[field]}" for field in ABOUT if field in event and f"{{{field}" not in template]
    if about:
        text = f"{text} ({' '.join(about)})"
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        text = f"{text}: {_failure_text(failure)}" if text else _failure_text(failure)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = text.translate(_ESCAPES)
    if len(text) > LINE_LIMIT:
        text = f"{text[:LINE_LIMIT]}... ({len(text)} characters)"
    level = event.get("log_level", LogLevel.info)
    return f"{_time(event.get('log_time'))} {level.name:<8} [{event.get('log_namespace', '-')}] {text}"


def _time(instant: object) -> str:
    if not isinstance(instant, float | int):
        return "-"
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _failure_text(failure: Failure) -> str:
    """Type and text of the exception, where it was raised, and what it was raised from."""
    parts: list[str] = []
    error: BaseException | None = failure.value
    places = list(_places(failure))
    while error is not None and len(parts) < 4:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    where = f" (at {' < '.join(reversed(places[-FRAME_LIMIT:]))})" if places else ""
    return f"{', from '.join(parts)}{where}"


def _places(failure: Failure) -> Iterator[str]:
    # The frames are walked here because the traceback module would read source files.
    step = failure.getTracebackObject()
    while step is not None:
        code = step.tb_frame.f_code
        yield f"{'/'.join(Path(code.co_filename).parts[-2:])}:{step.tb_lineno} {code.co_name}"
        step = step.tb_next


class _LogFile(RotatingFileHandler):
    """Files that only the daemon's user and group may read; its lock makes it usable from every thread."""

    lost = 0

    def _open(self) -> IO[str]:  # type: ignore[override]  # a stream of text, as it is used
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Count it: a full disk must not stop the daemon, nor fill the terminal."""
        self.lost += 1


class _Terminal(logging.StreamHandler[TextIO]):
    """Lines on a stream, from every thread."""

    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Count it: nobody may be looking."""
        self.lost += 1


@implementer(ILogObserver)
class DaemonLog:
    """
    The log of one daemon.

    Lines go to ``<LOG_DIR>/<daemon>.log``, which is rotated at LOG_SIZE bytes with LOG_BACKUP old files, or
    to the stream if one is given. Events below LOG_LEVEL are left out; those of Twisted itself below warn
    too, unless the level is debug.
    """

    def __init__(self, settings: LogSettings, daemon: str, stream: TextIO | None = None) -> None:
        self._settings = settings
        self._path = settings.log_dir / f"{daemon}.log"
        self._stream = stream
        self._sink: _LogFile | _Terminal | None = None
        self._bridge = _Bridge(self)
        level = LogLevel.levelWithName(settings.LOG_LEVEL)
        predicate = LogLevelFilterPredicate(defaultLogLevel=level)
        if level in (LogLevel.debug, LogLevel.info):
            other = LogLevel.info if level is LogLevel.debug else LogLevel.warn
            for namespace in ("twisted", "log_legacy"):
                predicate.setLogLevelForNamespace(namespace, other)
        self._predicate = predicate

    def __call__(self, event: LogEvent) -> None:
        """Write the line of an event, if its level is high enough and the log is open."""
        sink = self._sink
        if sink is None or self._predicate(event) is PredicateResult.no:
            return
        if sink.lost:
            lost, sink.lost = sink.lost, 0
            sink.handle(
                _record(f"{_time(event.get('log_time'))} warn     [pydra.logs] {lost} lines were lost")
            )
            if sink.lost:
                sink.lost = lost
        sink.handle(_record(line_of(event)))

    def start(self, beginner: LogBeginner) -> None:
        """
        Open the log and take every event from now on, those of the standard library too.

        `ConfigError` if the file cannot be opened.
        """
        if self._stream is None:
            self._sink = self._open()
        else:
            self._sink = _Terminal(self._stream)
        beginner.beginLoggingTo([self], redirectStandardIO=self._stream is None)
        root = logging.getLogger()
        root.addHandler(self._bridge)
        root.setLevel(logging.DEBUG if self._settings.LOG_LEVEL == "debug" else logging.INFO)

    def stop(self) -> None:
        """Close the log; later events are not written."""
        root = logging.getLogger()
        root.removeHandler(self._bridge)
        root.setLevel(logging.WARNING)
        sink, self._sink = self._sink, None
        if sink is not None:
            # What a full disk did not take is lost with the file.
            with suppress(OSError):
                sink.close()

    def _open(self) -> _LogFile:
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            return _LogFile(
                self._path, maxBytes=self._settings.LOG_SIZE, backupCount=self._settings.LOG_BACKUP
            )
        except OSError as error:
            raise ConfigError(f"LOG_DIR: {self._path} cannot be opened: {error.strerror}") from error


def _record(line: str) -> logging.LogRecord:
    return logging.LogRecord("", logging.INFO, "", 0, line, None, None)


class _Bridge(logging.Handler):
    """Records of the standard library's loggers as events of the log."""

    def __init__(self, log: DaemonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record over; a record that cannot be formatted is told as such."""
        try:
            text = record.getMessage()
        # Whoever logs it may have given a format that does not fit; that must not hurt the daemon.
        except Exception:  # noqa: BLE001
            text = f"{record.msg!r} (with arguments that do not fit)"
        level = next(level for bound, level in _LEVELS if record.levelno >= bound)
        fields: dict[str, object] = {"text": text}
        if record.exc_info and record.exc_info[1] is not None:
            kind, error, trace = record.exc_info
            fields["log_failure"] = Failure(error, kind, trace)
        Logger(namespace=record.name, observer=self._log).emit(level, "{text}", **fields)
