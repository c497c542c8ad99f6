# SPDX-License-Identifier: MIT
"""How much of a session may be on its way, and what happens beyond."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.controller.session_messages import (
    Close,
    Refused,
    Results,
    Stored,
    Units,
    encode,
)
from pydra.model.instance import Failure
from tests.support.sessions import SessionsBench, units

KEY = "0123456789abcdef"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SessionsBench]:
    bench = SessionsBench(tmp_path)
    yield bench
    bench.close()


def test_beyond_the_window_nothing_is_read(bench: SessionsBench) -> None:
    """Units that have no room wait, and the socket is paused, until results have gone out."""
    wire = bench.opened()
    wire.say(Units(0, [b""] * 9_999))
    assert not wire.is_paused
    assert [] == wire.say(units(20_000, 20_001), Close())
    assert wire.is_paused
    bench.record(0)

    assert [Results([0], [b"r0"]), Stored([20_000, 20_001], 2)] == wire.heard()
    assert not wire.is_paused
    assert [(1, {"complete": 1, "failed": 0, "queued": 10_000})] == bench.dispatcher.completed


def test_units_that_are_refused_make_room(bench: SessionsBench) -> None:
    """What is looked up counts as long as that takes, and what waits behind it goes on."""
    wire = bench.opened()
    wire.say(Units(0, [b"%d" % index for index in range(9_000)]))
    for start in range(0, 9_000, 1_000):
        bench.record(*range(start, start + 1_000))
    wire.heard()
    bench.store.wait()
    assert [] == wire.say(Units(0, [b"other"] * 9_000), Units(10_000, [b""] * 2_000))
    assert wire.is_paused
    bench.store.answer()

    assert [Refused, Stored] == [type(each) for each in wire.heard()]
    assert not wire.is_paused


def test_the_window_counts_bytes_too(bench: SessionsBench) -> None:
    """64 MiB of arguments may be outstanding."""
    wire = bench.opened()
    for number in range(1024):
        wire.say(Units(number, [b"x" * 65_536]))
    assert not wire.is_paused
    assert [] == wire.say(Units(2_000, [b"x"]))
    assert wire.is_paused


def test_more_units_than_the_window_are_refused(bench: SessionsBench) -> None:
    """What never has room is refused in words, and the session goes on."""
    wire = bench.opened()

    (refused,) = wire.say(Units(0, [b""] * 10_001))
    assert isinstance(refused, Refused)
    assert "limit" == refused.code
    assert 10_001 == len(refused.indexes)
    assert [Stored([1], 1)] == wire.say(units(1))


def test_a_client_that_does_not_read_is_owed(bench: SessionsBench) -> None:
    """Results without room are not held; they are read from the store again when there is room."""
    wire = bench.opened()
    wire.say(units(0, 1, 2))
    wire.has_room = False
    bench.record(0)
    bench.record(1, failures={0: Failure("failed", "no")})
    assert [] == wire.heard()
    wire.has_room = True
    wire.speaker.unblocked()
    bench.record(2)

    first, second = wire.heard()
    assert Results([0, 1], [b"r0", b""], {1: ("failed", "no", "")}) == first
    assert Results([2], [b"r2"]) == second


def test_many_results_are_told_in_parts(bench: SessionsBench) -> None:
    """Messages of results that were owed are bounded."""
    wire = bench.opened()
    wire.say(Units(0, [b""] * 60))
    wire.has_room = False
    bench.record(*range(60), results=[b"z" * 60_000] * 60, args=[b""] * 60)
    wire.has_room = True
    wire.speaker.unblocked()

    told = wire.heard()
    assert list(range(60)) == [index for each in told for index in each.indexes]
    assert max(sum(map(len, each.results)) for each in told) < 600_000


@pytest.mark.parametrize("has_room", [False, True])
def test_many_failures_are_told_in_parts(bench: SessionsBench, has_room: bool) -> None:
    """Failures with long tracebacks, owed or told at once, make no message that is too large for a client."""
    wire = bench.opened()
    wire.say(Units(0, [b""] * 60))
    wire.has_room = has_room
    failure = Failure("failed", "m" * 4_000, "t" * 60_000)
    bench.record(*range(60), failures=dict.fromkeys(range(60), failure), args=[b""] * 60)
    wire.has_room = True
    wire.speaker.unblocked()

    told = wire.heard()
    assert list(range(60)) == [index for each in told for index in each.indexes]
    assert 60 == sum(len(each.failures) for each in told)
    assert max(len(encode(each)) for each in told) < 700_000
