# SPDX-License-Identifier: MIT
"""What heavy imports cost a task: latency and CPU time, with modules imported ahead and without."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from benchmarks.cluster import TASK, run_one, running, wait_listed
from benchmarks.pool import timed

PAUSE_S = 0.5
"""Seconds between two instances: enough for the next module to be imported ahead."""

DJANGO, NUMPY = "heavy.with_django.WithDjango", "heavy.with_numpy.WithNumpy"


class Cost(NamedTuple):
    """What one instance of a task takes."""

    task: str
    primed: bool
    latency_ms: float
    cpu_ms: float


def costs(workers: int, repetitions: int) -> Iterator[Cost]:
    """A cheap task and the heavy ones, in a cluster that imports ahead and in one that does not."""
    tasks = [TASK, DJANGO, *([NUMPY] if importlib.util.find_spec("numpy") else [])]
    for megabytes in (256, 0):
        with running(1, workers, {"PYDRA_PRIMED_MEMORY_MB": str(megabytes)}) as cluster:
            controller = cluster.controller()
            wait_listed(controller, *tasks)
            for task in tasks:
                run = partial(run_one, controller, task)
                timed(run, 5, PAUSE_S)
                before = cluster.meter.seconds()
                latencies = timed(run, repetitions, PAUSE_S)
                cpu = (cluster.meter.seconds() - before) / repetitions
                yield Cost(task, megabytes > 0, statistics.median(latencies) * 1e3, cpu * 1e3)
