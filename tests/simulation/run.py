# SPDX-License-Identifier: MIT
"""One seed, from its plan to its verdict."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from pathlib import Path

import msgspec

from tests.simulation.checks import Broken, Checks
from tests.simulation.cluster import SimulatedCluster
from tests.simulation.nemesis import Nemesis
from tests.simulation.plan import plan

CALM_S = 60.0 + 60.0
"""A lease, and a minute more (P6); the work's own time comes on top."""

STEP_S = 30.0

MODES = ("safety", "liveness")

SHARED_MEMORY = Path("/dev/shm")


class Verdict(msgspec.Struct, frozen=True):
    """What came of a seed; ``broken`` is empty if all promises held."""

    seed: int
    digest: str
    events: int
    instances: int
    simulated_s: float
    units: int
    """How often a unit began."""
    crashed: tuple[str, ...] = ()
    """The steps at which a daemon was killed."""
    broken: str = ""
    trace: tuple[str, ...] = ()


def run(seed: int, is_traced: bool = False, modes: tuple[str, ...] = MODES) -> Verdict:
    """
    Do all of one seed.

    ``safety`` is faults to the end of its time; with ``liveness`` they stop then, and all has to end.
    """
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="pydra-simulation-", dir=where))
    try:
        cluster = SimulatedCluster(plan(seed), directory, is_traced)
        checks = Checks(cluster)
        cluster.check = checks.at_every_moment
        broken = ""
        try:
            nemesis = Nemesis(cluster)
            _suffer(cluster, nemesis)
            checks.at_every_moment()
            if "liveness" in modes:
                nemesis.heal()
                _recover(cluster)
                checks.at_every_moment()
                checks.when_all_is_over()
        except Broken as fault:
            broken = str(fault)
        # An edge: whatever the product raised is a fault of it, which has a seed.
        except Exception as fault:  # noqa: BLE001
            broken = f"{type(fault).__name__}: {fault}"
            cluster.trail.lines += traceback.format_exc().splitlines()
        finally:
            cluster.close()
        trail = cluster.trail
        return Verdict(
            seed,
            trail.digest(),
            trail.count,
            cluster.highest,
            cluster.clock.seconds(),
            sum(cluster.diary.begun.values()),
            tuple(cluster.steps.crashed),
            broken,
            tuple(trail.lines),
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _suffer(cluster: SimulatedCluster, nemesis: Nemesis) -> None:
    """Let users and faults do what the plan says."""
    what, random = cluster.plan, cluster.random
    rates = {"submit": 1.0 / what.submit_every, **what.faults}
    while cluster.clock.seconds() < what.duration:
        cluster.run(random.expovariate(sum(rates.values())))
        [kind] = random.choices(list(rates), list(rates.values()))
        if kind == "submit":
            cluster.submit()
        else:
            nemesis.act(kind)


def _recover(cluster: SimulatedCluster) -> None:
    """Wait until all has ended, but no longer than promised (P6)."""
    units = {client.instance: client.units for client in cluster.clients if client.ended is None}
    live = [*cluster.master.dispatcher.live, *(number for number in units if number == 0)]
    own_s = sum(cluster.works.longest_s(number, units.get(number, 0)) for number in live)
    until = cluster.clock.seconds() + CALM_S + own_s
    cluster.run(CALM_S)
    while not _is_over(cluster) and cluster.clock.seconds() < until:
        cluster.run(STEP_S)
    cluster.run(STEP_S)


def _is_over(cluster: SimulatedCluster) -> bool:
    is_served = all(client.ended is not None for client in cluster.clients)
    return is_served and not cluster.master.dispatcher.live
