# SPDX-License-Identifier: MIT
"""Things that were asked of the master: asked once, given to all who wait, asked again on a new link."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.node.arrivals import Arrivals
from pydra.cluster.wire.messages import BlobWanted, ToMaster
from pydra.errors import LoadError
from tests.support.pumps import result_of


class Bench:
    """Arrivals whose requests are kept."""

    def __init__(self) -> None:
        self.asked: list[ToMaster] = []
        self.arrivals: Arrivals[int] = Arrivals(self.ask)

    def ask(self, request: ToMaster) -> bool:
        """Where requests go."""
        self.asked.append(request)
        return True

    def wait(self, name: str) -> Deferred[int]:
        """Somebody waits."""
        return Deferred.fromCoroutine(self.arrivals.wait(name, BlobWanted(name)))


@pytest.fixture
def bench() -> Bench:
    """Nobody waits."""
    return Bench()


def test_one_request_for_all(bench: Bench) -> None:
    """Who waits for the same thing shares one request, and all get it."""
    waiters = [bench.wait("a"), bench.wait("a"), bench.wait("b")]
    assert [BlobWanted("a"), BlobWanted("b")] == bench.asked
    bench.arrivals.arrived("a", 5)
    assert [5, 5] == [result_of(waiter) for waiter in waiters[:2]]
    assert not waiters[2].called
    assert [False, True] == [bench.arrivals.is_awaited(name) for name in "ab"]


def test_asked_again(bench: Bench) -> None:
    """On a new link what is outstanding is asked again, and nothing else."""
    bench.wait("a")
    bench.wait("b")
    bench.arrivals.arrived("a", 1)
    bench.asked.clear()
    bench.arrivals.ask_again()
    assert [BlobWanted("b")] == bench.asked


def test_failed(bench: Bench) -> None:
    """What does not come fails for all who wait, and the next one asks anew."""
    waiters = [bench.wait("a"), bench.wait("a")]
    bench.arrivals.failed("a", LoadError("There is none."))
    for waiter in waiters:
        with pytest.raises(LoadError, match="There is none"):
            result_of(waiter)
    bench.wait("a")
    assert 2 == len(bench.asked)


def test_nobody_waits(bench: Bench) -> None:
    """What nobody asked for changes nothing."""
    bench.arrivals.arrived("a", 1)
    bench.arrivals.failed("b", LoadError())
    assert not bench.arrivals.is_awaited("a")


def test_a_waiter_that_waits_again(bench: Bench) -> None:
    """Who asks again as soon as it is told gets an arrival of its own."""
    again: list[Deferred[int]] = []
    bench.wait("a").addCallback(lambda _: again.append(bench.wait("a")))
    bench.arrivals.arrived("a", 1)
    assert 2 == len(bench.asked)
    bench.arrivals.arrived("a", 2)
    assert 2 == result_of(again[0])
