# SPDX-License-Identifier: MIT
"""Two ends of a bulk connection without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from pydra.cluster.wire.streams import BulkConnection
from pydra.errors import WireError
from tests.support.links import RecordingSink


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.total = 0
        self.aborted = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.total += len(data)

    def abortConnection(self) -> None:
        self.aborted += 1


class Side:
    """A bulk connection and what it told."""

    def __init__(self, is_client: bool) -> None:
        self.sinks: dict[str, RecordingSink] = {}
        self.gated = False
        self.ready = 0
        self.lost: list[str] = []
        self.transport = Transport()
        self.bulk = BulkConnection(is_client, self.open_stream, self.become_ready, self.lost.append)
        self.bulk.makeConnection(self.transport)

    def open_stream(self, kind: str, detail: str) -> RecordingSink:
        if kind == "refused":
            raise WireError("No stream of that kind is taken.")
        if kind == "broken":
            raise ZeroDivisionError
        self.sinks[detail] = sink = RecordingSink(self.gated)
        return sink

    def become_ready(self) -> None:
        self.ready += 1

    def take(self) -> bytes:
        written, self.transport.written[:] = b"".join(self.transport.written), []
        return written

    def lose(self) -> None:
        self.bulk.connectionLost(Failure(ConnectionDone()))


def pump(one: Side, two: Side) -> None:
    while one.transport.written or two.transport.written:
        two.bulk.dataReceived(one.take())
        one.bulk.dataReceived(two.take())


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


class Source:
    """An iterator that gives what the test gives it, and tells that it was closed."""

    def __init__(self) -> None:
        self.wanted: Deferred[bytes] | None = None
        self.closed = False

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        self.wanted = Deferred()
        return await self.wanted

    async def aclose(self) -> None:
        self.closed = True

    def give(self, data: bytes) -> None:
        assert self.wanted is not None
        self.wanted.callback(data)
