# SPDX-License-Identifier: MIT
"""What a run is like: all of it follows from the seed."""

from __future__ import annotations

from random import Random

import msgspec

FAULTS = (
    "cut",
    "one_way",
    "clog",
    "kill_master",
    "kill_node",
    "kill_worker",
    "freeze_node",
    "refuse_commits",
    "slow_commits",
    "lose_commit",
    "refuse_workers",
    "cancel",
)
"""What may happen beside the work itself."""


class Plan(msgspec.Struct, frozen=True):
    """The numbers of one run; times are seconds on the clock of the simulation."""

    seed: int
    nodes: int
    slots: int
    duration: float
    submit_every: float
    """Mean seconds between two submissions."""
    latency: float
    """Longest time that a batch of messages is under way without a fault."""
    faults: dict[str, float]
    """How often each kind of fault comes, per second on average; those that do not come are not there."""
    parallel: float
    """The share of instances that ask for units."""
    poison: float
    """The share of units, and of instances, that kill their worker."""
    longest_unit: float


def plan(seed: int) -> Plan:
    """
    The plan of a seed.

    Some runs have no faults, some one kind at an extreme rate, the others a random choice: what hides in a
    storm of everything shows up in one of a single kind.
    """
    random = Random(f"plan {seed}")
    duration = random.choice([120.0, 300.0, 600.0])
    style = random.random()
    if style < 0.1:
        faults = {}
    elif style < 0.4:
        faults = {random.choice(FAULTS): random.choice([0.05, 0.2, 0.5])}
    else:
        chosen = random.sample(FAULTS, random.randint(2, len(FAULTS)))
        faults = {kind: random.choice([0.002, 0.01, 0.05]) for kind in chosen}
    return Plan(
        seed=seed,
        nodes=random.randint(1, 4),
        slots=random.randint(1, 3),
        duration=duration,
        submit_every=random.choice([0.5, 2.0, 8.0]),
        latency=random.choice([0.001, 0.05, 0.5]),
        faults=faults,
        parallel=random.choice([0.0, 0.3, 0.8]),
        poison=random.choice([0.0, 0.0, 0.05]),
        longest_unit=random.choice([0.01, 1.0, 8.0]),
    )
