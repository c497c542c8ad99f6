# SPDX-License-Identifier: MIT
"""
Sending without waiting for the next turns of the reactor.

Twisted's TLS collects what is written until the next turn, and TCP writes it in the one after that. Where one
message is waited for, each of these turns is felt.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol

from pydra.cluster.wire.wide_tls import RECORD


def write_at_once(
    clock: IReactorTime, transport: Any
) -> None:  # Twisted's, of which no interface tells enough
    """
    From now on, what is written first in a turn of the reactor, and is short, is in the socket when ``write``
    returns, if that has room.

    What follows in the same turn is collected as ever. Only TLS over a socket is changed by this.
    """
    if isinstance(transport, BufferingTLSTransport) and isinstance(transport.transport, FileDescriptor):
        first = _FirstAtOnce(clock, transport, transport.transport)
        transport.write = first.write


class _FirstAtOnce:
    def __init__(self, clock: IReactorTime, tls: BufferingTLSTransport, tcp: FileDescriptor) -> None:
        self._clock = clock
        self._tls = tls
        self._tcp = tcp
        self._collect = tls.write
        self._is_first = True

    def write(self, data: bytes) -> None:
        if not self._is_first or len(data) > RECORD:
            self._collect(data)
            return
        self._is_first = False
        self._clock.callLater(0.0, self._turned)
        self._tls._aggregator.flush()
        TLSMemoryBIOProtocol.write(self._tls, data)
        if self._tcp.connected and not self._tcp.dataBuffer:
            # If the connection is broken, the data stays, and the reactor learns of it when it tries again.
            self._tcp.doWrite()

    def _turned(self) -> None:
        self._is_first = True
