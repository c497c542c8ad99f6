# SPDX-License-Identifier: MIT
"""What is written at once, and what in a later turn of the reactor."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from pydra.cluster.wire.at_once import write_at_once
from pydra.cluster.wire.wide_tls import RECORD
from tests.support.at_once import Socket, Tls


class Bench:
    """A transport that writes at once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.socket = Socket(self.clock)
        self.tls = Tls(self.clock, self.socket)
        write_at_once(self.clock, self.tls)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_first_of_a_turn_is_sent_at_once(bench: Bench) -> None:
    """What follows is collected, and goes as one; the next turn has a first again."""
    for data in (b"1", b"2", b"3"):
        bench.tls.write(data)
    assert [b"<1>"] == bench.socket.sent
    bench.clock.advance(0)
    bench.socket.doWrite()
    assert [b"<1>", b"<23>"] == bench.socket.sent
    bench.tls.write(b"4")
    assert b"<4>" == bench.socket.sent[-1]
    bench.clock.advance(0)
    assert [] == bench.clock.getDelayedCalls()


def test_the_order_stays(bench: Bench) -> None:
    """What was collected in the turn before goes before what is written at once."""
    bench.tls.write(b"1")
    bench.clock.callLater(0, bench.tls.write, b"3")
    bench.tls.write(b"2")
    bench.clock.advance(0)
    bench.socket.doWrite()
    assert b"<1><2><3>" == b"".join(bench.socket.sent)


def test_a_socket_without_room(bench: Bench) -> None:
    """It gets the rest in a later turn, and what comes meanwhile after it."""
    bench.socket.room = 2
    bench.tls.write(b"first")
    bench.clock.advance(0)
    bench.tls.write(b"second")
    assert [b"<f"] == bench.socket.sent
    bench.socket.room = 100
    bench.socket.doWrite()
    assert b"<first><second>" == b"".join(bench.socket.sent)
    bench.clock.advance(0)


def test_what_is_long_is_collected(bench: Bench) -> None:
    """It takes its time anyway, and may make the transport full."""
    bench.tls.write(b"x" * (RECORD + 1))
    assert [] == bench.socket.sent
    bench.clock.advance(0)
    bench.socket.doWrite()
    assert RECORD + 3 == len(b"".join(bench.socket.sent))


def test_other_transports_are_left_alone() -> None:
    """Those of tests, say, which have no socket."""
    clock = Clock()
    tls = Tls(clock, object())
    before = tls.write
    write_at_once(clock, tls)
    write_at_once(clock, object())
    assert before == tls.write
