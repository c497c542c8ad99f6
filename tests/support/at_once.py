# SPDX-License-Identifier: MIT
"""A socket, and TLS on it, that show in which turn of the reactor something is sent."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.protocols.tls import BufferingTLSTransport


class Socket(FileDescriptor):
    """Takes what it has room for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)  # type: ignore[arg-type]  # it is never watched
        self.connected = 1
        self.sent: list[bytes] = []
        self.room = 10**9

    def setTcpNoDelay(self, on: bool) -> None:
        """It delays nothing."""

    def getPeer(self) -> None:
        """Nobody."""

    getHost = getPeer  # noqa: N815 - Twisted's name

    def startWriting(self) -> None:
        """The reactor would write it in a later turn."""

    def stopWriting(self) -> None:
        """Nothing is left."""

    def writeSomeData(self, data: bytes) -> int:
        taken, self.room = data[: self.room], max(0, self.room - len(data))
        if taken:
            self.sent.append(taken)
        return len(taken)


class Tls(BufferingTLSTransport):
    """TLS whose records are what is in them, in brackets."""

    def __init__(self, clock: Clock, transport: Any) -> None:
        class Made:
            _clock = clock

        super().__init__(Made(), None, False)  # type: ignore[arg-type]  # all that is asked of them
        self.transport = transport
        self.disconnecting = False

    def _write(self, data: bytes) -> None:
        self.transport.write(b"<" + data + b">")
