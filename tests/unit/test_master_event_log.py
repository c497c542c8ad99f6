# SPDX-License-Identifier: MIT
"""Numbers of events, and waiting for news of an instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.event_log import EventLog
from pydra.events import Event, InstanceChanged, InstanceProgressed, NodeChanged, PackageChanged
from pydra.model.ids import InstanceId, NodeId, PackageName
from pydra.model.status import Status
from tests.support.pumps import result_of

EPOCH = 7
FIRST = EPOCH << 32
ONE, TWO = InstanceId(1), InstanceId(2)
CHANGED = InstanceChanged(ONE, Status.RUNNING)


class Bench:
    """A log that remembers three instances."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.log = EventLog(self.clock, EPOCH, remembered=3)

    def news(self, instance: InstanceId = ONE, timeout_s: float = 10.0) -> Deferred[None]:
        """Somebody waits."""
        return Deferred.fromCoroutine(self.log.news(instance, timeout_s))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An empty log; in the end nobody waits and no timer is left."""
    bench = Bench()
    yield bench
    assert {} == bench.log._waiters
    assert [] == bench.clock.getDelayedCalls()


def test_numbers(bench: Bench) -> None:
    """Events are numbered one by one, whatever they are about."""
    events: list[Event] = [CHANGED, NodeChanged(NodeId(1), True), PackageChanged(PackageName("demo"), None)]
    assert [1, 2, 3] == [bench.log.publish(event) - FIRST for event in events]


def test_latest(bench: Bench) -> None:
    """The number of the latest event of an instance; that before all for one that has none."""
    bench.log.publish(CHANGED)
    bench.log.publish(InstanceProgressed(ONE, 5, None))
    bench.log.publish(InstanceChanged(TWO, Status.QUEUED))
    assert [2, 3, 0] == [bench.log.latest(InstanceId(number)) - FIRST for number in (1, 2, 3)]


def test_who_wakes_up_may_publish(bench: Bench) -> None:
    """Followers are told every event in its order, also those of whom another event woke up."""
    told: list[tuple[int, Event]] = []
    bench.log.follow(lambda number, event: told.append((number, event)))
    other = InstanceChanged(TWO, Status.QUEUED)
    bench.news().addCallback(lambda _: bench.log.publish(other))
    assert FIRST + 1 == bench.log.publish(CHANGED)
    assert [(FIRST + 1, CHANGED), (FIRST + 2, other)] == told


def test_only_so_many_are_remembered(bench: Bench) -> None:
    """The latest of those instances that had an event last are known, others count as without one."""
    for number in (1, 2, 3, 1, 4):
        bench.log.publish(InstanceChanged(InstanceId(number), Status.QUEUED))
    latest = [bench.log.latest(InstanceId(number)) - FIRST for number in (1, 2, 3, 4)]
    assert [4, 0, 3, 5] == latest
    assert 3 == len(bench.log._latest)


def test_masters_give_other_numbers(bench: Bench) -> None:
    """What was seen of one master is never the latest of the next one, whether there was an event or not."""
    seen = {bench.log.latest(ONE), bench.log.publish(CHANGED), bench.log.publish(CHANGED)}
    later = EventLog(bench.clock, EPOCH + 1)
    assert not seen & {later.latest(ONE), later.publish(CHANGED), later.latest(ONE)}


def test_news(bench: Bench) -> None:
    """All who wait for an instance are woken by its next event, and not by that of another."""
    waiting = [bench.news(), bench.news(), bench.news(TWO)]
    bench.log.publish(NodeChanged(NodeId(1), True))
    assert [False] * 3 == [each.called for each in waiting]
    bench.log.publish(CHANGED)
    assert [True, True, False] == [each.called for each in waiting]
    bench.log.publish(InstanceProgressed(TWO, 1, None))
    assert result_of(waiting[2]) is None


def test_wake(bench: Bench) -> None:
    """Who waits can be woken without an event."""
    waiting = bench.news()
    bench.log.wake(TWO)
    assert not waiting.called
    bench.log.wake(ONE)
    assert waiting.called
    assert FIRST == bench.log.latest(ONE)


def test_timeout(bench: Bench) -> None:
    """Without news each waits for its own time."""
    short, long = bench.news(timeout_s=1.0), bench.news(timeout_s=2.0)
    bench.clock.advance(1)
    assert [True, False] == [short.called, long.called]
    bench.clock.advance(1)
    assert result_of(long) is None


def test_a_waiter_that_goes_away(bench: Bench) -> None:
    """Who goes away leaves nothing behind, and the others wait on."""
    gone, stays = bench.news(), bench.news()
    gone.cancel()
    with pytest.raises(CancelledError):
        result_of(gone)
    assert not stays.called
    bench.log.publish(CHANGED)
    assert stays.called


def test_a_waiter_that_waits_again(bench: Bench) -> None:
    """Who waits again when it is woken waits for the next event."""
    again: list[Deferred[None]] = []
    bench.news().addCallback(lambda _: again.append(bench.news()))
    bench.log.publish(CHANGED)
    assert not again[0].called
    bench.log.publish(CHANGED)
    assert again[0].called


def test_a_waiter_that_sends_another_away(bench: Bench) -> None:
    """Who is woken may cancel somebody who is woken too."""
    waiting: list[Deferred[None]] = []
    first = bench.news()
    first.addCallback(lambda _: waiting[0].cancel())
    waiting.append(bench.news())
    waiting[0].addErrback(lambda fault: fault.trap(CancelledError) and None)
    bench.log.publish(CHANGED)
    assert result_of(waiting[0]) is None


def test_news_and_time_at_once(bench: Bench) -> None:
    """An event at the very end of the time wakes once."""
    waiting = bench.news(timeout_s=0.0)
    bench.log.publish(CHANGED)
    bench.clock.advance(0)
    assert result_of(waiting) is None


def test_followers_hear_of_every_event(bench: Bench) -> None:
    """Each event with its number, after those who wait for it can see it."""
    heard: list[tuple[int, Event]] = []
    bench.log.follow(lambda number, event: heard.append((number, event)))
    bench.log.publish(CHANGED)
    bench.log.publish(NodeChanged(NodeId(1), connected=True))

    assert [(FIRST + 1, CHANGED), (FIRST + 2, NodeChanged(NodeId(1), connected=True))] == heard
