# SPDX-License-Identifier: MIT
"""
``python -m benchmarks session``: units of a session, from a client over TLS, run and recorded durably.

The rate is from the first unit sent to the last result received; the round trip that of one unit alone.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.cluster import TASK, MeasuredCluster, running, size_arguments, wait_listed
from benchmarks.pool import kept_pool
from benchmarks.rows import show
from benchmarks.session_client import NOTHING, SessionClient


def figures(cluster: MeasuredCluster, units: int, at_once: int, alone: int) -> tuple[float, list[float]]:
    """Units a second, and the seconds that each of those alone took."""
    with SessionClient(cluster.host, cluster.port, cluster.key) as client:
        client.open(TASK)
        client.run(0, [NOTHING] * 2_000, at_once)
        begun = time.perf_counter()
        client.run(10_000, [NOTHING] * units, at_once)
        rate = units / (time.perf_counter() - begun)
        first = 10_000 + units
        taken = []
        for index in range(first, first + alone):
            begun = time.perf_counter()
            client.one(index)
            taken.append(time.perf_counter() - begun)
        client.close()
    failed = [each for each in client.results.values() if isinstance(each, tuple)]
    if failed or len(client.results) != 2_000 + units + alone:
        raise RuntimeError(f"{len(client.results)} results, {len(failed)} failed: {failed[:1]}")
    return rate, taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks session", description=__doc__)
    size_arguments(parser)
    parser.add_argument("--units", type=int, default=100_000, help="units of one measurement")
    parser.add_argument("--at-once", type=int, default=500, help="units in one message")
    parser.add_argument("--alone", type=int, default=300, help="round trips of one unit")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    pool, pool_one = kept_pool(options.nodes * options.workers)
    rates: list[float] = []
    taken: list[float] = []
    with running(options.nodes, options.workers) as cluster:
        wait_listed(cluster.controller())
        for _ in range(options.repetitions):
            rate, some = figures(cluster, options.units, options.at_once, options.alone)
            rates.append(rate)
            taken += some
    taken.sort()
    rate, one = statistics.median(rates), statistics.median(taken)
    show("units of a session over TLS, recorded", rate, "1/s", rate / pool, "aim 25000")
    show("one unit, there and back", one * 1e3, "ms", one / pool_one, "aim 1.5")
    show("the same, 95th percentile", taken[int(len(taken) * 0.95)] * 1e3, "ms")
    show("process pool, nothing recorded", pool, "1/s", 1.0)
    show("process pool, one call", pool_one * 1e3, "ms", 1.0)
