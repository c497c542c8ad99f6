# SPDX-License-Identifier: MIT
"""Bulk streams: flow control, refusals, and what a hostile peer gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pydra.cluster.wire.incoming import IncomingStream
from pydra.cluster.wire.outgoing import INITIAL_CREDIT
from pydra.cluster.wire.stream_frames import (
    CHUNK_LIMIT,
    Kind,
    StreamFrameReader,
    encode,
    encode_credit,
    encode_texts,
)
from pydra.cluster.wire.streams import STREAM_LIMIT
from pydra.errors import LinkLost, RemoteFault, StoreError
from tests.support.bulk import Side, Source, chunks, pump
from tests.support.links import RecordingSink
from tests.support.pumps import result_of, started


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    """A sender and a receiver, connected."""
    client, server = Side(True), Side(False)
    server.bulk.welcome()
    pump(client, server)
    yield client, server
    client.lose()
    server.lose()


def test_stream_arrives_whole(sides: tuple[Side, Side]) -> None:
    """A stream arrives as it left, whatever the size of its pieces; then the sender returns."""
    sender, receiver = sides
    pieces = [b"a", b"", bytes(3 * CHUNK_LIMIT + 7), b"z" * 1_000_000]
    sent = started(sender.bulk.send("blob", "one", chunks(*pieces)))
    pump(sender, receiver)
    assert result_of(sent) is None
    assert receiver.sinks["one"].data == b"".join(pieces)
    assert receiver.sinks["one"].finished


def test_empty_stream(sides: tuple[Side, Side]) -> None:
    """A stream without a byte is finished too."""
    sender, receiver = sides
    sent = started(sender.bulk.send("blob", "one", chunks()))
    pump(sender, receiver)
    assert result_of(sent) is None
    assert receiver.sinks["one"].finished


def test_streams_interleave_both_ways(sides: tuple[Side, Side]) -> None:
    """Many streams in both directions at once do not mix."""
    ones, twos = sides
    sent = [
        started(side.bulk.send("blob", str(number), chunks(bytes([number]) * 300_000)))
        for number in range(10)
        for side in (ones, twos)
    ]
    pump(ones, twos)
    assert [result_of(one) for one in sent] == [None] * 20
    for side in (ones, twos):
        for number in range(10):
            assert side.sinks[str(number)].data == bytes([number]) * 300_000


def test_slow_sink_is_held_to_its_credit(sides: tuple[Side, Side]) -> None:
    """A sink that does not return gets one chunk, its sender sends no more than the credit; others go on."""
    sender, receiver = sides
    receiver.gated = True
    slow = started(sender.bulk.send("blob", "slow", chunks(bytes(1_000_000))))
    before = sender.transport.total
    pump(sender, receiver)
    sink = receiver.sinks["slow"]
    assert len(sink.gates) == 1
    assert sender.transport.total <= before
    assert sender.transport.total < INITIAL_CREDIT + 1_000
    receiver.gated = False
    quick = started(sender.bulk.send("blob", "quick", chunks(bytes(1_000_000))))
    pump(sender, receiver)
    assert result_of(quick) is None
    assert not slow.called
    while sink.gates:
        sink.open_gate()
        pump(sender, receiver)
    assert result_of(slow) is None
    assert len(sink.data) == 1_000_000


def test_sender_returns_when_the_sink_is_finished(sides: tuple[Side, Side]) -> None:
    """The sender does not return before the sink has taken the last byte."""
    sender, receiver = sides
    receiver.gated = True
    sent = started(sender.bulk.send("blob", "one", chunks(b"x")))
    pump(sender, receiver)
    assert not sent.called
    receiver.sinks["one"].open_gate()
    pump(sender, receiver)
    assert result_of(sent) is None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("refused", "No stream of that kind is taken. (wire)"),
        ("broken", "The other daemon failed; its log has the details. (remote_fault)"),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_refused_stream(sides: tuple[Side, Side], kind: str, words: str, size: int) -> None:
    """The sender of a stream that is not wanted learns why, without a traceback; the connection lives."""
    sender, receiver = sides
    sent = started(sender.bulk.send(kind, "one", chunks(bytes(size))))
    pump(sender, receiver)
    with pytest.raises(RemoteFault) as fault:
        result_of(sent)
    assert str(fault.value) == words
    assert_alive(sender, receiver)


@pytest.mark.parametrize("fault", [StoreError("The disk is full."), ZeroDivisionError()])
@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_sink_that_fails(sides: tuple[Side, Side], fault: Exception, size: int) -> None:
    """A sink that raises, in write or finish, refuses the stream and is aborted; the connection lives."""
    sender, receiver = sides
    sent = started(sender.bulk.send("blob", "one", chunks(bytes(size))))
    receiver.bulk.dataReceived(sender.transport.written.pop(0))
    receiver.sinks["one"].fault = fault
    pump(sender, receiver)
    with pytest.raises(RemoteFault, match=r"disk is full|other daemon failed"):
        result_of(sent)
    assert receiver.sinks["one"].aborted is not None
    assert_alive(sender, receiver)


def assert_alive(sender: Side, receiver: Side) -> None:
    again = started(sender.bulk.send("blob", "again", chunks(b"again")))
    pump(sender, receiver)
    assert result_of(again) is None
    assert receiver.transport.aborted == sender.transport.aborted == 0


def test_source_that_fails(sides: tuple[Side, Side]) -> None:
    """What the iterator raises is raised by ``send``, and the sink is aborted."""
    sender, receiver = sides

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise ZeroDivisionError

    sent = started(sender.bulk.send("blob", "one", broken()))
    pump(sender, receiver)
    with pytest.raises(ZeroDivisionError):
        result_of(sent)
    assert receiver.sinks["one"].aborted == "the sender could not go on"
    assert not receiver.sinks["one"].finished
    assert_alive(sender, receiver)


def test_cancelled_sender(sides: tuple[Side, Side]) -> None:
    """A ``send`` that is cancelled aborts its stream and closes its source."""
    sender, receiver = sides
    source = Source()
    sent = started(sender.bulk.send("blob", "one", source))
    pump(sender, receiver)
    sent.addErrback(lambda fault: None)
    sent.cancel()
    pump(sender, receiver)
    assert source.closed
    assert receiver.sinks["one"].aborted is not None
    assert_alive(sender, receiver)


def test_refusal_ends_a_source_that_waits(sides: tuple[Side, Side]) -> None:
    """A refusal reaches a sender that waits for its own source."""
    sender, receiver = sides
    source = Source()
    sent = started(sender.bulk.send("refused", "one", source))
    pump(sender, receiver)
    with pytest.raises(RemoteFault):
        result_of(sent)
    assert source.closed


def test_lost_connection(sides: tuple[Side, Side]) -> None:
    """A lost connection ends all senders with ``LinkLost``, aborts all sinks, and is told once."""
    sender, receiver = sides
    receiver.gated = True
    source = Source()
    sent = [
        started(sender.bulk.send("blob", "waits for credit", chunks(bytes(1_000_000)))),
        started(sender.bulk.send("blob", "waits for done", chunks(b"x"))),
        started(sender.bulk.send("blob", "waits for its source", source)),
    ]
    pump(sender, receiver)
    for side in sides:
        side.lose()
    for one in sent:
        with pytest.raises(LinkLost):
            result_of(one)
    assert source.closed
    assert receiver.sinks["waits for its source"].aborted is not None
    # The others are in the middle of a write, and are aborted after it.
    for name in ("waits for credit", "waits for done"):
        assert receiver.sinks[name].aborted is None
        receiver.sinks[name].open_gate()
        assert receiver.sinks[name].aborted is not None
    assert (len(sender.lost), len(receiver.lost)) == (1, 1)
    with pytest.raises(LinkLost):
        result_of(started(sender.bulk.send("blob", "late", chunks(b"x"))))


def test_streams_wait_for_their_turn(sides: tuple[Side, Side]) -> None:
    """More streams than may be open wait, and all are sent."""
    sender, receiver = sides
    receiver.gated = True
    sent = [
        started(sender.bulk.send("blob", str(number), chunks(b"x"))) for number in range(STREAM_LIMIT + 5)
    ]
    pump(sender, receiver)
    assert len(receiver.sinks) == STREAM_LIMIT
    for number in range(STREAM_LIMIT + 5):
        receiver.sinks[str(number)].open_gate()
        pump(sender, receiver)
    assert [result_of(one) for one in sent] == [None] * (STREAM_LIMIT + 5)
    assert receiver.transport.aborted == 0


def test_streams_that_wait_end_with_the_connection(sides: tuple[Side, Side]) -> None:
    """A stream that waits for its turn fails when the connection is lost."""
    sender, receiver = sides
    receiver.gated = True
    sent = [
        started(sender.bulk.send("blob", str(number), chunks(b"x"))) for number in range(STREAM_LIMIT + 1)
    ]
    sender.lose()
    for one in sent:
        with pytest.raises(LinkLost):
            result_of(one)


def test_nothing_is_sent_before_the_welcome() -> None:
    """The side that dialled sends nothing before it was welcomed, and is ready then."""
    client, server = Side(True), Side(False)
    sent = started(client.bulk.send("blob", "one", chunks(b"x")))
    assert client.take() == b""
    server.bulk.welcome()
    pump(client, server)
    assert client.ready == 1
    assert result_of(sent) is None


OPEN = encode_texts(Kind.OPEN, 1, "blob", "one")


def test_tiny_chunks_take_no_memory() -> None:
    """Bytes that come one by one are held together while the sink is busy."""
    receiver = Side(False)
    receiver.bulk.welcome()
    receiver.gated = True
    receiver.bulk.dataReceived(OPEN + encode(Kind.DATA, 1, b"x") * 10_000)
    sink = receiver.sinks["one"]
    sink.open_gate()
    sink.open_gate()
    assert len(sink.data) == 10_000
    receiver.lose()


def test_answers_to_an_aborted_stream_are_ignored(sides: tuple[Side, Side]) -> None:
    """What a receiver said before it knew of the end of a stream does no harm."""
    sender, receiver = sides
    source = Source()
    sent = started(sender.bulk.send("blob", "one", source))
    source.give(b"x")
    receiver.bulk.dataReceived(sender.take())
    sent.addErrback(lambda fault: None)
    sent.cancel()
    pump(sender, receiver)
    assert_alive(sender, receiver)


def test_frames_may_be_cut_anywhere() -> None:
    """Frames are the same however their bytes arrive."""
    data = OPEN + encode(Kind.DATA, 1, b"hello") + encode(Kind.END, 1) + encode_credit(7, 9)
    whole = StreamFrameReader().feed(data)
    reader = StreamFrameReader()
    assert [frame for byte in data for frame in reader.feed(bytes([byte]))] == whole
    assert [kind for kind, _, _ in whole] == [Kind.OPEN, Kind.DATA, Kind.END, Kind.CREDIT]


def test_abort_waits_for_the_write() -> None:
    """A sink is never aborted while it writes."""
    forgotten: list[int] = []
    sink: Any = RecordingSink(gated=True)
    stream = IncomingStream(1, lambda frame: None, forgotten.append)
    stream.start(sink)
    stream.receive(b"x")
    stream.abort("gone")
    assert (sink.aborted, forgotten) == (None, [])
    sink.open_gate()
    assert (sink.aborted, forgotten) == ("gone", [1])
