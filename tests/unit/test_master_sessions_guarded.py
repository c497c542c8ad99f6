# SPDX-License-Identifier: MIT
"""Sessions whose units run at most once, or are exclusive: these are stored before they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.controller.session_messages import Attach, Opened, Stored, Units
from pydra.cluster.master.sessions.units import digests_of
from pydra.cluster.master.sessions.unstored import MOMENT_S
from pydra.cluster.master.store_retry import RETRY_LAST_S
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested
from pydra.model.changes import InsertUnits, StartUnit
from pydra.model.ids import InstanceId, NodeId
from pydra.model.options import Guarantee, RunOptions
from pydra.model.unit import OUTSTANDING_BYTES
from tests.support.instances import attempt
from tests.support.pumps import result_of
from tests.support.sessions import GRACE_S, TASK, SessionsBench, asked, runs, units

NEVER, ALONE = RunOptions(retry="never"), RunOptions(exclusive=True)


@pytest.fixture(params=[NEVER, ALONE], ids=["never", "exclusive"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SessionsBench]:
    bench = SessionsBench(tmp_path, moment_s=MOMENT_S)
    bench.options = request.param
    yield bench
    bench.close()


def begin(bench: SessionsBench, index: int) -> None:
    """The scheduler has given a unit to a worker, and that is stored."""
    about = (InstanceId(1), TASK, index, b"".join(digests_of([b"%d" % index])))
    change = StartUnit(*about, bench.options.guarantee, attempt(9), attempt(8), NodeId(1))
    result_of(Deferred.fromCoroutine(bench.store.commit([change])))


def test_stored_and_then_run(bench: SessionsBench) -> None:
    """The scheduler, which stores that a unit begins, has it after its arguments are in the store."""
    wire = bench.opened()
    bench.store.hold()
    assert [] == wire.say(units(0, 1))
    bench.clock.advance(MOMENT_S)
    assert [] == bench.dispatcher.take()
    bench.store.release()
    assert [Stored([0, 1], 2)] == wire.heard()
    assert [asked(0, 1)] == runs(bench.dispatcher.take())


def test_a_store_that_refuses(bench: SessionsBench) -> None:
    """Nothing runs while the store takes nothing, and then each unit runs once."""
    wire = bench.opened()
    bench.store.refuse("the disk is full")
    wire.say(units(0), units(0))
    bench.clock.advance(0.2)
    assert [] == bench.dispatcher.take()
    bench.store.accept()
    bench.clock.advance(0.4)
    assert [Stored([0], 1)] * 2 == wire.heard()
    assert [asked(0)] == runs(bench.dispatcher.take())


def test_a_restart_has_the_arguments(bench: SessionsBench) -> None:
    """What began is run again as it was given, if it is exclusive; else only its outcome is waited for."""
    wire = bench.opened()
    wire.say(units(0))
    assert [asked(0)] == runs(bench.dispatcher.take())
    begin(bench, 0)
    bench.restart()
    is_exclusive = bool(bench.options.guarantee & Guarantee.EXCLUSIVE)
    assert [asked(0)] * is_exclusive == runs(bench.dispatcher.take())
    bench.clock.advance(0)


def test_a_restart_before_it_was_stored(bench: SessionsBench) -> None:
    """A unit that the store never had is told to be missing, and runs when it comes again."""
    wire = bench.opened()
    bench.store.refuse("the disk is full")
    wire.say(units(0))
    bench.restart()
    bench.store.accept()
    assert [] == runs(bench.dispatcher.take())
    wire = bench.connect()
    assert [Opened(1, missing=[0])] == wire.say(Attach(1, [0]))
    assert [Stored([0], 1)] == wire.say(units(0))
    assert [asked(0)] == runs(bench.dispatcher.take())


def test_a_client_that_was_away_while_it_was_stored(bench: SessionsBench) -> None:
    """What the store has when the client comes back, and does not say to be stored yet, runs once."""
    wire = bench.opened()
    bench.store.refuse("the disk is full")
    wire.say(units(0))
    wire.leave()
    bench.store.accept()
    change = InsertUnits(InstanceId(1), TASK, [0], [b"0"], b"".join(digests_of([b"0"])))
    result_of(Deferred.fromCoroutine(bench.store.commit([change])))
    bench.store.refuse("the disk is full")
    bench.clock.advance(GRACE_S)
    wire = bench.connect()
    assert [Opened(1)] == wire.say(Attach(1, [0]))
    assert [] == runs(bench.dispatcher.take())
    bench.store.accept()
    bench.clock.advance(RETRY_LAST_S)
    assert [asked(0)] == runs(bench.dispatcher.take())


def test_put_off_while_it_is_stored(bench: SessionsBench) -> None:
    """What is stored after its session paused waits in the scheduler, which has it once."""
    wire = bench.opened()
    bench.store.refuse("the disk is full")
    wire.say(units(0))
    wire.leave()
    bench.clock.advance(GRACE_S)
    assert PauseRequested(InstanceId(1)) in bench.dispatcher.take()
    bench.store.accept()
    bench.clock.advance(RETRY_LAST_S)
    assert [asked(0)] == runs(bench.dispatcher.take())
    wire = bench.connect()
    assert [Opened(1)] == wire.say(Attach(1, [0]))
    assert [ResumeRequested(InstanceId(1))] == bench.dispatcher.take()
    bench.record(0)
    assert [[0]] == [each.indexes for each in wire.heard()]


def test_units_that_are_being_stored_count(bench: SessionsBench) -> None:
    """They are within the window of the client, as those that run are."""
    wire = bench.opened()
    bench.store.hold()
    half = bytes(OUTSTANDING_BYTES // 2)
    wire.say(Units(0, [half]), Units(1, [half]))
    assert not wire.is_paused
    wire.say(units(2))
    assert wire.is_paused
    bench.store.release()
    assert wire.is_paused
    bench.record(0, args=[half])
    assert not wire.is_paused
    assert Stored([2], 1) in wire.heard()
