# SPDX-License-Identifier: MIT
"""
``python -m tests.simulation``: run seeds, one again with its trace, or see that planted bugs are found.

The exit code is 1 if a promise was broken, or a planted bug was not found.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.planting import look_for_all
from tests.simulation.run import MODES, Verdict, run


def show(verdict: Verdict, took_s: float) -> None:
    """One line."""
    times = verdict.simulated_s / took_s
    print(
        f"seed {verdict.seed}: {verdict.instances} instances, {verdict.units} units, {verdict.events} events,"
        f" {verdict.simulated_s:.0f} s simulated in {took_s:.2f} s ({times:.0f} x), hash {verdict.digest}"
    )
    if verdict.broken:
        print(
            f"  BROKEN: {verdict.broken}\n  again: python -m tests.simulation --seed {verdict.seed} --trace"
        )


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no seed after so long")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--until-broken", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--planted", nargs="*", metavar="NAME", help="look for planted bugs instead")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the hashes")
    parser.add_argument(
        "--mode",
        choices=MODES,
        help="safety: end with the faults; liveness (and default): then let all end",
    )
    options = parser.parse_args()
    return plant(options.planted) if options.planted is not None else run_seeds(options)


def plant(names: list[str]) -> int:
    """Look for planted bugs."""
    found = []
    for bug in look_for_all(names):
        found.append(bug)
        print(f"{bug.patch}: " + (f"found by seed {bug.seeds - 1}: {bug.told}" if bug.seeds else "NOT FOUND"))
    return 0 if found and all(bug.seeds for bug in found) else 1


def run_seeds(options: argparse.Namespace) -> int:
    """Run seeds one after another."""
    seeds = (
        [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    )
    begun, is_good = time.monotonic(), True
    modes = MODES[:1] if options.mode == "safety" else MODES
    for seed in seeds:
        if time.monotonic() - begun > options.seconds:
            break
        started = time.monotonic()
        verdict = run(seed, options.trace, modes)
        show(verdict, time.monotonic() - started)
        print(*verdict.trace, sep="\n", end="\n" if verdict.trace else "")
        is_good &= not verdict.broken
        if options.twice and run(seed, modes=modes).digest != verdict.digest:
            print(f"  BROKEN: seed {seed} went another way the second time")
            is_good = False
        if options.until_broken and not is_good:
            break
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
