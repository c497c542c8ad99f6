# SPDX-License-Identifier: MIT
"""
``python -m benchmarks instances``: what one sandboxed instance costs, and a cluster that is idle.

Each figure is a median over repetitions in one run; the ratio beside it is to a pool of fresh processes (one
process a call, two at a time: the nearest thing that the standard library has to one sandboxed worker an
instance), measured in the same run on the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil

from benchmarks.cluster import TASK, MeasuredCluster, run_one, running, size_arguments, wait_listed
from benchmarks.heavy import costs
from benchmarks.pool import pool_figures, timed
from benchmarks.rows import show
from benchmarks.starts import starts

MEGABYTE = 1024 * 1024

PAUSE_S = 0.1
"""Seconds between two instances whose latency is measured: the pool has its warm worker again."""


def throughput(cluster: MeasuredCluster, instances: int) -> float:
    """Instances a second, from the first submission to the last recorded result, from four connections."""

    def submit(count: int) -> list[int]:
        controller = cluster.controller()
        return [controller.run_tasks(TASK) for _ in range(count)]

    controller = cluster.controller()
    begun = time.perf_counter()
    with ThreadPoolExecutor(4) as threads:
        submitted = [each for part in threads.map(submit, [instances // 4] * 4) for each in part]
    for instance in submitted:
        while not controller.wait_task(instance)["final"]:
            pass
    return len(submitted) / (time.perf_counter() - begun)


def memory(cluster: MeasuredCluster) -> dict[str, float]:
    """Proportional memory (MB) of each daemon by itself, and of its launcher and warm workers together."""
    figures: dict[str, float] = {}
    for name, pid in cluster.pids.items():
        daemon = psutil.Process(pid)
        figures[name] = _megabytes(daemon)
        figures[f"{name}: launcher and warm workers"] = sum(map(_megabytes, daemon.children(recursive=True)))
    return figures


def _megabytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / MEGABYTE
    except psutil.NoSuchProcess:
        return 0.0  # an unused worker, which the pool has just ended


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks instances", description=__doc__)
    size_arguments(parser)
    parser.add_argument("--repetitions", type=int, default=100, help="calls behind each median")
    parser.add_argument("--starts", type=int, default=3, help="cold starts behind their median")
    options = parser.parse_args()
    pool_one, pool_rate = pool_figures(options.nodes * options.workers, options.repetitions // 2)
    cold: list[float] = []
    for left in reversed(range(options.starts)):
        with running(options.nodes, options.workers) as cluster:
            controller = cluster.controller()
            wait_listed(controller)
            run_one(controller)
            cold.append(time.monotonic() - cluster.begun)
            if left:
                continue
            idle = memory(cluster)
            timed(partial(run_one, controller), 10)
            ones = timed(partial(run_one, controller), options.repetitions, PAUSE_S)
            pressed = timed(partial(run_one, controller), options.repetitions)
            rate = statistics.median(throughput(cluster, options.repetitions * 2) for _ in range(3))
    one = statistics.median(ones)
    show("one sandboxed instance, submit to result", one * 1e3, "ms", one / pool_one, "aim 8")
    show("the same, 95th percentile", sorted(ones)[int(len(ones) * 0.95)] * 1e3, "ms")
    show("the same, one right after the other", statistics.median(pressed) * 1e3, "ms")
    show("sandboxed instances", rate, "1/s", rate / pool_rate, "aim 100")
    show("pool of fresh processes, one call", pool_one * 1e3, "ms", 1.0)
    show("pool of fresh processes", pool_rate, "1/s", 1.0)
    show("cold start to first result", statistics.median(cold), "s", aim="aim 2")
    for name, figure in idle.items():
        show(f"idle memory: {name}", figure, "MB")
    for way in ("fork", "bubblewrap"):
        one_ms, per_second, idle_mb = starts(way)
        show(f"one worker by itself, to READY ({way})", one_ms, "ms")
        show(f"workers started and ended, two at a time ({way})", per_second, "1/s")
        show(f"memory of a worker that waits ({way})", idle_mb, "MB")
    for cost in costs(options.workers, max(options.repetitions // 4, 1)):
        how = "imported ahead" if cost.primed else "not ahead"
        show(f"{cost.task}, {how}", cost.latency_ms, "ms")
        show(f"{cost.task}, {how}: CPU", cost.cpu_ms, "ms")
