# SPDX-License-Identifier: MIT
"""
``python -m benchmarks queued``: what a million units that wait cost a master.

They are submitted by sessions that may run nowhere, so each is stored on the disk and in line in memory.
"""

from __future__ import annotations

import argparse
import time

import psutil

from benchmarks.cluster import TASK, MeasuredCluster, running, wait_listed
from benchmarks.rows import show
from benchmarks.session_client import NOTHING, SessionClient

KIBIBYTE = 1024
AT_ONCE = 500


def fill(cluster: MeasuredCluster, units: int) -> None:
    """Let so many units wait, in as many sessions as their windows take."""
    left = units
    while left > 0:
        with SessionClient(cluster.host, cluster.port, cluster.key) as client:
            client.open(TASK, labels=["nowhere"])
            count = min(left, client.window)
            for first in range(0, count, AT_ONCE):
                client.send(first, [NOTHING] * min(AT_ONCE, count - first))
            while len(client.stored) < count:
                client.take()
            left -= count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks queued", description=__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    options = parser.parse_args()
    with running(1, 1) as cluster:
        controller = cluster.controller()
        wait_listed(controller)
        fill(cluster, 10_000)
        master = psutil.Process(cluster.pids["master"])
        before = master.memory_full_info().pss
        begun = time.perf_counter()
        fill(cluster, options.units)
        took_s = time.perf_counter() - begun
        after = master.memory_full_info().pss
        begun = time.perf_counter()
        controller.task_statuses()
        asked_s = time.perf_counter() - begun
    show(
        "a queued unit: memory of the master", (after - before) / options.units / KIBIBYTE, "KiB", aim="aim 1"
    )
    show("master with all of them", after / KIBIBYTE / KIBIBYTE, "MB")
    show("submitted and stored", options.units / took_s, "1/s", aim="aim 20000")
    show("all statuses asked for, meanwhile", asked_s * 1e3, "ms")
