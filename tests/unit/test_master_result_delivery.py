# SPDX-License-Identifier: MIT
"""Results go to a node as fast as it takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from pydra.cluster.master.units.delivery import BACKLOG_LIMIT, LOOK_S, ResultDelivery
from pydra.cluster.wire.messages import UnitResults
from pydra.model.ids import Attempt


class SlowLink:
    """A ``Link`` whose backlog the test sets; each message adds what it ``adds``."""

    def __init__(self) -> None:
        self.size = 0
        self.adds = 0
        self.sent: list[int] = []

    def backlog(self) -> int:
        """Bytes that wait."""
        return self.size

    def send(self, message: Any) -> None:
        """Keep the first index."""
        self.sent.append(message.indexes[0])
        self.size += self.adds

    def close(self, reason: str) -> None:
        """Nothing."""


def result(index: int) -> UnitResults:
    """One result."""
    return UnitResults(Attempt(1, 1), "Sub", [index], [b""])


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Time, of which nothing may be left to do."""
    clock = Clock()
    yield clock
    assert [] == clock.getDelayedCalls()


def test_a_link_that_keeps_up(clock: Clock) -> None:
    """Results are sent at once."""
    link, delivery = SlowLink(), ResultDelivery(clock)
    for index in range(3):
        delivery.send(link, result(index))
    assert [0, 1, 2] == link.sent


def test_a_link_that_is_behind(clock: Clock) -> None:
    """What there is no room for waits, in its order, and so does all after it."""
    link, delivery = SlowLink(), ResultDelivery(clock)
    link.size, link.adds = BACKLOG_LIMIT, 1
    for index in range(4):
        delivery.send(link, result(index))
    assert [0] == link.sent
    clock.advance(LOOK_S)
    assert [0] == link.sent
    link.size = BACKLOG_LIMIT - 1
    delivery.send(link, result(4))
    assert [0] == link.sent
    clock.advance(LOOK_S)
    assert [0, 1, 2] == link.sent
    link.size = 0
    clock.advance(LOOK_S)
    assert [0, 1, 2, 3, 4] == link.sent


def test_a_link_that_goes_down(clock: Clock) -> None:
    """What waited is dropped: it is asked for again."""
    link, delivery = SlowLink(), ResultDelivery(clock)
    link.size = BACKLOG_LIMIT + 1
    delivery.send(link, result(0))
    delivery.reset()
    delivery.reset()
    clock.advance(LOOK_S)
    assert [] == link.sent
    other = SlowLink()
    delivery.send(other, result(1))
    assert [1] == other.sent
