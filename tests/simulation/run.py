# SPDX-License-Identifier: MIT
"""One seed, from its plan to its verdict."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from tests.simulation.checks import Broken, Checks
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.nemesis import Nemesis
from tests.simulation.plan import plan

CALM_S = 60.0 + 60.0
"""A lease, and a minute more (P6); the work's own time comes on top."""

PATIENCE_S = 4 * 3600.0
"""How long the work that is left may take itself, when all is well."""

SHARED_MEMORY = Path("/dev/shm")


class Verdict(msgspec.Struct, frozen=True):
    """What came of a seed; ``broken`` is empty if all promises held."""

    seed: int
    digest: str
    events: int
    instances: int
    simulated_s: float
    broken: str = ""
    trace: tuple[str, ...] = ()


def run(seed: int, is_traced: bool = False) -> Verdict:
    """Do all of one seed: faults to the end of its time (safety), then none, and all must end (liveness)."""
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="pydra-simulation-", dir=where))
    try:
        cluster = SimulatedCluster(plan(seed), directory, is_traced)
        broken = ""
        try:
            _live(cluster)
        except Broken as fault:
            broken = str(fault)
        finally:
            cluster.master.dispatcher.stop()
        trail = cluster.trail
        return Verdict(
            seed,
            trail.digest(),
            trail.count,
            cluster.highest,
            cluster.clock.seconds(),
            broken,
            tuple(trail.lines),
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _live(cluster: SimulatedCluster) -> None:
    what, random = cluster.plan, cluster.random
    nemesis, checks = Nemesis(cluster), Checks(cluster)
    cluster.check = checks.at_every_moment
    rates = {"submit": 1.0 / what.submit_every, **what.faults}
    while cluster.clock.seconds() < what.duration:
        cluster.run(random.expovariate(sum(rates.values())))
        [kind] = random.choices(list(rates), list(rates.values()))
        if kind == "submit":
            cluster.submit()
        else:
            nemesis.act(kind)
    nemesis.heal()
    cluster.run(CALM_S)
    until = cluster.clock.seconds() + PATIENCE_S
    while cluster.master.dispatcher.live and cluster.clock.seconds() < until:
        cluster.run(CALM_S)
    cluster.run(CALM_S)
    checks.at_every_moment()
    checks.when_all_is_over()
