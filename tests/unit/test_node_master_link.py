# SPDX-License-Identifier: MIT
"""The node's end of a link: whom it obeys, what it says on each new link, how long it works without one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    COMPLETE,
    LOST,
    PROTOCOL,
    BlobWanted,
    Heartbeat,
    KillUnit,
    MasterHello,
    NodeHello,
    PauseUnit,
    Recorded,
    ReleaseWorker,
    StopUnit,
    Unavailable,
    UnitFinished,
)
from pydra.errors import RemoteFault, WireError, WorkersUnavailable
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from tests.support.cables import chunked
from tests.support.links import RecordingSink
from tests.support.nodes import HEARTBEAT_S, INFORMATION, ORPHAN_GRACE_S, NodeBench, batch, hire, unit
from tests.support.pumps import result_of

FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)
LARGE = b"\xc6" + b"large" * 20_000
DIGEST = hashlib.sha256(LARGE).hexdigest()
RESULT = UnitFinished(FIRST, COMPLETE, Payload(1, b"\x05"))
LARGE_RESULT = UnitFinished(FIRST, COMPLETE, Payload(len(LARGE), sha256=DIGEST))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node without a link."""
    bench = NodeBench(tmp_path)
    yield bench
    bench.close()


def finished(bench: NodeBench, result: bytes = b"\x05") -> None:
    """Attempt 1.1 has run, and was told."""
    worker = bench.run()
    for start in range(0, len(result), frames.PART_SIZE):
        worker.says(frames.PART, result[start : start + frames.PART_SIZE])
    worker.says(frames.RESULT, b"")


def hello(running: tuple[Attempt, ...] = (), ended: tuple[Attempt, ...] = ()) -> NodeHello:
    """What the node answers."""
    return NodeHello(PROTOCOL, "incarnation", 2, INFORMATION, running, ended, ran_s=(0.0,) * len(running))


def test_hello(bench: NodeBench) -> None:
    """The node says nothing before it is greeted; then it tells what it is and has."""
    assert [] == bench.plug()
    assert [] == bench.advance(HEARTBEAT_S)
    assert [hello()] == bench.tell(MasterHello(PROTOCOL, 1, "0.1.0"))
    assert [1] == bench.epochs


def test_orders_before_the_hello(bench: NodeBench) -> None:
    """Nothing is carried out that comes before the hello."""
    bench.plug()
    assert [] == bench.tell(unit(), StopUnit(SECOND), KillUnit(SECOND), Recorded((FIRST,)), Heartbeat())
    assert () == bench.units.running()


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL + 1, -1, 2**63])
def test_another_protocol(bench: NodeBench, protocol: int) -> None:
    """A master of another protocol is refused in words; what it says after that is not heard."""
    bench.plug()
    bench.tell(MasterHello(protocol, 1, "9.9.9"), unit())
    assert not bench.cable.is_up
    assert "upgrade the older one" in bench.master.log[-1][1]
    assert [] == bench.epochs
    assert () == bench.units.running()


def test_an_old_epoch(bench: NodeBench) -> None:
    """A master of the past is refused, and so are its orders; a newer one is taken."""
    bench.greet(epoch=5)
    bench.cable.pull()
    bench.plug()
    bench.tell(MasterHello(PROTOCOL, 4, "0.1.0"), unit())
    assert not bench.cable.is_up
    assert "old one" in bench.master.log[-1][1]
    assert () == bench.units.running()
    assert [hello()] == bench.greet(epoch=6)


def test_the_epoch_is_remembered_first(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said to a master, and none of its orders carried out, before its epoch is on the disk."""
    writing: list[Deferred[bool]] = []

    async def write(epoch: int) -> bool:
        writing.append(Deferred())
        return await writing[-1]

    monkeypatch.setattr(bench.link, "_accept_epoch", write)
    assert [] == bench.greet()
    assert [] == bench.tell(unit(), MasterHello(PROTOCOL, 1, "0.1.0"))
    for written in writing:
        written.callback(True)
    assert [hello()] == bench.settle()
    assert () == bench.units.running()


def test_a_link_that_breaks_while_the_epoch_is_written(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is linked then has to say hello of its own."""
    written: Deferred[bool] = Deferred()
    monkeypatch.setattr(bench.link, "_accept_epoch", lambda epoch: written)
    bench.greet()
    bench.cable.pull()
    bench.plug()
    written.callback(True)
    assert [] == bench.settle()
    assert [] == bench.tell(unit())


def test_an_epoch_that_cannot_be_written(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is closed; the master dials again."""
    monkeypatch.setattr(bench.link, "_accept_epoch", lambda epoch: fail(OSError(28, "No space left")))
    bench.greet()
    assert not bench.cable.is_up
    assert "keep your epoch" in bench.master.log[-1][1]


def test_a_second_hello(bench: NodeBench) -> None:
    """It changes nothing."""
    bench.greet()
    assert [] == bench.tell(MasterHello(PROTOCOL, 1, "0.1.0"))
    assert [1] == bench.epochs


def test_what_it_holds(bench: NodeBench) -> None:
    """On a new link the node names what runs and what ended, and sends each outcome again."""
    bench.greet()
    finished(bench)
    assert [RESULT] == bench.settle()
    bench.run(2)
    bench.cable.pull()
    assert [hello((SECOND,), (FIRST,)), RESULT] == bench.greet()
    bench.tell(Recorded((FIRST,)))
    bench.cable.pull()
    assert [hello((SECOND,))] == bench.greet()


def test_orders_that_are_repeated(bench: NodeBench) -> None:
    """What was done and recorded is not done again, however late its order is repeated."""
    bench.greet()
    finished(bench)
    bench.settle()
    bench.tell(Recorded((FIRST,)), unit(), hire(), batch(1), ReleaseWorker(hire().worker), hire())
    assert [] == bench.tell(batch(1))
    assert ((), ()) == (bench.units.running(), bench.hired.attempts())
    assert 2 == len(bench.workers.taken)


def test_how_long_it_ran(bench: NodeBench) -> None:
    """A hello tells for how long each attempt has run; while its instance is paused, that stands still."""
    bench.greet()
    bench.run()
    bench.advance(3.0)
    bench.tell(PauseUnit(FIRST, paused=True), PauseUnit(SECOND, paused=True))
    bench.advance(7.0)
    bench.tell(PauseUnit(FIRST, paused=True))
    bench.cable.pull()
    [hello] = [each for each in bench.greet() if isinstance(each, NodeHello)]
    assert ((FIRST,), (3.0,)) == (hello.running, hello.ran_s)
    bench.tell(PauseUnit(FIRST, paused=False), PauseUnit(FIRST, paused=False))
    bench.advance(2.0)
    assert (5.0,) == bench.units.ran_s()


def test_heartbeats(bench: NodeBench) -> None:
    """Each heartbeat has a number, and names what runs and what ended; without a link there are none."""
    bench.greet()
    assert [Heartbeat(number=1)] == bench.advance(HEARTBEAT_S)
    finished(bench)
    bench.settle()
    bench.run(2)
    assert [Heartbeat((SECOND, FIRST), 2)] == bench.advance(HEARTBEAT_S)
    bench.cable.pull()
    bench.clock.advance(HEARTBEAT_S)
    assert [Heartbeat((SECOND, FIRST), 1)] == [
        message for message in (*bench.greet(), *bench.advance(HEARTBEAT_S)) if isinstance(message, Heartbeat)
    ]


def test_heartbeats_say_why_nothing_begins(bench: NodeBench) -> None:
    """So the master gives its work to others, until that is over."""
    bench.greet()
    bench.workers.fault = WorkersUnavailable("No worker can be started: no memory.")
    told = Heartbeat(number=1, refusal="No worker can be started: no memory.")
    assert [told] == bench.advance(HEARTBEAT_S)
    bench.workers.fault = None
    assert [Heartbeat(number=2)] == bench.advance(HEARTBEAT_S)


def test_a_large_result(bench: NodeBench) -> None:
    """A large result goes by bulk; its outcome follows when the master has all of it."""
    bench.greet()
    bench.master.new_sink = lambda: RecordingSink(gated=True)
    finished(bench, LARGE)
    assert [] == bench.settle()
    while bench.master.sinks[DIGEST].gates:
        bench.master.sinks[DIGEST].open_gate()
    assert [LARGE_RESULT] == bench.settle()
    assert LARGE == bytes(bench.master.sinks[DIGEST].data)


def test_a_large_result_over_a_broken_link(bench: NodeBench) -> None:
    """On each new link a large result is sent again, until it is recorded."""
    bench.greet()
    bench.master.new_sink = lambda: RecordingSink(gated=True)
    finished(bench, LARGE)
    bench.cable.pull()
    bench.master.new_sink = RecordingSink
    assert [hello((), (FIRST,)), LARGE_RESULT] == bench.greet()
    assert LARGE == bytes(bench.master.sinks[DIGEST].data)
    bench.cable.pull()
    assert [hello((), (FIRST,)), LARGE_RESULT] == bench.greet()
    bench.tell(Recorded((FIRST,)))
    assert () == bench.outbox.attempts()


def test_a_large_result_without_a_link(bench: NodeBench) -> None:
    """A large result of a time without a link waits for the next one."""
    bench.greet()
    worker = bench.run()
    bench.cable.pull()
    worker.says(frames.RESULT, LARGE)
    assert [hello((), (FIRST,)), LARGE_RESULT] == bench.greet()


def test_a_result_that_the_master_refuses(bench: NodeBench) -> None:
    """If the master cannot take a result now, the link ends, and the next one brings it again."""

    def full() -> RecordingSink:
        sink = RecordingSink()
        sink.fault = WireError("The disk is full.")
        return sink

    bench.greet()
    bench.master.new_sink = full
    finished(bench, LARGE)
    assert [] == bench.settle()
    assert not bench.cable.is_up
    bench.master.new_sink = RecordingSink
    assert LARGE_RESULT in bench.greet()


def test_orphan_grace(bench: NodeBench) -> None:
    """Without a master work goes on for the grace, and is ended then."""
    bench.greet()
    bench.run()
    bench.cable.pull()
    bench.clock.advance(ORPHAN_GRACE_S - 1)
    assert (FIRST,) == bench.units.running()
    bench.clock.advance(1)
    assert () == bench.units.running()
    [_, message] = bench.greet()
    assert isinstance(message, UnitFinished)
    assert LOST == message.outcome
    assert message.failure is not None
    assert "no master for 600 s" in message.failure.message


def test_back_in_time(bench: NodeBench) -> None:
    """A link within the grace ends it; the next broken link begins a whole one."""
    bench.greet()
    bench.run()
    bench.cable.pull()
    bench.clock.advance(ORPHAN_GRACE_S - 1)
    bench.greet()
    bench.advance(2)
    bench.cable.pull()
    bench.clock.advance(ORPHAN_GRACE_S - 1)
    assert (FIRST,) == bench.units.running()


def test_links_that_are_refused(bench: NodeBench) -> None:
    """Neither a master of the past nor one that says nothing is a master to wait for."""
    bench.greet(epoch=5)
    bench.run()
    bench.cable.pull()
    for _ in range(5):
        bench.clock.advance(ORPHAN_GRACE_S / 6)
        bench.plug()
        bench.tell(MasterHello(PROTOCOL, 4, "0.1.0"))
        assert not bench.cable.is_up
    bench.plug()
    assert (FIRST,) == bench.units.running()
    bench.clock.advance(ORPHAN_GRACE_S / 6)
    assert () == bench.units.running()


def test_stop(bench: NodeBench) -> None:
    """A link that was stopped leaves no timer."""
    bench.greet()
    bench.cable.pull()
    bench.link.stop()
    assert [] == bench.clock.getDelayedCalls()


def test_leaving(bench: NodeBench) -> None:
    """A node without its launcher tells no outcome of what died with it: the master gives it again."""
    bench.greet()
    worker = bench.run()
    bench.link.leave("the launcher process ended")
    worker.exits(WorkerExit(137, "killed"))
    assert [] == bench.settle()
    assert (FIRST,) == bench.outbox.attempts()
    bench.link.stop()


def test_large_arguments(bench: NodeBench) -> None:
    """Arguments that the node asked for come by bulk, and then the unit runs."""
    bench.greet()
    assert [BlobWanted(DIGEST)] == bench.tell(unit(args=Payload(len(LARGE), sha256=DIGEST)))
    result_of(Deferred.fromCoroutine(bench.cable.master_bulk.send("blob", DIGEST, chunked(LARGE))))
    assert LARGE == bench.workers.last.sent[-1][5]


def test_arguments_that_are_not_there(bench: NodeBench) -> None:
    """A unit whose arguments the master does not have has failed."""
    bench.greet()
    bench.tell(unit(args=Payload(len(LARGE), sha256=DIGEST)))
    [message] = bench.tell(Unavailable(DIGEST, "The blob is missing."))
    assert isinstance(message, UnitFinished)
    assert message.failure is not None
    assert "The blob is missing." == message.failure.message


@pytest.mark.parametrize("kind", ["blob", "package", "file", ""])
def test_streams_that_nobody_asked_for(bench: NodeBench, kind: str) -> None:
    """They are refused, and the link lives."""
    bench.greet()
    sent = Deferred.fromCoroutine(bench.cable.master_bulk.send(kind, DIGEST, chunked(LARGE)))
    with pytest.raises(RemoteFault):
        result_of(sent)
    assert [] == bench.settle()
    assert bench.cable.is_up
