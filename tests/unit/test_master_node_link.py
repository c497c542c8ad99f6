# SPDX-License-Identifier: MIT
"""The master's end of a link: greeting, outcomes, heartbeats, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import pydra
from pydra.cluster.master.node_link import REFUSAL_LIMIT
from pydra.cluster.scheduler.nodes import Standing
from pydra.cluster.wire.messages import (
    COMPLETE,
    FAILED,
    LOST,
    PROTOCOL,
    Heartbeat,
    KillUnit,
    MasterHello,
    Recorded,
    RunUnit,
    UnitFinished,
)
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import INLINE_LIMIT, Failure, Payload
from pydra.model.status import Status
from tests.support.masters import NODE, RESULT
from tests.support.node_links import HEARTBEAT_S, INFORMATION, LinkBench, hello

ONE = InstanceId(1)
FIRST = Attempt(1, 1)
STRANGE = Attempt(7, 7)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LinkBench]:
    """A link that is not plugged in."""
    bench = LinkBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def running(bench: LinkBench) -> LinkBench:
    """Instance 1 runs on the node as attempt 1.1."""
    bench.submit(1)
    [run] = bench.greet()
    assert isinstance(run, RunUnit)
    return bench


def test_the_master_greets(bench: LinkBench) -> None:
    """On each new link the master speaks first, and says no more before the node answered."""
    bench.submit(1)
    assert [MasterHello(PROTOCOL, 1, pydra.__version__)] == bench.plug()
    bench.clock.advance(HEARTBEAT_S)
    bench.cable.settle()
    assert [] == bench.node.take()
    assert [] == bench.changes


def test_hello(bench: LinkBench) -> None:
    """The hello makes the node known as connected, and it is given work."""
    bench.submit(1)
    bench.submit(2)
    runs = bench.greet(slots=2)
    assert [1, 2] == [run.instance for run in runs if isinstance(run, RunUnit)]
    assert [(NODE, 2)] == bench.changes


def test_a_node_that_begins_nothing(bench: LinkBench) -> None:
    """It is given nothing, and what it says of that is told, but no novel."""
    bench.greet(slots=2)
    bench.tell(Heartbeat(refusal="x" * 10_000))
    bench.submit(1)
    assert [] == bench.tell()
    [refusal] = bench.scheduler.explain(InstanceId(1)).refusals
    assert f"begins nothing new: {'x' * REFUSAL_LIMIT}" == refusal.reason


def test_nothing_is_taken_before_the_hello(bench: LinkBench) -> None:
    """An outcome that comes before the hello changes nothing; it comes again after it."""
    bench.submit(1)
    bench.plug()
    assert [] == bench.tell(UnitFinished(FIRST, COMPLETE, RESULT), Heartbeat((FIRST,)))
    assert bench.scheduler.node(NODE) is None


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL + 1, -5, 2**63])
def test_another_protocol(bench: LinkBench, protocol: int) -> None:
    """A node of another protocol is refused in words that say what to do."""
    bench.plug()
    bench.tell(hello(protocol=protocol))
    assert not bench.cable.is_up
    assert "upgrade the older one" in bench.node.log[-1][1]
    assert [] == bench.changes


@pytest.mark.parametrize("slots", [0, -1, 4097, 2**63])
def test_unusable_slots(bench: LinkBench, slots: int) -> None:
    """A node that offers no usable number of slots is refused."""
    bench.plug()
    bench.tell(hello(slots))
    assert not bench.cable.is_up
    assert [] == bench.changes


def test_unknown_isolation(bench: LinkBench) -> None:
    """A node whose isolation is none that there is, is refused."""
    bench.plug()
    bench.tell(hello(information=msgspec.structs.replace(INFORMATION, isolation="best")))
    assert not bench.cable.is_up
    assert [] == bench.changes


def test_a_second_hello(running: LinkBench) -> None:
    """It changes nothing: the attempt that it does not name goes on."""
    assert [] == running.tell(hello(slots=5))
    assert [(NODE, 1)] == running.changes
    assert FIRST == running.dispatcher.live[ONE].attempt


def test_what_the_node_holds_and_should_not(bench: LinkBench) -> None:
    """A hello that names attempts of nobody is answered: kill the running, forget the finished."""
    assert [KillUnit(STRANGE), Recorded((FIRST,))] == bench.greet(1, (STRANGE,), (FIRST,))


def test_back_with_its_work(running: LinkBench) -> None:
    """After a broken link the node goes on with what it runs."""
    running.cable.pull()
    assert [] == running.greet(1, (FIRST,))
    assert 0 == running.dispatcher.live[ONE].losses


def test_back_without_its_work(running: LinkBench) -> None:
    """A node that started anew gets its instance again as another attempt."""
    running.cable.pull()
    [run] = running.greet()
    assert isinstance(run, RunUnit)
    assert Attempt(1, 2) == run.attempt


def test_link_down(running: LinkBench) -> None:
    """The node is told of as disconnected and gets no work; its attempts keep their lease."""
    running.cable.pull()
    running.submit(2)
    view = running.scheduler.node(NODE)
    assert view is not None
    assert Standing.SILENT is view.standing
    assert [(NODE, 1), NODE] == running.changes
    assert Status.RUNNING is running.dispatcher.live[ONE].status


def test_down_before_the_hello(bench: LinkBench) -> None:
    """A link that ends before the hello was never a connection of the node."""
    bench.plug()
    bench.cable.pull()
    assert [] == bench.changes
    assert bench.scheduler.node(NODE) is None


def test_heartbeats(running: LinkBench) -> None:
    """The master sends a heartbeat every few seconds while the link is up."""
    for _ in range(3):
        running.clock.advance(HEARTBEAT_S)
    running.cable.settle()
    assert [Heartbeat()] * 3 == running.node.take()


def test_a_heartbeat_renews_the_lease(running: LinkBench) -> None:
    """While the node names the attempt it is not lost; when it stops to, it is after the lease."""
    for _ in range(24):
        running.clock.advance(HEARTBEAT_S)
        running.tell(Heartbeat((FIRST,)))
    assert FIRST == running.dispatcher.live[ONE].attempt
    for _ in range(12):
        running.clock.advance(HEARTBEAT_S)
        running.tell(Heartbeat((STRANGE,)))
    assert Attempt(1, 2) == running.dispatcher.live[ONE].attempt


def test_a_node_that_was_given_up_must_greet_anew(running: LinkBench) -> None:
    """After its lease ended in silence, a heartbeat ends the link, so that a hello brings it back."""
    running.clock.advance(15)
    running.clock.advance(60)
    running.tell(Heartbeat((FIRST,)))

    assert not running.dispatcher.is_connected(NODE)
    assert not running.cable.is_up


def test_a_heartbeat_after_the_lease(running: LinkBench) -> None:
    """A node that was silent for a whole lease, and lost its work, has to say hello again to get more."""
    running.clock.advance(60)
    running.node.take()
    running.tell(Heartbeat((FIRST,)))
    assert not running.cable.is_up
    assert "longer than its lease" in running.node.log[-1][1]
    killed, run = running.greet(running=(FIRST,))
    assert KillUnit(FIRST) == killed
    assert isinstance(run, RunUnit)
    assert Attempt(1, 2) == run.attempt


def test_complete(running: LinkBench) -> None:
    """An inline result is stored and acknowledged."""
    assert [Recorded((FIRST,))] == running.tell(UnitFinished(FIRST, COMPLETE, RESULT))
    assert RESULT == running.stored(1).result


def test_told_twice(running: LinkBench) -> None:
    """An outcome that comes again is acknowledged again, and nothing else happens."""
    running.tell(UnitFinished(FIRST, COMPLETE, RESULT))
    assert [Recorded((FIRST,))] == running.tell(UnitFinished(FIRST, FAILED, failure=Failure("failed", "x")))
    assert Status.COMPLETE is running.stored(1).status


def test_lost(running: LinkBench) -> None:
    """A lost attempt is acknowledged before the next one is sent."""
    answer = running.tell(UnitFinished(FIRST, LOST))
    assert Recorded((FIRST,)) == answer[0]
    assert isinstance(answer[1], RunUnit)


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        ("", RESULT),
        ("COMPLETE", RESULT),
        ("done", None),
        (COMPLETE, None),
        (COMPLETE, Payload(INLINE_LIMIT + 1, b"x" * (INLINE_LIMIT + 1))),
        (COMPLETE, Payload(70_000, sha256="ab" * 32)),
        (COMPLETE, Payload(5, b"inline", "ab" * 32)),
        (COMPLETE, Payload(70_000, sha256="../../etc/passwd")),
    ],
)
def test_an_outcome_that_cannot_be(running: LinkBench, outcome: str, result: Payload | None) -> None:
    """An unknown outcome, or a result that did not come, is a failure of the attempt, and acknowledged."""
    assert [Recorded((FIRST,))] == running.tell(UnitFinished(FIRST, outcome, result))
    stored = running.stored(1)
    assert (Status.FAILED, None) == (stored.status, stored.result)
    assert stored.failure is not None
    assert "wire" == stored.failure.code


@pytest.mark.parametrize("size", [0, -1, 2**63])
def test_a_size_that_is_a_lie(running: LinkBench, size: int) -> None:
    """The size of an inline result is counted, not believed."""
    running.tell(UnitFinished(FIRST, COMPLETE, Payload(size, b"\x05")))
    assert Payload(1, b"\x05") == running.stored(1).result


def test_a_result_of_a_failure_is_dropped(running: LinkBench) -> None:
    """An attempt that failed has no result, whatever comes with it."""
    running.tell(UnitFinished(FIRST, FAILED, RESULT, Failure("failed", "x")))
    assert running.stored(1).result is None


def test_send_without_a_link(bench: LinkBench) -> None:
    """Nothing is sent while there is no link, and nothing of it is sent later."""
    bench.link.send(Heartbeat())
    assert [] == bench.greet()
