# SPDX-License-Identifier: MIT
"""What instances and their units are, decided by the seed and their names: the same whenever they run."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import msgspec

from pydra.model.options import Guarantee, RunOptions
from pydra.model.unit import DIGEST_SIZE
from tests.simulation.plan import Plan

LARGE = 70_000
"""Bytes of what is too large for a message."""

STEP = "demo.steps.Step"
"""The task of sessions, which is the branch of their units too."""

LEAVES = 2
"""Units that a nested unit asks for."""

LONG_S = 90.0
"""Seconds that an exclusive root may take more than others."""

RETRIES = 2
"""How often a task asks again for a unit that failed."""

DELAYS_S = (0.0, 1.0, 10.0)
"""Seconds before the first retry of an instance; a second one waits twice as long."""

UNREACHED_S = 60.0
"""Of grace for each unit that kills its worker, beside its own time."""


class Work(msgspec.Struct, frozen=True):
    """What an instance is."""

    units: int
    """Of branch ``Sub``; -1 if it asks for none."""
    levels: int
    """Of its units: with 2 those of ``Sub`` ask for units, of ``Sub:0/Leaf``; with 3 those do the same."""
    gives_up: bool
    """It fails with the first unit that fails for good, and forgets the others."""
    duration: float
    fails: bool
    kills: bool
    """Its root kills its worker."""
    is_large: bool
    """Its result is."""
    is_cancelled: bool
    """Who submits it regrets that."""
    retries: int
    """What its user asked for."""
    retry_delay: float
    """As its user asked for it."""
    unit_limit: float
    """Seconds that one of its units may take; 0 is no limit."""
    after: int
    """The instance that must have ended before it runs; 0 for none."""
    follow: tuple[int, ...]
    """It runs where these ran."""
    follows_any: bool
    """One of those will do."""
    time_limit: float
    """Seconds that one attempt of it may take; 0 is no limit."""
    guarantee: Guarantee
    """What its user asked for, for it and its units."""
    units_guarantee: Guarantee
    """What the classes of its units ask for."""


class Fate(msgspec.Struct, frozen=True):
    """What a unit is."""

    duration: float
    kills: bool
    hangs: bool
    """It never ends by itself; there is a limit then."""
    fails: int
    """How often it fails before it does not."""
    is_large: bool
    has_large_args: bool


class Works:
    """All of them, each made when it is looked at first."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.has_slow_deaths = plan.guarded > 0.0
        """Killed workers are alive for a while."""
        self._works: dict[int, Work] = {}
        self._fates: dict[tuple[int, str, int], Fate] = {}

    def work(self, instance: int) -> Work:
        """The work of an instance."""
        if instance not in self._works:
            plan = self._plan
            random = Random(f"work {plan.seed} {instance}")
            units = -1
            if random.random() < plan.parallel:
                units = random.choice([0, 1, 2, plan.units // 2, plan.units])
            is_nested = random.random() < plan.nested
            more = Random(f"more of work {plan.seed} {instance}")
            others = [max(1, instance - more.choice([1, 2, 5, 20])) for _ in range(more.choice([1, 1, 2]))]
            # What waits for other units may wait for long.
            has_limit = not is_nested and random.random() < 0.3
            guarantees = [self._guarantee(Random(f"{of} {plan.seed} {instance}")) for of in ("root", "units")]
            # Long enough to be alive when its node is given up.
            long_s = more.uniform(0.0, LONG_S) * bool(guarantees[0] & Guarantee.EXCLUSIVE)
            self._works[instance] = Work(
                units=units,
                levels=1 + is_nested * Random(f"levels {plan.seed} {instance}").choice([1, 2]),
                unit_limit=plan.longest_unit + 5.0 if has_limit else 0.0,
                gives_up=random.random() < 0.2,
                duration=random.uniform(0.0, plan.longest_root) + long_s,
                fails=random.random() < plan.retried,
                kills=random.random() < plan.poison,
                is_large=random.random() < plan.large,
                is_cancelled=random.random() < plan.regretted,
                retries=random.choice([0, 0, 2]) * (not guarantees[0] & Guarantee.ONCE),
                retry_delay=more.choice(DELAYS_S),
                after=random.randint(1, instance - 1) if instance > 1 and random.random() < 0.1 else 0,
                follow=tuple(others) if instance > 1 and more.random() < plan.following else (),
                follows_any=more.random() < 0.5,
                time_limit=more.uniform(0.5, 30.0) if more.random() < plan.limited else 0.0,
                guarantee=guarantees[0],
                units_guarantee=guarantees[1],
            )
        return self._works[instance]

    def _guarantee(self, random: Random) -> Guarantee:
        guarantee = Guarantee.ONCE if random.random() < self._plan.guarded else Guarantee.NONE
        return guarantee | Guarantee.EXCLUSIVE if random.random() < self._plan.guarded else guarantee

    def guarantee(self, instance: int, branch: str) -> Guarantee:
        """What is promised of the units of a branch; those of a session are promised what that is."""
        work = self.work(instance)
        return work.guarantee if branch == STEP else work.guarantee | work.units_guarantee

    def options(self, instance: int) -> RunOptions:
        """What the user of an instance asks for, but for times and dependencies."""
        work = self.work(instance)
        return RunOptions(
            retries=work.retries,
            retry_delay=work.retry_delay,
            retry="never" if work.guarantee & Guarantee.ONCE else "lost",
            exclusive=bool(work.guarantee & Guarantee.EXCLUSIVE),
        )

    def fate(self, instance: int, branch: str, unit: int) -> Fate:
        """The fate of a unit."""
        key = (instance, branch, unit)
        if key not in self._fates:
            plan = self._plan
            random = Random(f"unit {plan.seed} {instance} {branch} {unit}")
            self._fates[key] = Fate(
                duration=random.uniform(0.0, plan.longest_unit),
                kills=random.random() < plan.poison,
                hangs=branch != STEP and self.work(instance).unit_limit > 0.0 and random.random() < 0.05,
                fails=random.choice([1, 1000]) if random.random() < plan.failing else 0,
                is_large=random.random() < plan.large,
                has_large_args=random.random() < plan.large,
            )
        return self._fates[key]

    def is_nested(self, instance: int, branch: str) -> bool:
        """Units of this branch ask for units."""
        return branch != STEP and branch.count("/") + 1 < self.work(instance).levels

    def args(self, instance: int, branch: str, unit: int) -> bytes:
        """What a unit is called with."""
        args = f"args {branch}:{unit}".encode()
        return args.ljust(LARGE, b".") if self.fate(instance, branch, unit).has_large_args else args

    def result(self, instance: int, branch: str, unit: int, batch: str) -> bytes:
        """What a unit returns; so that it is seen which batch it is of."""
        result = f"{instance}/{branch}:{unit} by {batch}".encode()
        return result.ljust(LARGE, b".") if self.fate(instance, branch, unit).is_large else result

    def has_kills(self, instance: int) -> bool:
        """Something of this instance kills its worker."""
        work = self.work(instance)
        names = level = [("Sub", unit) for unit in range(work.units)]
        for _ in range(1, work.levels):
            level = [(f"{branch}:{unit}/Leaf", leaf) for branch, unit in level for leaf in range(LEAVES)]
            names = names + level
        fates = [self.fate(instance, *name) for name in names]
        return work.kills or any(fate.kills or fate.hangs for fate in fates)

    def longest_s(self, instance: int, units: int) -> float:
        """Seconds that an instance may take itself, in a cluster with one slot; ``units`` are of a client."""
        plan, work = self._plan, self.work(instance)
        count = max(work.units, 0) * sum(LEAVES**level for level in range(work.levels)) + units
        one = count * (RETRIES + 1) * (plan.longest_unit + 2 * plan.latency + 0.5)
        rest_s = work.retries * 2 * work.retry_delay
        return (work.retries + 2) * (work.duration + one + UNREACHED_S) + rest_s


def digest_of(args: bytes) -> bytes:
    """The digest of a unit."""
    return blake2b(args, digest_size=DIGEST_SIZE).digest()
