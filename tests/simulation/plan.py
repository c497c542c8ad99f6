# SPDX-License-Identifier: MIT
"""What a run is like: all of it follows from the seed."""

from __future__ import annotations

from random import Random

import msgspec

LOSSES = ("kill_node", "kill_node_at", "cut_power", "kill_worker", "refuse_workers", "repeat")
"""What costs workers."""

GENTLE = (
    "cut",
    "one_way",
    "clog",
    "freeze_node",
    "kill_master",
    "lose_commit",
    "refuse_commits",
    "slow_commits",
    "leave",
    "pause",
    "cancel",
    "set_clock",
    "half_open",
    "kill_master_at",
    "usurp",
    "cut_at",
)
"""What costs nobody a worker, if it does not last too long."""

FAULTS = GENTLE + LOSSES
"""What may happen beside the work itself."""

CRASHES = ("kill_master_at", "kill_node_at")
"""Daemons are killed at steps that chance decides; in some runs at one after the other."""

CALM = frozenset({"pause", "kill_master", "set_clock", "cancel", "leave"})
"""With these alone no word to a node is lost that is older than the death of a master."""

PAUSES = {"pause": 0.3, "kill_master": 0.05, "set_clock": 0.03}
"""What time limits must not depend on; in these runs many instances have some."""

COMMON = ("cut", "kill_worker", "cancel", "pause")
"""One of these is in most runs with several kinds."""

GOLDEN = 0.6180339887498949
"""Multiples of it, without what is before the point, are as far from each other as can be."""

GENTLE_PAUSE_S = 45.0
"""Seconds between two faults of a gentle run: whatever was broken is whole again by then."""


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
    commit: float
    """Longest time that a commit takes without a fault."""
    write: float
    """Longest time that a node's disk takes."""
    faults: dict[str, float]
    """How often each kind of fault comes, per second on average; those that do not come are not there."""
    is_gentle: bool
    """No fault lasts longer than 20 s, nor comes soon after another: nothing may be run twice."""
    parallel: float
    """The share of instances that ask for units."""
    sessions: int
    """Clients that feed units."""
    units: int
    """Most units of a branch."""
    nested: float
    """The share of those whose units ask for units themselves."""
    poison: float
    """The share of units that kill their worker."""
    failing: float
    """The share of units that fail, half of them only the first time."""
    large: float
    """The share of units with arguments or results that are too large for a message; of roots too."""
    regretted: float
    """The share of instances that are cancelled by who submitted them."""
    retried: float
    """The share of instances whose roots fail, some of which are retried."""
    longest_unit: float
    longest_root: float
    following: float
    """The share of instances that run where others ran."""
    masters_pace: float
    """Its timers take so much of what was asked for."""
    nodes_pace: float
    limited: float
    """The share of those that may not take long."""
    guarded: float
    """The share of instances that run at most once, of exclusive ones, and of those whose units do or are."""


def plan(seed: int) -> Plan:
    """
    The plan of a seed.

    Some runs have no faults, some one kind at an extreme rate, the others a random choice: what hides in a
    storm of everything shows up in one of a single kind.
    """
    random = Random(f"plan {seed}")
    duration = random.choice([60.0, 120.0, 240.0])
    # Seeds that follow each other share out the styles, so that a few of them have each.
    style = seed * GOLDEN % 1.0
    is_gentle = style < 0.25
    if style < 0.05:
        faults = {}
    elif is_gentle:
        faults = dict.fromkeys(random.sample(GENTLE, random.randint(1, 4)), 0.05)
    elif style < 0.38:
        faults = PAUSES
    elif style < 0.57:
        crashes = CRASHES if random.random() < 0.5 else (*CRASHES, "cut_at")
        faults = dict.fromkeys(crashes, random.choice([0.15, 0.5])) | {random.choice(COMMON): 0.05}
    elif style < 0.67:
        faults = {random.choice(FAULTS): random.choice([0.05, 0.2, 0.5])}
    else:
        chosen = {*random.sample(FAULTS, random.randint(3, 9)), *random.sample(COMMON, 1)}
        faults = {kind: random.choice([0.005, 0.02, 0.05]) for kind in sorted(chosen)}
    guarded = Random(f"guarded {seed}").choice([0.0, 0.2, 0.7, 0.7])
    if guarded > 0.5 and not is_gentle and faults is not PAUSES:
        # What is exclusive is only seen to be if nodes are away, and roots and workers are lost.
        faults = {**faults, "cut": 0.1, "kill_worker": 0.1}
        if style >= 0.57 and Random(f"away {seed}").random() < 0.6:
            faults = {"stop_node": 0.1, "kill_worker": 0.02}
    return Plan(
        seed=seed,
        nodes=random.randint(1, 3),
        slots=random.randint(1, 3),
        duration=duration,
        submit_every=duration / random.choice([10.0, 20.0, 30.0]),
        latency=random.choice([0.001, 0.05, 0.5]),
        commit=random.choice([0.0, 0.02, 0.3]),
        write=random.choice([0.0, 0.02, 0.2]),
        faults=faults,
        is_gentle=is_gentle,
        parallel=random.choice([0.5, 0.8]),
        sessions=random.choice([0, 0, 1, 3]),
        units=random.choice([3, 20, 60]),
        nested=random.choice([0.0, 0.3]),
        poison=random.choice([0.0, 0.0, 0.04]),
        failing=random.choice([0.0, 0.05, 0.3]),
        large=random.choice([0.0, 0.0, 0.1, 0.6]),
        regretted=random.choice([0.1, 0.15, 0.4]),
        retried=random.choice([0.1, 0.1, 0.4]),
        longest_unit=random.choice([0.01, 0.5, 3.0]),
        longest_root=random.choice([1.0, 20.0]),
        following=random.choice([0.0, 0.2, 0.4]),
        masters_pace=random.choice([1.0, 1.0, 0.6, 1.3]),
        nodes_pace=random.choice([1.0, 1.0, 0.6, 1.3]),
        limited=0.6 if faults is PAUSES else random.choice([0.0, 0.2, 0.5]),
        guarded=guarded,
    )
