# SPDX-License-Identifier: MIT
"""The reference: a process pool of the standard library, on the same machine in the same run."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor


def nothing() -> int:
    """What the pool runs."""
    return 0


def timed(call: Callable[[], object], repetitions: int, pause_s: float = 0.0) -> list[float]:
    """Seconds that each call took; between two of them nothing is asked for, so that what is warm can be."""
    seconds = []
    for _ in range(repetitions):
        time.sleep(pause_s)  # noqa: TID251 - part of the measurement
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return seconds


def pool_figures(workers: int, repetitions: int) -> tuple[float, float]:
    """Seconds of one call, and calls a second, of a pool that makes a fresh process for each call."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        pool.submit(nothing).result()
        one = statistics.median(timed(lambda: pool.submit(nothing).result(), repetitions))
        begun = time.perf_counter()
        for future in [pool.submit(nothing) for _ in range(repetitions * 2)]:
            future.result()
        return one, repetitions * 2 / (time.perf_counter() - begun)


def kept_pool(workers: int, calls: int = 20_000, alone: int = 300) -> tuple[float, float]:
    """Calls a second, and seconds of one call, of a pool that keeps its processes; one call a message."""
    with ProcessPoolExecutor(workers) as pool:
        pool.submit(nothing).result()
        one = statistics.median(timed(lambda: pool.submit(nothing).result(), alone))
        begun = time.perf_counter()
        for future in [pool.submit(nothing) for _ in range(calls)]:
            future.result()
        return calls / (time.perf_counter() - begun), one
