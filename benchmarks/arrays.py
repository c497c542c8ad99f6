# SPDX-License-Identifier: MIT
"""
``python -m benchmarks arrays``: the bytes of a large array as argument and result of a task.

The rate counts them once there and once back. The ratio is to a process pool, which pickles them through a
pipe, in the same run on the same machine, with no TLS and no disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import psutil

from benchmarks.cluster import MeasuredCluster, running, wait_listed
from pydra.client import Client

MEGABYTE = 1024 * 1024
TASK = "bench.arrays.Same"


def same(array: bytes) -> bytes:
    """What the pool runs."""
    return array


def pool_seconds(array: bytes, repetitions: int) -> list[float]:
    """Seconds of each round trip to a process of a pool."""
    taken = []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        pool.submit(same, b"").result()
        for _ in range(repetitions):
            begun = time.perf_counter()
            if len(pool.submit(same, array).result()) != len(array):
                raise RuntimeError("The pool answered something else.")
            taken.append(time.perf_counter() - begun)
    return taken


class Watch:
    """The highest memory (PSS, bytes) and the CPU time of each daemon, while it lasts."""

    def __init__(self, cluster: MeasuredCluster) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in cluster.pids.items()}
        self.memory = dict.fromkeys(self._processes, 0)
        self._before = {name: sum(each.cpu_times()[:2]) for name, each in self._processes.items()}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def cpu(self) -> dict[str, float]:
        """Seconds of each since the begin."""
        return {
            name: sum(each.cpu_times()[:2]) - self._before[name] for name, each in self._processes.items()
        }

    def _look(self) -> None:
        while not self._is_over.wait(0.1):
            for name, each in self._processes.items():
                self.memory[name] = max(self.memory[name], each.memory_full_info().pss)


def round_trips(cluster: MeasuredCluster, array: bytes, repetitions: int) -> list[tuple[float, float]]:
    """Seconds until the submission was answered, and until the result was there, of each."""
    taken = []
    with Client(cluster.host, cluster.port, cluster.key) as client:
        client.submit(TASK, {"array": b"warm"}).result()
        for _ in range(repetitions):
            begun = time.perf_counter()
            instance = client.submit(TASK, {"array": array})
            submitted = time.perf_counter() - begun
            if len(instance.result()) != len(array):
                raise RuntimeError("The task answered something else.")
            taken.append((submitted, time.perf_counter() - begun))
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks arrays", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    array = os.urandom(options.megabytes * MEGABYTE)
    both = 2 * options.megabytes
    pool = both / statistics.median(pool_seconds(array, options.repetitions))
    with running(1, 1) as cluster:
        wait_listed(cluster.controller(), TASK)
        with Watch(cluster) as watch:
            client_before, all_before = time.process_time(), cluster.meter.seconds()
            taken = round_trips(cluster, array, options.repetitions)
            client, whole = time.process_time() - client_before, cluster.meter.seconds() - all_before
        cpu = watch.cpu()
    rate = both / statistics.median(seconds for _, seconds in taken)
    submitted = statistics.median(seconds for seconds, _ in taken)
    print(f"{f'{options.megabytes} MB there and back':44} {rate:8.0f} MB/s  aim 150")
    print(f"{'the same, process pool':44} {pool:8.0f} MB/s  ratio {rate / pool:.2f}")
    print(f"{'until the submission is answered':44} {submitted:8.2f} s")
    for name, seconds in {"client": client, **cpu, "cluster with workers": whole}.items():
        print(f"{f'CPU a round trip: {name}':44} {seconds / options.repetitions:8.2f} s")
    for name, size in watch.memory.items():
        print(f"{f'highest memory: {name}':44} {size / MEGABYTE:8.0f} MB")
