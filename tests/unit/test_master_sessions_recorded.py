# SPDX-License-Identifier: MIT
"""Units of sessions whose results are on their way into the store when their client wants them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from pydra.cluster.controller.session_messages import Attach, Opened, Results, Stored
from pydra.cluster.master.sessions.register import Sessions
from pydra.cluster.master.units.tally import UnitsView
from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import RunUnits
from pydra.model.ids import InstanceId
from pydra.model.instance import Failure, Payload
from pydra.model.unit import SESSION_TASK
from tests.support.cables import unthreaded
from tests.support.sessions import GRACE_S, KEEP_S, TASK, SessionsBench, Wire, units
from tests.support.unit_links import UnitBench, restarted, result_of_unit

ONE = InstanceId(1)
ARGUMENTS = payload.pack({"task": TASK})
AWAY_S = 1.0
FAILURES = [None, Failure("failed", "ValueError: no")]


@attrs.define
class Bench:
    """A node on which a session runs, in a real dispatcher."""

    directory: Path
    master: UnitBench = attrs.field(init=False)
    sessions: Sessions = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.master = UnitBench(self.directory)
        self.master.begin(task_key=SESSION_TASK, args=Payload(len(ARGUMENTS), ARGUMENTS))
        self._hold_sessions()

    def _hold_sessions(self) -> None:
        master = self.master
        shared = (master.clock, master.dispatcher, master.store, master.blobs, master.uses, unthreaded)
        self.sessions = Sessions(*shared, self._open, AWAY_S, KEEP_S, 0.0)
        master.result(self.sessions.restore())

    async def _open(self, *_: object) -> InstanceId:
        raise AssertionError("nobody opens one")

    def restart(self) -> None:
        """The master is killed, and the next one begins; its node is not there yet."""
        self.sessions.stop()
        self.master = restarted(self.master, self.directory)
        self._hold_sessions()

    def attach(self, *indexes: int) -> tuple[Wire, list[object]]:
        """A client that waits for these units, and what it is told."""
        wire = Wire()
        wire.speaker = self.sessions.connect(wire)
        return wire, wire.say(Attach(1, list(indexes)))

    def view(self) -> UnitsView | None:
        """What is shown of its units."""
        return self.master.dispatcher.units.view(ONE)

    def settle(self) -> None:
        """All that was said arrives."""
        self.master.cable.settle()
        self.master.take_in(self.master.node.take())

    def close(self) -> None:
        """Nothing may be left."""
        self.sessions.stop()
        self.master.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def finish(bench: Bench, batch: RunUnits, failure: Failure | None) -> list[object]:
    """The worker tells what came of a unit; what its client is to be told of that."""
    result = result_of_unit(0) if failure is None else b""
    failures = {} if failure is None else {0: failure}
    digests = hashlib.blake2b(b"0", digest_size=16).digest()
    assert ([0], digests) == (batch.indexes, batch.digests)
    bench.master.say(bench.master.done(batch, results=[result], failures=failures))
    told = {} if failure is None else {0: (failure.code, failure.message, failure.traceback)}
    return [Results([0], [result], told)]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_client_that_comes_back_while_it_is_stored(bench: Bench, failure: Failure | None) -> None:
    """A unit that went on without its client does not run again, and its result is told once."""
    wire, _ = bench.attach()
    wire.say(units(0))
    bench.settle()
    [batch] = bench.master.batches.values()
    wire.leave()
    bench.master.clock.advance(AWAY_S)
    bench.settle()
    bench.master.store.hold()
    told = finish(bench, batch, failure)
    wire, heard = bench.attach(0)
    assert [Opened(1)] == heard
    bench.master.store.release()
    bench.settle()
    assert told == wire.heard()
    assert [0] == bench.master.ran
    assert UnitsView(int(failure is None), int(failure is not None), 0, 0) == bench.view()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_unit_that_a_crash_kept_from_the_store(bench: Bench, failure: Failure | None) -> None:
    """Its client sends it again while its result is being stored: it does not run again, and counts once."""
    wire, _ = bench.attach()
    bench.master.store.refuse("the disk is full")
    wire.say(units(0))
    bench.settle()
    [batch] = bench.master.batches.values()
    bench.master.store.accept()
    bench.restart()
    bench.master.plug()
    bench.master.say(*bench.master.held())
    wire, heard = bench.attach(0)
    assert [Opened(1, missing=[0])] == heard
    bench.master.store.hold()
    told = finish(bench, batch, failure)
    assert [] == wire.say(units(0))
    bench.master.store.release()
    bench.settle()
    assert sorted([*told, Stored([0], 1)], key=str) == sorted(wire.heard(), key=str)
    assert [] == bench.master.ran
    assert UnitsView(int(failure is None), int(failure is not None), 0, 0) == bench.view()


def test_new_units_cost_no_look_up(tmp_path: Path) -> None:
    """Those of which a result may be known are looked up: after a restart, or once its client was away."""
    bench = SessionsBench(tmp_path)
    wire = bench.opened()
    looked_up = bench.dispatcher.units.looked_up
    wire.say(units(0, 1), units(1, 2))
    assert [] == looked_up
    wire.leave()
    bench.clock.advance(GRACE_S)
    bench.connect().say(Attach(1))
    assert [0, 1, 2] == looked_up
    bench.restart()
    assert [0, 1, 2] * 2 == looked_up
    bench.clock.advance(0)
    bench.close()
