# SPDX-License-Identifier: MIT
"""Room for large results: what is let in fits together, and nobody waits for ever."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from pydra.cluster.node.room import LOOK_S, PATIENCE_S, SLOWEST, Claim, Room
from pydra.errors import WireError

LIMIT = 100


class Held:
    """What the outbox holds."""

    size = 0
    blob_bytes = 0


class Bench:
    """A room, and who was let in."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.held = Held()
        self.room = Room(self.clock, cast(Any, self.held), LIMIT)
        self.let_in: list[int] = []
        self.too_slow: list[int] = []

    def claim(self, size: int) -> Claim:
        """Ask for room."""
        claim = self.room.claim(
            size, lambda: self.let_in.append(size), lambda: self.too_slow.append(claim.left)
        )
        return claim

    def advance(self, seconds: float) -> None:
        """Time goes by in looks."""
        for _ in range(round(seconds / LOOK_S)):
            self.clock.advance(LOOK_S)

    def hold(self, size: int) -> None:
        """So much is in the outbox."""
        self.held.size = self.held.blob_bytes = size


@pytest.fixture
def bench() -> Bench:
    """An empty outbox."""
    return Bench()


def test_what_fits_together_is_let_in_at_once(bench: Bench) -> None:
    """And what does not waits for an end, in its turn, also if a later one would fit."""
    first, second = bench.claim(60), bench.claim(40)
    assert [60, 40] == bench.let_in
    third, small = bench.claim(50), bench.claim(1)
    assert [60, 40] == bench.let_in
    second.end()
    assert [60, 40] == bench.let_in
    first.end()
    assert [60, 40, 50, 1] == bench.let_in
    third.end()
    small.end()
    assert not bench.clock.getDelayedCalls()


def test_what_came_is_not_counted_twice(bench: Bench) -> None:
    """Bytes that came are in the outbox; only those that are still to come are kept free besides."""
    first = bench.claim(80)
    first.take(70)
    bench.hold(70)
    second = bench.claim(20)
    assert [80, 20] == bench.let_in
    third = bench.claim(1)
    assert not third.is_granted
    for claim in (third, first, second):
        claim.end()


def test_room_comes_when_results_are_recorded(bench: Bench) -> None:
    """That is looked for while somebody waits."""
    bench.hold(90)
    claim = bench.claim(20)
    assert not claim.is_granted
    bench.clock.advance(LOOK_S)
    assert not claim.is_granted
    bench.hold(80)
    bench.clock.advance(LOOK_S)
    assert claim.is_granted
    assert not bench.clock.getDelayedCalls()
    claim.end()


def test_the_largest_comes_alone(bench: Bench) -> None:
    """One that is larger than the outbox is let in when there is no other, and others then wait for it."""
    small = bench.claim(1)
    large = bench.claim(LIMIT + 1)
    assert not large.is_granted
    small.end()
    assert large.is_granted
    other = bench.claim(1)
    assert not other.is_granted
    large.end()
    assert other.is_granted
    other.end()


def test_the_largest_waits_for_results_that_are_not_recorded(bench: Bench) -> None:
    """They are in the outbox still."""
    bench.hold(1)
    large = bench.claim(LIMIT + 1)
    assert not large.is_granted
    bench.hold(0)
    bench.clock.advance(LOOK_S)
    assert large.is_granted
    large.end()


def test_who_waits_may_go(bench: Bench) -> None:
    """A claim that ends before it was granted never is, and no timer is left."""
    first, second = bench.claim(100), bench.claim(100)
    second.end()
    second.end()
    first.end()
    assert [100] == bench.let_in
    assert not bench.clock.getDelayedCalls()


def test_more_than_was_announced(bench: Bench) -> None:
    """It is a fault of the worker."""
    claim = bench.claim(10)
    claim.take(10)
    with pytest.raises(WireError, match="longer"):
        claim.take(1)
    claim.end()


@pytest.mark.parametrize("a_second", [0, SLOWEST // 2])
def test_who_sends_nothing_while_others_wait(bench: Bench, a_second: int) -> None:
    """It is told of, after a while; and so is who sends a little, again and again."""
    first, second = bench.claim(1000 * SLOWEST), bench.claim(1)
    for _ in range(2 * int(PATIENCE_S) + 5):
        first.take(a_second)
        bench.advance(1.0)
    assert bench.too_slow
    assert not second.is_granted
    first.end()
    assert second.is_granted
    second.end()
    assert not bench.clock.getDelayedCalls()


def test_others_come_and_go(bench: Bench) -> None:
    """However often they do while one waits, who sends nothing is told of."""
    first, second = bench.claim(80), bench.claim(80)
    for _ in range(2 * round(PATIENCE_S / LOOK_S)):
        bench.clock.advance(LOOK_S / 2)
        bench.claim(30).end()
    assert bench.too_slow
    for claim in (second, first):
        claim.end()
    assert not bench.clock.getDelayedCalls()


def test_who_sends_fast_enough(bench: Bench) -> None:
    """It may go on for hours while others wait, as may one that this node keeps from sending."""
    first, second = bench.claim(100_000 * SLOWEST), bench.claim(1)
    for _ in range(100):
        first.take(30 * SLOWEST)
        bench.advance(30.0)
    first.is_held_up = True
    bench.advance(2 * PATIENCE_S)
    first.is_held_up = False
    bench.advance(PATIENCE_S - 31.0)
    assert [] == bench.too_slow
    for claim in (second, first):
        claim.end()


def test_who_sends_nothing_while_nobody_waits(bench: Bench) -> None:
    """It disturbs nobody, and costs nothing."""
    first = bench.claim(80)
    assert not bench.clock.getDelayedCalls()
    bench.clock.advance(10 * PATIENCE_S)
    second = bench.claim(80)
    bench.advance(PATIENCE_S - 1.0)
    assert [] == bench.too_slow
    second.end()
    first.end()
