# SPDX-License-Identifier: MIT
"""
How a daemon runs under the reactor, the same for master and node: start, serve, stop on SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogBeginner, LogEvent, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from pydra.cluster.sandbox.daemon import EXIT_FAILED, EXIT_SETTINGS, Beginning, die, tell
from pydra.errors import PydraError
from pydra.logs import DaemonLog, line_of

STOP_S = 8.0
"""Seconds that stopping may take before the process ends all the same."""


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_OWN_MAPPING = 4 * 1024 * 1024
"""Bytes above which memory is mapped for itself, and returned when it is freed."""
_KEPT_FREE = 16 * 1024 * 1024
"""Free bytes at the end of the heap that are not returned."""


class Service(Protocol):
    """What a daemon is made of."""

    @property
    def broken(self) -> str:
        """Why it stopped by itself; empty if it did not."""
        ...

    async def start(self) -> int:
        """Serve; answers the port that it listens on."""
        ...

    async def stop(self) -> None:
        """Leave nothing behind."""
        ...


def keep_memory() -> None:
    """
    Let glibc keep what is freed for what is needed next; another libc does as it will.

    By itself it returns what large payloads took after each piece, and the kernel clears every page anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)


def use_monotonic_time(reactor: Any) -> None:  # the reactor's clock is an attribute that no interface names
    """Timers follow the monotonic clock, so that setting the wall clock neither renews nor ends a lease."""
    reactor.seconds = time.monotonic


def start_log(beginning: Beginning, role: str, beginner: LogBeginner, publisher: LogPublisher) -> None:
    """
    Open the daemon's log; `SystemExit` after one sentence if that cannot be.

    If a person may be looking, on a terminal, the warnings of Pydra are shown there too.
    """
    try:
        DaemonLog(beginning.settings, role).start(beginner)
    except PydraError as fault:
        die(role, beginning.as_given(str(fault)), EXIT_SETTINGS)
    terminal = sys.__stderr__
    if terminal is not None and terminal.isatty():
        publisher.addObserver(ShownWarnings(beginning, role))


@implementer(ILogObserver)
class ShownWarnings:
    """Shows what goes wrong, such as a link that does not come about, to who started the daemon."""

    def __init__(self, beginning: Beginning, role: str) -> None:
        self._beginning, self._role = beginning, role

    def __call__(self, event: LogEvent) -> None:
        """Show an event of Pydra itself if it is a warning or worse."""
        is_ours = str(event.get("log_namespace", "")).startswith("pydra")
        if is_ours and event.get("log_level") in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            tell(self._role, self._beginning.as_given(line_of(event)))


def run(reactor: Any, role: str, service: Service, beginning: Beginning, **facts: object) -> None:
    """
    Run the service until the process is asked to end; `SystemExit` 1 if it could not start, or stopped by
    itself.
    """
    log = Logger(namespace=f"pydra.{role}")
    faults: list[Failure] = []

    def failed(fault: Failure) -> None:
        faults.append(fault)
        if not fault.check(PydraError, OSError):
            log.failure("The {role} failed to start", fault, role=role)
        with suppress(ReactorNotRunning):  # it is stopping already
            reactor.stop()

    def started(port: int) -> None:
        beginning.ready(port=port, **facts)
        tell(role, beginning.announcement(role, port))

    def begin() -> None:
        Deferred.fromCoroutine(service.start()).addCallback(started).addErrback(failed)

    def end() -> Deferred[None]:
        return Deferred.fromCoroutine(_ended(reactor, log, service.stop()))

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", end)
    reactor.run()
    if faults:
        die(role, beginning.as_given(f"it could not start: {faults[0].getErrorMessage()}"), EXIT_FAILED)
    if service.broken:
        die(role, beginning.as_given(f"it stopped: {service.broken}"), EXIT_FAILED)


async def _ended(reactor: Any, log: Logger, stopping: Coroutine[Deferred[Any], Any, None]) -> None:
    try:
        await Deferred.fromCoroutine(stopping).addTimeout(STOP_S, reactor)
    except Exception:  # noqa: BLE001 - the last edge: the process ends whatever stands in its way
        log.failure("Stopping was not clean")
