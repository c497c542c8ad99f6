# SPDX-License-Identifier: MIT
"""Seeds that once failed hold now, and a seed always goes the same way."""

from __future__ import annotations

import pytest

from tests.simulation.run import run

SEEDS = {
    9: "links that break while units are outstanding, which are asked for again",
    13: "two crews wanted a slot at the same instant, and could not be ordered",
    89: "a unit failed while it was looked up, and its arguments were removed before it ran again",
    463: "a session told results of units that a crash had kept from the store, and once more when they came",
    5489: "a session was completed while its cancel was on its way to the disk",
    9074: "the units of a session were stored after their ends, and counted as queued from then on",
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
