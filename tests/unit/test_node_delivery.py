# SPDX-License-Identifier: MIT
"""What is told the master goes in order for each source, and never more than a link can take."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.node.delivery import BACKLOG_LIMIT, LOOK_S, Blob, Delivery, NotNeeded, Spoilt, chunks_of
from pydra.cluster.wire.messages import ToMaster, ToNode, UnitsForgotten
from pydra.errors import LinkLost, RemoteFault
from pydra.model.ids import Attempt

ONE, TWO = Attempt(1, 1), Attempt(1, 2)


class SlowLink:
    """A link and its bulk; ``behind`` is what waits in it."""

    def __init__(self) -> None:
        self.sent: list[ToNode | ToMaster] = []
        self.streams: list[Deferred[None]] = []
        self.behind = 0
        self.reason = ""

    def send(self, message: ToNode | ToMaster) -> None:
        """It is sent."""
        self.sent.append(message)

    def backlog(self) -> int:
        """As a test says."""
        return self.behind

    def close(self, reason: str) -> None:
        """It is to end."""
        self.reason = reason


class SlowBulk:
    """Streams end when a test says so."""

    def __init__(self) -> None:
        self.streams: list[Deferred[None]] = []
        self.data: list[bytes] = []

    async def send(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        """Read it all, and wait."""
        self.data.append(b"".join([chunk async for chunk in chunks]))
        ended: Deferred[None] = Deferred()
        self.streams.append(ended)
        await ended


class Bench:
    """A delivery that is open."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link, self.bulk = SlowLink(), SlowBulk()
        self.delivery = Delivery(self.clock)
        self.delivery.open(self.link, self.bulk)

    def send(self, source: Attempt, name: str, *blobs: Blob, spoilt: Spoilt | None = None) -> bool:
        """Send a message of this name."""
        return self.delivery.send(source, UnitsForgotten(source, name), blobs, spoilt)

    def names(self) -> list[str]:
        """The names of what was sent."""
        return [message.branch for message in self.link.sent if isinstance(message, UnitsForgotten)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """It leaves no timer behind."""
    bench = Bench()
    yield bench
    bench.delivery.close()
    assert [] == bench.clock.getDelayedCalls()


def blob(data: bytes = b"x" * 100_000) -> Blob:
    """Bytes in memory."""
    return Blob(hashlib.sha256(data).hexdigest(), lambda: chunks_of(data))


def raising(fault: Exception) -> Blob:
    """A blob that cannot be read."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(1):
            raise fault
            yield b""

    return Blob("cd" * 32, chunks)


def test_closed(bench: Bench) -> None:
    """Without a link nothing is sent, then or later."""
    bench.delivery.close()
    assert not bench.send(ONE, "a")
    bench.delivery.open(bench.link, bench.bulk)
    assert [] == bench.names()


def test_blobs_first(bench: Bench) -> None:
    """What names blobs waits until the master has them, and so does what the same source says then."""
    assert bench.send(ONE, "a", blob(), blob(b"y"))
    bench.send(ONE, "b")
    bench.send(TWO, "c")
    assert ["c"] == bench.names()
    bench.bulk.streams[0].callback(None)
    assert ["c"] == bench.names()
    bench.bulk.streams[1].callback(None)
    assert ["c", "a", "b"] == bench.names()
    assert [b"x" * 100_000, b"y"] == bench.bulk.data
    bench.send(ONE, "d")
    assert ["c", "a", "b", "d"] == bench.names()


def test_a_link_that_is_behind(bench: Bench) -> None:
    """It is given more when it has caught up, all in order."""
    bench.link.behind = BACKLOG_LIMIT + 1
    assert bench.send(ONE, "a")
    bench.send(TWO, "b")
    bench.clock.advance(LOOK_S)
    assert [] == bench.names()
    bench.link.behind = 0
    bench.send(ONE, "c")
    assert [] == bench.names()
    bench.clock.advance(LOOK_S)
    assert ["a", "b", "c"] == bench.names()


@pytest.mark.parametrize("is_behind", [True, False])
def test_a_link_that_breaks(bench: Bench, is_behind: bool) -> None:
    """What was not sent is dropped: whoever keeps it sends it again."""
    bench.link.behind = BACKLOG_LIMIT + 1 if is_behind else 0
    bench.send(ONE, "a", blob())
    bench.send(ONE, "b")
    bench.delivery.close()
    again = SlowLink()
    bench.delivery.open(again, bench.bulk)
    for stream in bench.bulk.streams:
        stream.errback(LinkLost())
    bench.clock.advance(LOOK_S)
    assert [] == bench.names() + again.sent
    bench.send(ONE, "c")
    assert 1 == len(again.sent)


def test_a_blob_that_came_too_late(bench: Bench) -> None:
    """A message of an earlier link is not sent on the next one by the way of its blob."""
    bench.send(ONE, "a", blob())
    bench.delivery.close()
    again = SlowLink()
    bench.delivery.open(again, bench.bulk)
    bench.bulk.streams[0].callback(None)
    assert [] == bench.names() + again.sent


def test_a_blob_that_is_refused(bench: Bench) -> None:
    """The link is closed; the next one brings it again."""
    bench.send(ONE, "a", blob())
    bench.bulk.streams[0].errback(RemoteFault("The disk is full."))
    assert ("a blob was refused", []) == (bench.link.reason, bench.names())


@pytest.mark.parametrize(("spoilt", "times"), [(lambda fault: True, 4), (None, 3)])
def test_a_blob_that_is_refused_again_and_again(bench: Bench, spoilt: Spoilt | None, times: int) -> None:
    """It is read once more than it is sent, to see whether it is spoilt, if it can be."""
    read: list[bytes] = []

    def chunks() -> AsyncIterator[bytes]:
        read.append(b"x")
        return chunks_of(b"x")

    refused = Blob(hashlib.sha256(b"x").hexdigest(), chunks)
    for _ in range(3):
        bench.delivery.open(bench.link, bench.bulk)
        bench.send(ONE, "a", refused, spoilt=spoilt)
        bench.bulk.streams.pop().errback(RemoteFault("The disk is full."))
        assert ("a blob was refused", []) == (bench.link.reason, bench.names())
        bench.delivery.close()
    assert times == len(read)


def test_a_blob_that_is_not_needed_any_more(bench: Bench) -> None:
    """What named it is not sent; what follows is."""
    bench.send(ONE, "a", blob())
    bench.send(ONE, "b", raising(NotNeeded()))
    bench.send(ONE, "c")
    bench.bulk.streams[0].callback(None)
    assert ["a", "c"] == bench.names()
    assert "" == bench.link.reason


def test_a_blob_that_cannot_be_read(bench: Bench) -> None:
    """The link is closed; it was logged."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("Input/output error")

    bench.send(ONE, "a", Blob("ab" * 32, broken))
    assert ("a blob could not be read", []) == (bench.link.reason, bench.names())


@pytest.mark.parametrize(
    ("broken", "is_refused", "why"),
    [
        (raising(OSError(5, "Input/output error")), False, "[Errno 5] Input/output error"),
        (raising(FileNotFoundError(2, "gone")), False, "[Errno 2] gone"),
        (Blob("ab" * 32, lambda: chunks_of(b"x")), True, "it is not what was written"),
    ],
)
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_blob_that_is_spoilt(bench: Bench, broken: Blob, is_refused: bool, why: str, goes_on: bool) -> None:
    """Who sent it tells something else, in its place; or else the link is closed, and what follows waits."""
    told: list[str] = []

    def spoilt(fault: str) -> bool:
        told.append(fault)
        bench.send(ONE, "instead")
        return goes_on

    bench.send(ONE, "a", broken, spoilt=spoilt)
    if is_refused:
        bench.send(ONE, "b")
        bench.bulk.streams[0].errback(RemoteFault("These are other bytes."))
    assert [why] == told
    assert ("", "a blob could not be read")[not goes_on] == bench.link.reason
    assert "a" not in bench.names()
    assert goes_on is ("instead" in bench.names())
