# SPDX-License-Identifier: MIT
"""One WebSocket: messages within limits, pings, flow control, and its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogLevel, globalLogPublisher
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import Opcode

from pydra.cluster.controller.web.bounds import Limits
from tests.support.controllers import Desk, MemoryServer
from tests.support.websockets import NAME, Ears, Peer, codes, frame, plain

LIMITS = Limits(body=10_000, linger=5_000, unsent=1_000, fragments=50)


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def server(ears: Ears) -> Iterator[MemoryServer]:
    server = MemoryServer(Desk().commands("cluster_info"), LIMITS, speakers={NAME: ears.open})
    yield server
    server.close()
    assert all(each.losses == 1 for each in ears.all)


@pytest.fixture
def peer(server: MemoryServer) -> Peer:
    return Peer(server)


def reading(peer: Peer) -> bool:
    """Whether the server reads from the peer."""
    return peer.connection.transport.producerState == "producing"


@pytest.mark.parametrize("cut", [0, 1, 2, 7])
def test_messages_arrive_whole_and_in_order(peer: Peer, ears: Ears, cut: int) -> None:
    """Text and binary, empty and fragmented, however the bytes are cut."""
    messages = [
        BytesMessage(b"a" * 300),
        TextMessage("t\u00fc"),
        BytesMessage(b""),
        BytesMessage(b"one", message_finished=False),
        Ping(b"between"),
        BytesMessage(b"", message_finished=False),
        BytesMessage(b"two"),
        TextMessage("\u00fc", message_finished=False),
        TextMessage(""),
    ]
    came = peer.raw(b"".join(bytes(peer._wire.send(each)) for each in messages), cut)

    assert [b"a" * 300, "t\u00fc", b"", b"onetwo", "\u00fc"] == ears.last.heard
    assert [("Pong", b"between")] == plain(came)


def test_what_the_speaker_sends_arrives(peer: Peer, ears: Ears) -> None:
    """Bytes are sent as binary, text as text."""
    peer.say(b"hello")
    ears.last.socket.send(b"\x00\x01")
    ears.last.socket.send("t\u00fc")

    assert [b"\x00\x01", "t\u00fc"] == plain(peer.heard())


@pytest.mark.parametrize(
    "messages",
    [
        [BytesMessage(b"a" * 10_001)],
        [TextMessage("a" * 10_001)],
        [BytesMessage(b"a" * 6_000, message_finished=False), BytesMessage(b"a" * 6_000)],
        [BytesMessage(b"", message_finished=False)] * 51,
    ],
)
def test_a_message_beyond_the_limit_ends_the_socket(
    peer: Peer, ears: Ears, messages: list[BytesMessage]
) -> None:
    """Too many bytes or too many frames of one message: 1009, and nothing was delivered."""
    assert [1009] == codes(peer.send(*messages))
    assert [] == ears.last.heard
    peer.agree()
    assert peer.is_closed


def test_the_announcement_of_a_huge_frame_costs_nothing(peer: Peer, ears: Ears) -> None:
    """A frame of an exabyte is refused once more than the limit of it came."""
    head = bytes([0x82, 0xFF]) + (2**60).to_bytes(8, "big") + bytes(4)

    assert [] == peer.raw(head + bytes(9_000))
    assert [1009] == codes(peer.raw(bytes(2_000)))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes([0x82, 0x01, 0x00]), 1002),  # not masked
        (bytes([0xC2, 0x80]) + bytes(4), 1002),  # compressed, which was not agreed upon
        (bytes([0x83, 0x80]) + bytes(4), 1002),  # no such kind of frame
        (bytes([0x09, 0x80]) + bytes(4), 1002),  # a ping in parts
        (bytes([0x89, 0xFE, 0x01, 0x00]) + bytes(4), 1002),  # a ping of 256 bytes
        (frame(Opcode.CONTINUATION, b"x"), 1002),
        (frame(Opcode.BINARY, b"x", fin=False) + frame(Opcode.BINARY, b"x"), 1002),
        (frame(Opcode.TEXT, b"\xff"), 1007),
        (frame(Opcode.TEXT, b"\xc3"), 1007),
        (frame(Opcode.CLOSE, b"\x03"), 1002),
        (frame(Opcode.CLOSE, b"\x03\xee"), 1002),
        (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
@pytest.mark.parametrize("cut", [0, 1])
def test_what_is_no_websocket_ends_it(peer: Peer, ears: Ears, data: bytes, code: int, cut: int) -> None:
    """Broken frames are answered by a close with the code of RFC 6455, and what follows is dropped."""
    assert [code] == codes(peer.raw(data, cut))
    peer.raw(frame(Opcode.BINARY, b"after"))
    assert [] == ears.last.heard
    assert 1 == ears.last.losses


def test_the_peer_may_end_it(peer: Peer, ears: Ears) -> None:
    """A close of the peer is agreed to, and the connection closed."""
    peer.say(b"hello")

    assert [1000] == codes(peer.send(CloseConnection(1000)))
    assert peer.is_closed
    assert 1 == ears.last.losses
    ears.last.socket.send(b"too late")
    ears.last.socket.close(1000)
    assert [] == peer.heard()


def test_the_speaker_may_end_it(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """The close says why; the connection is closed when the peer agreed."""
    ears.last.socket.close(4001, "because")

    (event,) = peer.heard()
    assert isinstance(event, CloseConnection)
    assert (4001, "because") == (event.code, event.reason)
    assert not peer.is_closed
    peer.agree()
    assert peer.is_closed


def test_a_peer_that_does_not_agree_is_cut_off(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """After a close, the peer has a moment, and may send a little that nobody hears."""
    ears.last.socket.close(1000)
    server.clock.advance(LIMITS.linger_s)

    assert peer.is_closed
    other = Peer(server)
    ears.last.socket.close(1000)
    other.say(b"a" * 3_000, b"a" * 3_000)
    assert other.is_closed
    assert [] == ears.last.heard


def test_who_says_nothing_is_sent_away(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """Between the upgrade and the first message there are ten seconds."""
    server.clock.advance(LIMITS.first_message_s - 1)
    assert [] == peer.send(Ping(b""))[1:]
    server.clock.advance(1)

    assert [1008] == codes(peer.heard())
    assert 1 == ears.last.losses


def test_a_peer_is_pinged_and_dropped_when_it_is_silent(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """A ping every 20 seconds; two without any sign of life are the end, without a close."""
    peer.say(b"hello")
    for _ in range(5):
        server.clock.advance(LIMITS.ping_s)
        assert [("Ping", b"")] == plain(peer.heard())
        peer.send(Pong())
    for _ in range(2):
        server.clock.advance(LIMITS.ping_s)
        assert not peer.is_closed
    server.clock.advance(LIMITS.ping_s)

    assert peer.connection.transport.disconnected or peer.is_closed
    assert 1 == ears.last.losses


def test_the_end_of_a_login_ends_its_sockets(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """Once the token is not valid any more, the next ping is a close."""
    peer.say(b"hello")
    server.clock.advance(LIMITS.ping_s)
    peer.send(Pong())
    server.authentication._tokens._live.clear()
    server.clock.advance(LIMITS.ping_s)

    assert [1008] == plain(peer.heard())


def test_a_paused_socket_delivers_later(peer: Peer, ears: Ears) -> None:
    """While the speaker wants a pause nothing is read; what has come is delivered afterwards, in order."""
    peer.say(b"1")
    ears.last.socket.pause(True)
    assert not reading(peer)
    peer.say(b"2", b"3")
    assert [b"1"] == ears.last.heard
    ears.last.socket.pause(False)

    assert [b"1", b"2", b"3"] == ears.last.heard
    assert reading(peer)


def test_a_pause_in_the_middle_of_a_read_holds(peer: Peer, ears: Ears) -> None:
    """A speaker may pause while it is told a message, even of many that came at once."""
    ear = ears.last
    ear.then = lambda: ear.socket.pause(True)
    peer.say(b"1", b"2", b"3")
    assert [b"1"] == ear.heard
    ear.socket.pause(False)
    assert [b"1", b"2"] == ear.heard


def test_a_paused_peer_is_not_taken_for_dead(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """While we do not read, its answers to pings cannot be seen."""
    peer.say(b"hello")
    ears.last.socket.pause(True)
    for _ in range(6):
        server.clock.advance(LIMITS.ping_s)

    assert [("Ping", b"")] * 6 == plain(peer.heard())
    assert not peer.is_closed


def test_a_peer_that_reads_too_slowly_is_told_to_go(peer: Peer, ears: Ears) -> None:
    """What is held for a peer is bounded; the speaker sees that it should wait."""
    peer.say(b"hello")
    socket = ears.last.socket
    peer.connection.channel.pauseProducing()
    assert socket.has_room
    socket.send(b"a" * 600)
    assert not socket.has_room
    socket.send(b"a" * 600)
    socket.send(b"a" * 600)

    assert [1008] == codes(peer.heard())
    assert 1 == ears.last.losses


def test_the_speaker_hears_when_there_is_room(peer: Peer, ears: Ears) -> None:
    """Once the peer reads again, what was held counts no more, and the latest ping is answered."""
    peer.say(b"hello")
    peer.connection.channel.pauseProducing()
    ears.last.socket.send(b"a" * 900)
    assert [b"a" * 900] == plain(peer.send(Ping(b"1"), Ping(b"2")))
    peer.connection.channel.resumeProducing()

    assert [("Pong", b"2")] == plain(peer.heard())
    assert ears.last.socket.has_room
    assert 1 == ears.last.unblocks


def test_a_peer_that_never_reads_is_dropped(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """Even if we do not read either."""
    peer.say(b"hello")
    ears.last.socket.pause(True)
    peer.connection.channel.pauseProducing()
    for _ in range(3):
        server.clock.advance(LIMITS.ping_s)

    assert 1 == ears.last.losses


def test_a_fault_of_the_speaker_costs_its_socket_only(peer: Peer, ears: Ears) -> None:
    """An internal error is logged; the peer hears 1011 and nothing of what it was."""
    logged: list[object] = []

    def observe(event: dict[str, object]) -> None:
        if event["log_level"] is LogLevel.critical:
            logged.append(event["log_failure"])

    ears.last.then = lambda: 1 // 0
    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        (event,) = peer.say(b"hello")
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert isinstance(event, CloseConnection)
    assert 1011 == event.code
    assert "division" not in (event.reason or "")
    assert 1 == len(logged)


def test_a_lost_connection_is_told_once(server: MemoryServer, peer: Peer, ears: Ears) -> None:
    """The speaker hears of it, and no timer stays."""
    peer.say(b"hello")
    peer.connection.close()

    assert 1 == ears.last.losses
    assert [] == server.clock.getDelayedCalls()


def test_sockets_count_as_connections(ears: Ears) -> None:
    """An upgraded connection has its place among those that one address may have."""
    server = MemoryServer(
        Desk().commands("cluster_info"), Limits(connections_per_address=1), speakers={NAME: ears.open}
    )
    peer = Peer(server)

    class Address:
        host = peer.connection.channel.address

    assert not server.factory.admits(Address())  # type: ignore[arg-type]
    peer.connection.close()
    assert server.factory.admits(Address())  # type: ignore[arg-type]
    server.close()
