# SPDX-License-Identifier: MIT
"""WebSockets of the real server over TLS: flow control in both directions, and the end of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from benchmarks.session_client import SessionClient
from pydra.cluster.controller.session_messages import (
    SUBPROTOCOL,
    Attach,
    Close,
    Open,
    Results,
    Units,
    decode_to_session,
    encode,
)
from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.interfaces import Socket
from tests.support.controllers import Desk, RunningServer, keys, running_server
from tests.support.daemons import wait_until

PART = b"x" * 65_536
LIMITS = Limits(unsent=1024 * 1024, linger_s=0.5)


@attrs.define
class Spout:
    """
    A speaker for tests.

    Attach(n) is answered by n messages as there is room, Open by 100 at once; after Close nothing is read
    any more; Units are counted.
    """

    socket: Socket
    left: int = 0
    bytes: int = 0
    waited: int = 0
    losses: int = 0

    def received(self, message: bytes | str) -> None:
        """Do as told."""
        assert isinstance(message, bytes)
        match decode_to_session(message):
            case Attach(instance=count):
                self.left = count
                self.unblocked()
            case Open():
                for _ in range(100):
                    self._send()
            case Close():
                self.socket.pause(True)
            case Units(args=args):
                self.bytes += sum(map(len, args))

    def unblocked(self) -> None:
        """Send while there is room."""
        while self.left and self.socket.has_room:
            self.left -= 1
            self._send()
        self.waited += bool(self.left)

    def lost(self) -> None:
        """It is over."""
        self.losses += 1

    def _send(self) -> None:
        self.socket.send(encode(Results([self.left], [PART])))


spouts: list[Spout] = []


def spout(socket: Socket) -> Spout:
    spouts.append(Spout(socket))
    return spouts[-1]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(Desk().commands("cluster_info"), LIMITS, {SUBPROTOCOL: spout}) as server:
        yield server


@pytest.fixture
def connect(server: RunningServer, tmp_path: Path) -> Iterator[Callable[[], SessionClient]]:
    key = keys().write(tmp_path / "master.key")
    with ExitStack() as stack:
        yield lambda: stack.enter_context(SessionClient("127.0.0.1", server.port, key))


Connect = Callable[[], SessionClient]


def test_what_a_slow_reader_is_owed_waits_where_it_is(server: RunningServer, connect: Connect) -> None:
    """The speaker is told that there is no room, and goes on when there is; everything arrives."""
    client = connect()
    client.say(Attach(500))
    wait_until(lambda: spouts[-1].waited)
    time.sleep(0.3)  # noqa: TID251 - a reader that is slow
    assert spouts[-1].left > 300
    for _ in range(500):
        client.take()

    assert set(range(500)) == set(client.results)
    assert {PART} == set(client.results.values())


def test_who_sends_without_room_costs_the_socket(connect: Connect) -> None:
    """What is held for a reader is bounded; one that reads in the end hears why."""
    client = connect()
    client.say(Open("flood"))
    wait_until(lambda: spouts[-1].losses)

    assert client.take_until_closed()[0] in (1008, 1006)


def test_a_master_that_does_not_read_is_felt(connect: Connect) -> None:
    """Once the socket is paused, the client can send no more than fits on the way."""
    client = connect()
    client.say(Close())
    client._socket.settimeout(0.5)
    sent = 0
    with pytest.raises(OSError, match="timed out"):  # noqa: PT012 - it is not known which does not fit
        while sent < 64 * 2**20:
            client.say(Units(0, [PART] * 8))
            sent += 8 * len(PART)

    assert sent < 32 * 2**20
    assert 0 == spouts[-1].bytes


def test_small_messages_leave_at_once(server: RunningServer, connect: Connect) -> None:
    """The connection does not wait for acknowledgements of small segments."""
    connect()
    (delays,) = {
        bool(channel.transport.getTcpNoDelay())
        for channel in server.run(lambda: list(server._service._factory.channels))  # type: ignore[union-attr]
    }
    assert delays is True


def test_a_service_that_stops_says_so(server: RunningServer, connect: Connect) -> None:
    """1001 to those who listen and to those who do not; and nothing hangs."""
    listening, deaf = connect(), connect()
    listening.say(Units(0, [b""]))
    deaf.say(Attach(500))
    wait_until(lambda: spouts[-1].waited)
    server.stop()
    server.start()

    assert (1001, "The master is stopping.") == listening.take_until_closed()
    assert deaf.take_until_closed()[0] in (1001, 1006)
    assert all(each.losses == 1 for each in spouts[-2:])
