# SPDX-License-Identifier: MIT
"""
``python -m benchmarks units``: work units a second, and what each costs in every process.

All of them are recorded: run by a sandboxed worker, sent over TLS, and committed with a full sync of the disk
before the main worker hears of them. The ratio is to a process pool of the standard library in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from threading import Event, Thread

import msgspec
import psutil

from benchmarks.cluster import MeasuredCluster, running, size_arguments, wait_listed
from benchmarks.pool import kept_pool
from benchmarks.rows import show

TASK = "bench.many.Many"
LOOK_S = 0.05
"""How often is looked at the processes: one that ends between two looks is counted as of the last."""


class Run(msgspec.Struct, frozen=True):
    """One run: units a second, and CPU microseconds a unit of each kind of process."""

    rate: float
    cpu_us: dict[str, float]


class Observed:
    """CPU seconds of the daemons, their launchers, the main worker and the others, while it is looked."""

    def __init__(self, cluster: MeasuredCluster) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in cluster.pids.items()}
        self._seconds: dict[tuple[str, int], float] = {}
        self._begun = dict(self._now())
        self._ended = Event()
        self._thread = Thread(target=self._look)

    def __enter__(self) -> Observed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._seconds.update(self._now())

    def _now(self) -> Iterator[tuple[tuple[str, int], float]]:
        for name, daemon in self._roots.items():
            yield (name, daemon.pid), _cpu_s(daemon)
            for child in daemon.children(recursive=True):
                try:
                    yield (f"{name}: worker", child.pid), _cpu_s(child)
                except psutil.Error:
                    continue

    def by_kind(self, units: int) -> dict[str, float]:
        """CPU microseconds a unit; of the workers, the one that began first is the main worker."""
        kinds: dict[str, float] = {}
        workers: list[tuple[int, float]] = []
        for (name, pid), seconds in self._seconds.items():
            spent = (seconds - self._begun.get((name, pid), 0.0)) * 1e6 / units
            if name.endswith(": worker"):
                workers.append((pid, spent))
            else:
                kinds[name] = kinds.get(name, 0.0) + spent
        busy = sorted(
            pid_and_us for pid_and_us in workers if pid_and_us[1] > max(us for _, us in workers) / 20
        )
        kinds["main worker"] = busy[0][1] if busy else 0.0
        kinds["other workers"] = sum(us for _, us in busy[1:])
        kinds["launchers and idle workers"] = sum(us for _, us in workers) - sum(us for _, us in busy)
        return kinds


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def units_of(cluster: MeasuredCluster, units: int) -> Run:
    """Run a parallel task of so many units, from its submission to its recorded result."""
    controller = cluster.controller()
    with Observed(cluster) as observed:
        begun = time.perf_counter()
        instance = controller.run_tasks(TASK, count=units)
        while not (answer := controller.wait_task(instance))["final"]:
            pass
        took_s = time.perf_counter() - begun
    if answer["state"] != "complete" or answer["result"] != units:
        raise RuntimeError(f"The task ended as {answer}")
    return Run(units / took_s, observed.by_kind(units))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks units", description=__doc__)
    size_arguments(parser)
    parser.add_argument("--units", type=int, default=100_000, help="units of one run")
    parser.add_argument("--runs", type=int, default=5, help="runs behind each median")
    options = parser.parse_args()
    pool, _ = kept_pool(options.nodes * options.workers)
    with running(options.nodes, options.workers) as cluster:
        wait_listed(cluster.controller(), TASK)
        units_of(cluster, 1_000)
        runs = [units_of(cluster, options.units) for _ in range(options.runs)]
    rate = statistics.median(run.rate for run in runs)
    show("units of a parallel task, recorded", rate, "1/s", rate / pool, "aim 50000")
    show("the same, slowest and fastest run", min(run.rate for run in runs), "1/s")
    show("", max(run.rate for run in runs), "1/s")
    show("process pool, nothing recorded", pool, "1/s", 1.0)
    for kind in runs[0].cpu_us:
        show(f"CPU a unit: {kind}", statistics.median(run.cpu_us[kind] for run in runs), "us")
