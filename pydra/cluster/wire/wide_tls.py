# SPDX-License-Identifier: MIT
"""
Twisted's TLS transport for much data: what it costs a record of 16 KiB, this one costs a read or a write.

Twisted hands each record up by itself, and each record that is written to the socket by itself; for every one
of them all that is above and below is called. Here the records of one read go up joined, and those of one
write go down joined.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

RECORD = 16 * 1024
"""Bytes that a record holds, at most."""

JOINED = 256 * 1024
"""Bytes of records that go down together, and about as many up."""

WIDE = 1024 * 1024
"""Bytes that one turn of the reactor takes from a socket, or gives to it, if it has much to carry."""

_OVERHEAD = 64
"""Bytes that a record has besides what it holds; it is 22 in TLS 1.3."""


class WideTLS(BufferingTLSTransport):
    """As its base, with fewer calls; what it overrides are the two loops over records, and nothing else."""

    transport: Any  # any that TLS can be spoken over
    _tlsConnection: Any  # noqa: N815 - Twisted's; an OpenSSL.SSL.Connection, None when it is lost

    def _flushReceiveBIO(self) -> None:  # noqa: N802 - Twisted's
        """Hand up what has come, joined."""
        records: list[bytes] = []
        size = 0
        while not self._lostTLSConnection:
            try:
                record = self._tlsConnection.recv(RECORD)
            except WantReadError:
                break
            except ZeroReturnError:
                self._hand_up(records)
                size = 0
                self._shutdownTLS()
                self._tlsShutdownFinished(None)
            except Error:
                fault = Failure()
                self._hand_up(records)
                size = 0
                self._tlsShutdownFinished(fault)
            else:
                records.append(record)
                size += len(record)
                if size >= JOINED:
                    self._hand_up(records)
                    size = 0
        self._hand_up(records)
        self._flushSendBIO()

    def _hand_up(self, records: list[bytes]) -> None:
        if records and not self._aborted:
            data = records[0] if len(records) == 1 else b"".join(records)
            records.clear()
            ProtocolWrapper.dataReceived(self, data)

    def _write(self, bytes: bytes) -> None:
        """Encrypt, and give what comes of it to the socket, joined."""
        if self._lostTLSConnection:
            return
        view = memoryview(bytes)
        while view:
            try:
                given = self._tlsConnection.send(view[:JOINED])
            except WantReadError:
                self._bufferedWrite(view.tobytes())
                return
            except Error:
                self._tlsShutdownFinished(Failure())
                return
            self._flush(given)
            view = view[given:]

    def _flush(self, size: int) -> None:
        """Give the socket what so many bytes were encrypted to, and whatever else waits."""
        size += (size // RECORD + 1) * _OVERHEAD
        try:
            while len(encrypted := self._tlsConnection.bio_read(size)) == size:
                self.transport.write(encrypted)
        except WantReadError:
            return
        self.transport.write(encrypted)


class WideTLSFactory(TLSMemoryBIOFactory):
    """Makes such transports."""

    protocol = WideTLS


def widen(tls: Any) -> None:  # a transport of Twisted, of which no interface tells what is below it
    """Read and write much at a time below this transport; each time costs as much as decrypting 50 KiB."""
    tcp = getattr(tls, "transport", None)
    if tcp is not None:
        tcp.bufferSize = tcp.SEND_LIMIT = WIDE
