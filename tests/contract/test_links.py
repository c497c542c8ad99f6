# SPDX-License-Identifier: MIT
"""What every link does, on the cable of the tests and on TLS and PB over a network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import Bulk, Link
from pydra.cluster.wire.messages import BATCH_LIMIT, Heartbeat, Recorded, Unavailable
from pydra.errors import LinkLost, RemoteFault, WireError
from pydra.model.ids import Attempt
from tests.support.cables import Cable, chunked
from tests.support.links import Cluster, RecordingSink, RecordingUser
from tests.support.pumps import result_of

BEATS = [Heartbeat((Attempt(1, number),)) for number in range(3)]
DATA = bytes(range(256)) * 1200
"""More than the credit of a stream."""


class Bench:
    """A master and a node that are linked."""

    def __init__(
        self,
        master: RecordingUser,
        node: RecordingUser,
        settle: Callable[[], object],
        pull: Callable[[], object],
    ) -> None:
        self.master = master
        self.node = node
        self.settle = settle
        self.pull = pull

    @property
    def link(self) -> Link:
        """The master's end."""
        assert self.master.link is not None
        return self.master.link

    @property
    def bulk(self) -> Bulk:
        """The master's end."""
        assert self.master.bulk is not None
        return self.master.bulk

    def begin(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """A stream, sent as far as it goes."""
        sent = Deferred.fromCoroutine(coroutine)
        self.settle()
        return sent


@pytest.fixture(params=["cable", "real"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Both kinds of link."""
    if request.param == "cable":
        cable = Cable(RecordingUser(), RecordingUser()).plug()
        master, node = cable._users
        assert isinstance(master, RecordingUser)
        assert isinstance(node, RecordingUser)
        yield Bench(master, node, cable.settle, cable.pull)
        return
    cluster = Cluster().link()

    def pull() -> None:
        # No new dial comes through, so that the links stay down.
        cluster.network.listening.clear()
        cluster.network.drop()
        cluster.network.settle()

    yield Bench(cluster.master, cluster.node, cluster.network.settle, pull)
    cluster.stop()


def test_up(bench: Bench) -> None:
    """A link is up once, at both ends, before anything else is told."""
    assert ["up"] == bench.master.log
    assert ["up"] == bench.node.log


def test_what_is_sent_arrives_in_order(bench: Bench) -> None:
    """All that is sent in one turn, the first alone perhaps; what is sent later in another batch."""
    for beat in BEATS[:2]:
        bench.link.send(beat)
    bench.settle()
    bench.link.send(BEATS[2])
    bench.settle()
    batches = [entry for entry in bench.node.log[1:] if entry != []]
    assert BEATS == [message for batch in batches for message in batch]
    assert BEATS[2:] == batches[-1]
    assert [] == bench.master.messages


def test_both_ways(bench: Bench) -> None:
    """The node sends as the master does."""
    assert bench.node.link is not None
    bench.node.link.send(BEATS[0])
    bench.settle()
    assert [BEATS[0]] == bench.master.messages


def test_a_message_that_is_too_large_is_refused_at_once(bench: Bench) -> None:
    """The sender hears of it, and the link lives."""
    with pytest.raises(WireError):
        bench.link.send(Unavailable("name", "x" * BATCH_LIMIT))
    bench.link.send(BEATS[0])
    bench.settle()
    assert [BEATS[0]] == bench.node.messages


def test_close(bench: Bench) -> None:
    """Closing ends the link at both ends, once, and later messages go nowhere."""
    link = bench.link
    link.close("enough")
    link.close("more than enough")
    link.send(BEATS[0])
    bench.settle()
    assert ["up", "down"] == bench.master.states[:2]
    assert ["up", "down"] == bench.node.states[:2]
    assert [] == bench.node.messages
    link.send(BEATS[0])


def test_pulled(bench: Bench) -> None:
    """A connection that breaks is down at both ends, and says why."""
    bench.pull()
    assert ["up", "down"] == bench.master.states
    assert ["up", "down"] == bench.node.states
    assert isinstance(bench.master.log[-1][1], str)
    assert bench.master.log[-1][1]


def test_what_the_peer_may_not_say_ends_the_link(bench: Bench) -> None:
    """A message that only masters send is not taken from a node."""
    assert bench.node.link is not None
    bench.node.link.send(Recorded(()))
    bench.settle()
    assert [] == bench.master.messages
    assert ["up", "down"] == bench.master.states[:2]


def test_a_stream(bench: Bench) -> None:
    """A stream arrives whole, and sending it returns when its sink has finished."""
    sent = bench.begin(bench.bulk.send("package", "demo/1", chunked(DATA, b"", DATA)))
    assert result_of(sent) is None
    sink = bench.node.sinks["demo/1"]
    assert DATA + DATA == bytes(sink.data)
    assert sink.finished
    assert sink.aborted is None


def test_an_empty_stream(bench: Bench) -> None:
    """A stream without bytes is finished too."""
    assert result_of(bench.begin(bench.bulk.send("blob", "none", chunked()))) is None
    assert bench.node.sinks["none"].finished


def test_a_stream_waits_for_its_sink(bench: Bench) -> None:
    """Nothing is told as sent while the sink still writes."""
    bench.node.new_sink = lambda: RecordingSink(gated=True)
    sent = bench.begin(bench.bulk.send("blob", "slow", chunked(b"data")))
    assert not sent.called
    bench.node.sinks["slow"].open_gate()
    bench.settle()
    assert result_of(sent) is None


def test_a_refused_stream(bench: Bench) -> None:
    """A stream that the peer does not want fails with the reason of the peer, and its source is closed."""

    async def source() -> AsyncIterator[bytes]:
        while True:
            yield b"data"

    chunks = source()
    sent = bench.begin(bench.bulk.send("refused", "x", chunks))
    with pytest.raises(RemoteFault, match="No stream of that kind"):
        result_of(sent)
    bench.settle()
    assert ["up"] == bench.master.states
    with pytest.raises(StopAsyncIteration):
        result_of(Deferred.fromCoroutine(_next(chunks)))


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks)


@pytest.mark.parametrize("fault", [WireError("This is not good."), ValueError("a fault")])
def test_a_sink_that_fails(bench: Bench, fault: Exception) -> None:
    """A sink that fails is aborted; a fault of the peer's own stays there, a refusal is told."""

    def failing() -> RecordingSink:
        sink = RecordingSink()
        sink.fault = fault
        return sink

    bench.node.new_sink = failing
    sent = bench.begin(bench.bulk.send("blob", "bad", chunked(b"data")))
    with pytest.raises(RemoteFault) as raised:
        result_of(sent)
    assert ("not good" in str(raised.value)) is isinstance(fault, WireError)
    assert "a fault" not in str(raised.value)
    bench.settle()
    assert bench.node.sinks["bad"].aborted is not None
    assert ["up"] == bench.node.states


def test_a_source_that_fails(bench: Bench) -> None:
    """What the source raises is raised to the sender, and the sink is aborted."""

    async def source() -> AsyncIterator[bytes]:
        yield b"data"
        raise OSError("gone")

    sent = bench.begin(bench.bulk.send("blob", "half", source()))
    with pytest.raises(OSError, match="gone"):
        result_of(sent)
    bench.settle()
    sink = bench.node.sinks["half"]
    assert sink.aborted is not None
    assert not sink.finished


def test_a_stream_whose_link_is_pulled(bench: Bench) -> None:
    """It fails with `LinkLost`, and its sink is aborted when it is done with what it was given."""
    bench.node.new_sink = lambda: RecordingSink(gated=True)
    sent = bench.begin(bench.bulk.send("blob", "cut", chunked(b"data", b"more")))
    bench.pull()
    with pytest.raises(LinkLost):
        result_of(sent)
    bench.node.sinks["cut"].open_gate()
    bench.settle()
    assert bench.node.sinks["cut"].aborted is not None
    assert not bench.node.sinks["cut"].finished


def test_a_stream_after_the_end(bench: Bench) -> None:
    """A stream over a link that is down fails with `LinkLost`."""
    bulk = bench.bulk
    bench.pull()
    with pytest.raises(LinkLost):
        result_of(bench.begin(bulk.send("blob", "late", chunked(b"data"))))
