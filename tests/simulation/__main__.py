# SPDX-License-Identifier: MIT
"""
Run seeds, one again with its trace, or see that planted bugs are found.

The exit code is 1 if a promise was broken, or a planted bug was not found.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from tests.simulation.planting import look_for_all
from tests.simulation.run import MODES, Verdict, run
from tests.simulation.steps import every_step

AGAIN = "scripts/simulate --seed {seed} --trace"


def timed(seed: int, is_traced: bool, modes: tuple[str, ...], is_twice: bool) -> tuple[Verdict, float, bool]:
    """Run a seed; the seconds that it took, and whether it went the same way the second time."""
    started = time.monotonic()
    verdict = run(seed, is_traced, modes)
    took_s = time.monotonic() - started
    is_same = not is_twice or run(seed, modes=modes).digest == verdict.digest
    return verdict, took_s, is_same


def show(verdict: Verdict, took_s: float, is_same: bool) -> None:
    """One line, and what was broken."""
    times = verdict.simulated_s / took_s
    print(
        f"seed {verdict.seed}: {verdict.instances} instances, {verdict.units} units, {verdict.events} events,"
        f" {verdict.simulated_s:.0f} s simulated in {took_s:.2f} s ({times:.0f} x), hash {verdict.digest}"
    )
    if verdict.broken:
        print(f"  BROKEN: {verdict.broken}\n  again: {AGAIN.format(seed=verdict.seed)}")
    if not is_same:
        print(f"  BROKEN: seed {verdict.seed} went another way the second time")
    print(*verdict.trace, sep="\n", end="\n" if verdict.trace else "", flush=True)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds")
    parser.add_argument("--new", action="store_true", help="then seeds that were never run, until --seconds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no seed after so long")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--until-broken", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--planted", nargs="*", metavar="NAME", help="look for planted bugs instead")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the hashes")
    parser.add_argument("--steps", action="store_true", help="tell at which steps no daemon was killed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument(
        "--mode", choices=MODES, help="safety: end with the faults; liveness (and default): then let all end"
    )
    options = parser.parse_args()
    return plant(options.planted) if options.planted is not None else run_seeds(options)


def plant(names: list[str]) -> int:
    """Look for planted bugs."""
    found = []
    for bug in look_for_all(names):
        found.append(bug)
        how = (
            f"found in {bug.seeds} seeds, {bug.took_s:.0f} s: {bug.told}"
            if bug.seeds
            else f"NOT FOUND: {bug.told}"
        )
        print(f"{bug.patch}: {how}", flush=True)
    return 0 if found and all(bug.seeds for bug in found) else 1


def run_seeds(options: argparse.Namespace) -> int:
    """Run seeds, in their order, until the time is over."""
    if options.seed is not None:
        verdict, took_s, is_same = timed(options.seed, options.trace, modes_of(options), options.twice)
        show(verdict, took_s, is_same)
        return 0 if is_same and not verdict.broken else 1
    seeds: Iterable[int] = range(options.first, options.first + options.seeds)
    if options.new:
        new = secrets.randbelow(10**9) * 1000
        print(f"new seeds begin with {new}")
        seeds = itertools.chain(seeds, itertools.count(new))
    begun, count = time.monotonic(), 0
    failed: list[Verdict] = []
    crashed: set[str] = set()
    for verdict, took_s, is_same in verdicts(seeds, options):
        show(verdict, took_s, is_same)
        count += 1
        crashed.update(verdict.crashed)
        if verdict.broken or not is_same:
            failed.append(verdict)
        if options.until_broken and failed:
            break
    print(f"{count} seeds in {time.monotonic() - begun:.0f} s")
    missed = sorted(every_step() - crashed)
    print(f"daemons were killed at {len(crashed)} steps, and not yet at {len(missed)}")
    if options.steps:
        print(*missed, sep="\n")
    for verdict in failed:
        print(f"FAILED: {AGAIN.format(seed=verdict.seed)}: {verdict.broken or 'another way the second time'}")
    return 1 if failed else 0


def verdicts(seeds: Iterable[int], options: argparse.Namespace) -> Iterator[tuple[Verdict, float, bool]]:
    """The verdicts in the order of the seeds, several of which are run at a time."""
    begun = time.monotonic()
    under_way: deque[Future[tuple[Verdict, float, bool]]] = deque()
    with ProcessPoolExecutor(options.jobs) as processes:
        for seed in seeds:
            if time.monotonic() - begun > options.seconds:
                break
            under_way.append(processes.submit(timed, seed, False, modes_of(options), options.twice))
            if len(under_way) > options.jobs:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def modes_of(options: argparse.Namespace) -> tuple[str, ...]:
    """What is done of each seed."""
    return MODES[:1] if options.mode == "safety" else MODES


if __name__ == "__main__":
    sys.exit(main())
