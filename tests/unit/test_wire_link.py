# SPDX-License-Identifier: MIT
"""Links: messages, batches, acknowledgements, time limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pydra.cluster.wire import link as links
from pydra.cluster.wire.messages import (
    BATCH_LIMIT,
    Heartbeat,
    MasterHello,
    StopUnit,
    ToNode,
    UnitFinished,
)
from pydra.errors import NotFound, WireError
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from tests.support.links import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A master and a node that are linked; they leave nothing behind."""
    made = Cluster().link()
    yield made
    made.stop()


def stop(number: int) -> StopUnit:
    return StopUnit(Attempt(1, number))


def large(number: int, size: int) -> UnitFinished:
    return UnitFinished(Attempt(1, number), "complete", Payload(size, bytes(size)))


def send(cluster: Cluster, *messages: ToNode) -> None:
    assert cluster.master.link is not None
    for message in messages:
        cluster.master.link.send(message)


def test_one_batch_a_turn(cluster: Cluster) -> None:
    """What is sent within one turn arrives as one batch, in order; the first alone, if the link is idle."""
    send(cluster, *map(stop, range(100)))
    cluster.network.advance(0)
    send(cluster, stop(100), stop(101))
    cluster.network.settle()
    rest = [stop(number) for number in range(1, 100)]
    assert cluster.node.log == ["up", [stop(0)], rest, [stop(100), stop(101)]]


def test_both_directions(cluster: Cluster) -> None:
    """Either side may send at any time."""
    assert cluster.node.link is not None
    send(cluster, MasterHello(1, 2, "0.1"))
    cluster.node.link.send(Heartbeat((Attempt(1, 1),)))
    cluster.network.settle()
    assert cluster.node.messages == [MasterHello(1, 2, "0.1")]
    assert cluster.master.messages == [Heartbeat((Attempt(1, 1),))]


def test_large_turns_are_split_in_order(cluster: Cluster) -> None:
    """More than one batch holds is split, and stays in order, however much is unacknowledged."""
    assert cluster.node.link is not None
    messages = [large(number, 100_000) for number in range(100)]
    for message in messages:
        cluster.node.link.send(message)
    cluster.network.settle()
    assert cluster.master.messages == messages
    assert all(len(batch) <= 3 for batch in cluster.master.log if isinstance(batch, list))


def test_unacknowledged_batches_are_bounded(cluster: Cluster) -> None:
    """While nothing is acknowledged, only so much is written; the rest waits and is not lost."""
    assert cluster.node.link is not None
    for transport in cluster.network.transports:
        transport.is_paused = True
    before = sum(transport.written for transport in cluster.network.transports)
    messages = [large(number, 300_000) for number in range(40)]
    for message in messages:
        cluster.node.link.send(message)
    cluster.network.settle()
    written = sum(transport.written for transport in cluster.network.transports) - before
    assert written < links.WINDOW_BYTES + 2 * BATCH_LIMIT
    for transport in cluster.network.transports:
        transport.is_paused = False
    cluster.network.settle()
    assert cluster.master.messages == messages


def test_too_large_message_is_refused_at_once(cluster: Cluster) -> None:
    """A message that no batch can hold is refused where it is sent, and the link lives."""
    assert cluster.node.link is not None
    with pytest.raises(WireError, match="too large"):
        cluster.node.link.send(large(1, BATCH_LIMIT))
    cluster.node.link.send(large(2, 10))
    cluster.network.settle()
    assert cluster.master.messages == [large(2, 10)]


def test_fast_sender_is_paced_not_dropped(cluster: Cluster) -> None:
    """Messages sent in very many turns share batches, so the peer never sees too many calls."""
    for number in range(10_000):
        send(cluster, stop(number))
        cluster.network.advance(0.0001)
        cluster.network.settle()
    cluster.network.run(0.1)
    assert cluster.node.messages == [stop(number) for number in range(10_000)]
    assert len(cluster.node.log) < 1_700
    assert cluster.node.states == ["up"]


def test_message_that_waited_for_its_turn_is_lost_with_the_link(cluster: Cluster) -> None:
    """What is sent after the end of a link goes nowhere, and raises nothing."""
    link = cluster.master.link
    assert link is not None
    cluster.network.drop()
    link.send(stop(1))
    cluster.network.settle()
    assert cluster.node.messages == []


def test_a_cut_is_told_in_words(cluster: Cluster) -> None:
    """That of a daemon that was killed, as most are."""
    cluster.network.drop()
    cluster.network.settle()
    for user in (cluster.master, cluster.node):
        _, words = user.log[1]
        assert words.endswith("the connection was cut")


def test_silent_link_ends(cluster: Cluster) -> None:
    """A ping that is not answered for 10 seconds closes both connections, and the user is told why."""
    cluster.network.run(21.0)
    for transport in cluster.network.transports:
        transport.is_paused = True
    cluster.network.run(9.0)
    assert cluster.master.states == cluster.node.states == ["up"]
    cluster.network.run(6.2)
    assert cluster.master.states[:2] == cluster.node.states[:2] == ["up", "down"]
    assert ("down", "the peer did not answer within 10 s") in (cluster.master.log[1], cluster.node.log[1])


def test_idle_link_lives(cluster: Cluster) -> None:
    """A link on which nobody says anything stays up."""
    cluster.network.run(300.0, tick=1.0)
    assert cluster.master.log == cluster.node.log == ["up"]


def test_close_tells_both_sides(cluster: Cluster) -> None:
    """Closing a link takes it down on both sides, and not from within the call."""
    assert cluster.node.link is not None
    cluster.node.link.close("an old master")
    cluster.node.link.close("again")
    assert cluster.node.log == ["up"]
    cluster.network.settle()
    assert cluster.node.log == ["up", ("down", "an old master")]
    assert cluster.master.states == ["up", "down"]


def test_nothing_is_told_after_close(cluster: Cluster) -> None:
    """After a side closed its link, it is told no message that was on its way."""
    assert cluster.node.link is not None
    send(cluster, stop(1))
    cluster.node.link.close("enough")
    cluster.network.settle()
    assert cluster.node.messages == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (NotFound("There is no such attempt."), "There is no such attempt. (not_found)"),
        (ZeroDivisionError("secret"), "The other daemon failed; its log has the details. (remote_fault)"),
    ],
)
def test_refused_messages_end_the_link(cluster: Cluster, fault: Exception, words: str) -> None:
    """A message that the peer cannot carry out ends the link, with its words and without its traceback."""

    def refuse(messages: Sequence[Any]) -> None:
        raise fault

    cluster.node.on_messages = refuse
    send(cluster, stop(1), stop(2))
    cluster.network.settle()
    assert cluster.master.log[1:2] == [("down", f"the peer refused a message: {words}")]
    assert cluster.node.states == ["up", "down"]


def test_what_a_master_may_not_say_ends_the_link(cluster: Cluster) -> None:
    """A message of the wrong direction is refused by the node."""
    assert cluster.master.link is not None
    cluster.master.link.send(large(1, 1))
    cluster.network.settle()
    assert cluster.node.messages == []
    assert "This is no batch from a master" in cluster.master.log[1][1]


def test_user_that_fails_at_link_up_costs_the_link(cluster: Cluster) -> None:
    """A user that raises when it is told of a link is told that the link is down."""

    def fail() -> None:
        raise ZeroDivisionError

    cluster.network.drop()
    cluster.master.on_up = fail
    cluster.network.run(0.4)
    cluster.master.on_up = lambda: None
    cluster.network.run(1.0)
    assert cluster.master.states[-2:] == ["down", "up"]
    assert cluster.master.states.count("up") == cluster.master.states.count("down") + 1


def test_queue_has_a_limit(cluster: Cluster) -> None:
    """A peer that is too far behind loses the link."""
    assert cluster.node.link is not None
    for transport in cluster.network.transports:
        transport.is_paused = True
    for number in range(links.QUEUE_LIMIT // 300_000 + 10):
        cluster.node.link.send(large(number, 300_000))
    cluster.network.settle()
    assert cluster.node.log[1:] == [("down", "the peer does not keep up with what it is sent")]
    for transport in cluster.network.transports:
        transport.is_paused = False
