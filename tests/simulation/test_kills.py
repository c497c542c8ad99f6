# SPDX-License-Identifier: MIT
"""Daemons that are killed are gone at once, whoever's doing was their end."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock

from tests.simulation.cluster import SimulatedCluster
from tests.simulation.disks import Pace
from tests.simulation.plan import plan
from tests.simulation.steps import MASTER


def test_no_time_passes_for_a_master_that_a_submission_killed(tmp_path: Path) -> None:
    """Whoever died of what a user did is gone before the next thing happens."""
    cluster = SimulatedCluster(plan(0), tmp_path)
    cluster.run(1.0)
    first = cluster.master
    cluster.fall(MASTER)
    cluster.run(0.0)
    assert cluster.master is not first
    assert not cluster.master.is_dead
    cluster.close()


def test_whoever_is_dead_is_not_woken() -> None:
    """A timer of a daemon does nothing after its death."""
    woken: list[str] = []
    dead: set[str] = set()
    clock = Clock()
    pace = Pace(clock, 1.0, lambda: "node" in dead)
    pace.callLater(1.0, woken.append, "alive")
    pace.callLater(2.0, woken.append, "dead")
    clock.advance(1.0)
    dead.add("node")
    clock.advance(1.0)
    assert ["alive"] == woken
