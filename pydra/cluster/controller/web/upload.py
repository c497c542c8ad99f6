# SPDX-License-Identifier: MIT
"""The body of an upload on its way to where it is kept: no more of it is read while much waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import UploadSink

GATHERED: Final = 256 * 1024
"""Bytes that wait for more, at most."""

HIGH: Final = 4 * 1024 * 1024
"""Bytes that wait above which no more is read."""


class Upload:
    """
    Feeds a sink with what is received; ``read`` is told whether to go on reading.

    The first fault of the sink is kept for ``finish``; what comes after it is dropped.
    """

    _log = Logger()

    def __init__(self, open_sink: Callable[[], UploadSink], read: Callable[[bool], None]) -> None:
        self._read = read
        self._waiting: list[bytes] = []
        self._size = 0
        self.is_whole = False
        """All of the body was received, and somebody waits for the answer."""
        self._is_working = False
        self._is_last = False
        self._is_aborted = False
        self._fault: Exception | None = None
        self._worked: Deferred[None] | None = None
        self._sink: UploadSink | None = None
        try:
            self._sink = open_sink()
        except Exception as fault:  # noqa: BLE001 - told with the answer, as any fault of a command is
            self._fault = fault

    def received(self, data: bytes) -> None:
        """More of the body."""
        if self._fault is not None or self._is_aborted or self._sink is None:
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > HIGH:
            self._read(False)
        if self._size >= GATHERED:
            self._go_on()

    def _go_on(self) -> None:
        if not self._is_working and self._waiting and self._sink is not None:
            self._is_working = True
            working = Deferred.fromCoroutine(self._work(self._sink))
            working.addErrback(lambda failure: self._log.failure("An upload failed", failure))

    async def finish(self) -> Any:  # JSON
        """All of the body was received: what the sink answers. Raises what the sink raised first."""
        self.is_whole = True
        self._is_last = True
        self._go_on()
        if self._is_working:
            self._worked = Deferred()
            await self._worked
        if self._fault is not None:
            self.abort()
            raise self._fault
        if self._is_aborted or self._sink is None:
            raise CancelledError  # the caller went away while the last bytes were written
        sink, self._sink = self._sink, None
        return await sink.finish()

    def abort(self) -> None:
        """The caller went away, or is refused; after the sink was told to finish this changes nothing."""
        if self._is_aborted:
            return
        self._is_aborted = True
        self._waiting.clear()
        if self._sink is not None and not self._is_working:
            self._sink.abort()

    async def _work(self, sink: UploadSink) -> None:
        # A thread for each record of TLS would take longer than what it does.
        while self._waiting and self._fault is None and (self._is_last or self._size >= GATHERED):
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            try:
                await sink.write(data)
            except Exception as fault:  # noqa: BLE001 - told with the answer, as any fault of a command is
                self._fault = fault
                self._waiting.clear()
            was_high, self._size = self._size > HIGH, self._size - len(data)
            if was_high and (self._size <= HIGH or self._fault is not None):
                self._read(True)
        self._is_working = False
        if self._is_aborted:
            sink.abort()
        if self._worked is not None:
            self._worked.callback(None)
