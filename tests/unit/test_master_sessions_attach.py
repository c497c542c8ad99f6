# SPDX-License-Identifier: MIT
"""A client of a session may go away and come back, and the master may die: nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.controller.session_messages import Attach, Ended, Open, Opened, Results, Stored, Units
from pydra.cluster.scheduler.inputs import CancelRequested
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested, UnitsForgotten
from pydra.model.ids import InstanceId
from tests.support.sessions import GRACE_S, KEEP_S, TASK, SessionsBench, asked, runs, units


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SessionsBench]:
    bench = SessionsBench(tmp_path)
    yield bench
    bench.close()


def test_a_client_that_comes_back_is_told_what_it_missed(bench: SessionsBench) -> None:
    """Of the units that it waits for: what has ended from the store, the rest as it ends, once."""
    wire = bench.opened()
    wire.say(units(0, 1, 2))
    bench.record(0)
    wire.leave()
    bench.record(1)
    bench.dispatcher.take()
    again = bench.connect()

    assert [Opened(1), Results([0, 1], [b"r0", b"r1"])] == again.say(Attach(1, [0, 1, 2]))
    bench.record(2)
    assert [Results([2], [b"r2"])] == again.heard()
    assert [] == bench.dispatcher.take()


def test_what_never_arrived_is_missing(bench: SessionsBench) -> None:
    """Units that were not acknowledged may not have come; the client hears which, and sends them again."""
    wire = bench.opened()
    wire.say(units(0))
    wire.leave()
    again = bench.connect()

    assert [Opened(1, missing=[1, 2])] == again.say(Attach(1, [0, 1, 2, 1]))
    assert [Stored([1, 2], 2)] == again.say(units(1, 2))


def test_only_one_client_at_a_time(bench: SessionsBench) -> None:
    """Whoever attaches takes the session over, and the one before is told."""
    first = bench.opened()
    first.say(units(0))
    second = bench.connect()
    assert [Opened(1)] == second.say(Attach(1, [0]))

    assert ["conflict"] == [each.code for each in first.heard()]
    assert first.closed
    bench.record(0)
    assert [Results([0], [b"r0"])] == second.heard()
    bench.clock.advance(GRACE_S + KEEP_S + 1)
    assert [] == [each for each in bench.dispatcher.take() if isinstance(each, CancelRequested)]


PUT_OFF = [UnitsForgotten(InstanceId(1), None, TASK), PauseRequested(InstanceId(1))]


def test_the_slots_of_a_client_that_is_gone_are_given_back(bench: SessionsBench) -> None:
    """After the grace it pauses and its units are put off; whoever attaches later has it go on."""
    wire = bench.opened()
    wire.say(units(0, 1))
    bench.record(0)
    wire.leave()
    bench.dispatcher.take()
    bench.clock.advance(GRACE_S)
    assert PUT_OFF == bench.dispatcher.take()
    again = bench.connect()
    assert [Opened(1), Results([0], [b"r0"])] == again.say(Attach(1, [0, 1]))

    resumed, *units_ = bench.dispatcher.take()
    assert ResumeRequested(InstanceId(1)) == resumed
    assert [asked(1)] == runs(units_)
    bench.clock.advance(GRACE_S + KEEP_S)
    assert [] == bench.dispatcher.take()


def test_a_session_that_somebody_paused_stays_so(bench: SessionsBench) -> None:
    """A client that comes back, late too, does not resume what it did not pause."""
    wire = bench.opened()
    bench.paused()
    wire.leave()
    bench.dispatcher.take()
    bench.clock.advance(GRACE_S)

    assert PUT_OFF[:1] == bench.dispatcher.take()
    assert [Opened(1)] == bench.connect().say(Attach(1))
    assert [] == bench.dispatcher.take()


def test_a_session_that_paused_goes_on_after_a_restart(bench: SessionsBench) -> None:
    """The master that starts again resumes it for the client that attaches, once."""
    bench.opened().leave()
    bench.clock.advance(GRACE_S)
    bench.paused()
    bench.restart()
    wire = bench.connect()
    wire.say(Attach(1))
    wire.leave()
    bench.connect().say(Attach(1))

    assert [ResumeRequested(InstanceId(1))] == bench.dispatcher.take()


def test_a_session_without_a_client_is_cancelled_at_last(bench: SessionsBench) -> None:
    """What was recorded stays; who comes too late hears the end."""
    wire = bench.opened()
    wire.say(units(0, 1))
    bench.record(0)
    wire.leave()
    bench.clock.advance(GRACE_S)
    bench.dispatcher.take()
    bench.clock.advance(KEEP_S)
    assert [CancelRequested(1)] == bench.dispatcher.take()
    bench.finish()

    assert [Ended(-2, 1, 0, 1)] == bench.connect().say(Attach(1, [0, 1]))


def test_a_session_that_nobody_attached_to_has_the_same_time(bench: SessionsBench) -> None:
    """A client that vanishes while its session is being opened leaves nothing for ever."""
    wire = bench.connect()
    bench.store.hold()
    assert [] == wire.say(Open(TASK))
    wire.leave()
    bench.store.release()
    bench.clock.advance(GRACE_S)
    bench.clock.advance(KEEP_S)

    assert CancelRequested(1) in bench.dispatcher.take()


def test_a_master_that_starts_again_goes_on(bench: SessionsBench) -> None:
    """What is stored without a result runs; a client attaches and misses nothing that was acknowledged."""
    wire = bench.opened()
    wire.say(units(0, 1, 2))
    bench.record(1)
    wire.leave()
    bench.restart()
    assert [asked(0, 2)] == runs(bench.dispatcher.take())
    again = bench.connect()

    assert [Opened(1, missing=[3]), Results([1], [b"r1"])] == again.say(Attach(1, [0, 1, 2, 3]))
    told = again.say(units(2, 3))
    assert [Stored([2, 3], 2)] == told
    assert [asked(3)] == runs(bench.dispatcher.take())
    bench.record(0, 2, 3)
    assert [Results([0, 2, 3], [b"r0", b"r2", b"r3"])] == again.heard()


def test_large_arguments_are_files_again_after_a_restart(bench: SessionsBench) -> None:
    """The blobs of arguments are swept at a start, and made from the store."""
    wire = bench.opened()
    large = b"x" * 70_000
    wire.say(Units(0, [large]))
    (fed,) = bench.dispatcher.take()
    bench.blobs.sweep(set())
    bench.restart()

    (again,) = bench.dispatcher.take()
    assert fed == again
    assert large == bench.blobs.read(again.blobs[0].sha256)


def test_after_a_restart_too_the_client_has_its_time(bench: SessionsBench) -> None:
    """The clock of the grace begins anew."""
    bench.opened()
    bench.restart()
    bench.clock.advance(GRACE_S)
    assert PUT_OFF == bench.dispatcher.take()
    bench.clock.advance(KEEP_S)
    assert [CancelRequested(1)] == bench.dispatcher.take()


def test_results_that_come_while_a_client_attaches_are_told_after_the_answer(bench: SessionsBench) -> None:
    """The first message to a client is the answer to its own."""
    wire = bench.opened()
    wire.say(units(0, 1))
    bench.record(0)
    wire.leave()
    again = bench.connect()
    bench.store.wait()
    assert [] == again.say(Attach(1, [0, 1]))
    bench.record(1)
    assert [] == again.heard()
    bench.store.answer()

    opened, *results = again.heard()
    assert Opened(1) == opened
    assert [0, 1] == sorted(index for each in results for index in each.indexes)


def test_a_client_that_leaves_while_it_attaches_is_forgotten(bench: SessionsBench) -> None:
    """The session waits for the next one."""
    wire = bench.opened()
    wire.say(units(0))
    wire.leave()
    bench.record(0)
    again = bench.connect()
    bench.store.wait()
    again.say(Attach(1, [0]))
    again.leave()
    bench.store.answer()

    assert [] == again.heard()
    assert [Opened(1), Results([0], [b"r0"])] == bench.connect().say(Attach(1, [0]))


def test_a_session_that_ends_while_a_client_attaches(bench: SessionsBench) -> None:
    """The client hears all of it."""
    wire = bench.opened()
    wire.say(units(0))
    wire.leave()
    bench.record(0)
    again = bench.connect()
    bench.store.wait()
    again.say(Attach(1, [0]))
    bench.finish()
    bench.store.answer()

    assert [Opened(1), Results([0], [b"r0"]), Ended(-2, 1, 0, 0)] == again.heard()


@pytest.mark.parametrize("instance", [2, 3])
def test_there_is_nothing_to_attach_to(bench: SessionsBench, instance: int) -> None:
    """An instance that is none, or no session."""
    bench.opened()
    (refused,) = bench.connect().say(Attach(instance))

    assert "not_found" == refused.code


def test_a_paying_client_that_is_replaced_gets_nothing_more(bench: SessionsBench) -> None:
    """While results for the old one are being read, a new one attaches: it gets what it waits for, once."""
    wire = bench.opened()
    wire.say(units(0, 1))
    wire.has_room = False
    bench.store.wait()
    bench.record(0, 1)
    again = bench.connect()
    again.say(Attach(1, [1]))
    bench.store.answer()

    assert [] == [each for each in wire.heard() if isinstance(each, Results)]
    assert [Opened(1), Results([1], [b"r1"])] == again.heard()
