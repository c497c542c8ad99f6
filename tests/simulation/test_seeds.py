# SPDX-License-Identifier: MIT
"""Seeds that once failed hold now, and a seed always goes the same way."""

from __future__ import annotations

from typing import get_args

import pytest

from pydra.cluster.wire.messages import ToMaster, ToNode
from pydra.model.changes import Change
from tests.simulation.run import run
from tests.simulation.steps import every_step

SEEDS = {
    9: "links that break while units are outstanding, which are asked for again",
    13: "two crews wanted a slot at the same instant, and could not be ordered",
    89: "a unit failed while it was looked up, and its arguments were removed before it ran again",
    463: "a session told results of units that a crash had kept from the store, and once more when they came",
    5489: "a session was completed while its cancel was on its way to the disk",
    9074: "the units of a session were stored after their ends, and counted as queued from then on",
    152940694465: "a master that a submission killed was woken by its timer, again and again at one instant",
    1000471: "a session asked for a unit whose result was being stored, which ran again and counted twice",
    152940694319: "an exclusive unit of a session began before its arguments were stored, and had none later",
    152940694747: "a stop took the place of a large result that was to be synced, and was not synced itself",
}
"""Each with what its run showed when it joined; the unit tests beside the fixes keep that too."""


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_promised_holds(seed: int) -> None:
    """A seed that failed once fails no more."""
    assert "" == run(seed).broken


def test_the_same_seed_goes_the_same_way() -> None:
    """All that happens follows from the seed."""
    first, second = run(3), run(3)
    assert "" == first.broken
    assert (first.digest, first.events) == (second.digest, second.events)
    assert first.digest != run(4).digest


def test_only_the_faults_may_be_looked_at() -> None:
    """Without liveness a run ends with its faults."""
    assert run(3, modes=("safety",)).simulated_s < run(3).simulated_s


def test_steps_are_things_that_daemons_do() -> None:
    """What is named at a step is a message of that direction, or a change; else nobody would die there."""
    sent = {"sends", "sent"}
    of_masters, of_nodes = ({each.__name__ for each in get_args(kind)} for kind in (ToNode, ToMaster))
    changes = {each.__name__ for each in get_args(Change)}
    for step in every_step():
        daemon, _, doing = step.partition(", ")
        verb, _, what = doing.partition(": ")[2].partition(" ")
        if verb in sent | {"hears", "heard"}:
            assert what in (of_masters if (daemon == "master") == (verb in sent) else of_nodes), step
        elif verb in {"asks", "made"}:
            assert what in changes, step
