# SPDX-License-Identifier: MIT
"""Units of a session whose results come so soon that both are stored by one commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.controller.session_messages import Close, Results, Stored, Units
from pydra.cluster.master.sessions.unstored import MOMENT_S, MOST
from pydra.model.changes import InsertUnits
from tests.support.sessions import SessionsBench, asked, runs, units


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SessionsBench]:
    bench = SessionsBench(tmp_path, moment_s=MOMENT_S)
    yield bench
    bench.close()


def inserted(bench: SessionsBench) -> list[int]:
    """The units that were stored before they had a result."""
    changes = [each for each in bench.store.committed if isinstance(each, InsertUnits)]
    return [index for change in changes for index in change.indexes]


def test_a_result_in_time_stores_its_unit(bench: SessionsBench) -> None:
    """The unit has no row of its own before, and is acknowledged after the result."""
    wire = bench.opened()
    assert [] == wire.say(units(0, 1))
    assert [asked(0, 1)] == runs(bench.dispatcher.take())
    bench.record(0)
    assert [Results([0], [b"r0"])] == wire.heard()
    bench.record(1)
    assert [Results([1], [b"r1"]), Stored([0, 1], 2)] == wire.heard()
    assert [] == inserted(bench)
    assert [] == [each for each in bench.clock.getDelayedCalls() if each.getTime() <= MOMENT_S]


def test_without_a_result_it_is_stored_after_a_moment(bench: SessionsBench) -> None:
    """And acknowledged when that is committed; what came during the moment is stored with it."""
    wire = bench.opened()
    wire.say(units(0, 1))
    bench.clock.advance(MOMENT_S / 2)
    wire.say(units(2))
    bench.record(0)
    wire.heard()
    bench.store.hold()
    bench.clock.advance(MOMENT_S / 2)
    assert [] == wire.heard()
    bench.store.release()
    assert [Stored([0, 1], 2), Stored([2], 1)] == wire.heard()
    assert [0, 1, 2] == inserted(bench)


def test_many_units_are_stored_at_once(bench: SessionsBench) -> None:
    """They take longer than a moment anyway."""
    wire = bench.opened()
    count = MOST + 1
    assert [Stored(0, count)] == wire.say(Units(0, [b"x"] * count))


def test_a_session_is_complete_when_all_is_stored(bench: SessionsBench) -> None:
    """One that is closed during the moment loses nothing."""
    wire = bench.opened()
    wire.say(units(0), Close())
    assert [] == inserted(bench)
    bench.clock.advance(MOMENT_S)
    assert [0] == inserted(bench)
    assert [1] == [instance for instance, _ in bench.dispatcher.completed]


def test_a_master_that_stops_in_the_moment(bench: SessionsBench) -> None:
    """It leaves no timer, and has acknowledged nothing."""
    wire = bench.opened()
    assert [] == wire.say(units(0))
    bench.sessions.stop()
    bench.clock.advance(MOMENT_S)
    assert [] == inserted(bench)
    assert [] == wire.heard()
