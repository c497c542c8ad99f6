# SPDX-License-Identifier: MIT
"""What this machine is."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import psutil

import pydra
from pydra.model.node import NodeInformation

MEGABYTE = 1024 * 1024

NOTHING: Mapping[str, float] = MappingProxyType({})


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def stones(seconds: Callable[[], float] = time.perf_counter) -> int:
    """
    A CPU figure to compare nodes by: thousands of SHA-256 blocks of 64 bytes hashed a second, by one core.

    Takes about 20 ms.
    """
    block = b"pydra" * 1600
    rounds = 500
    begun = seconds()
    for _ in range(rounds):
        hashlib.sha256(block).digest()
    elapsed = max(seconds() - begun, 1e-6)
    return int(rounds * len(block) / 64 / elapsed / 1000)


def information(
    isolation: str, cpu_figure: int, labels: Collection[str] = (), resources: Mapping[str, float] = NOTHING
) -> NodeInformation:
    """The machine as it is now; memory in MB. What the site says of ``resources`` wins over what is found."""
    memory = psutil.virtual_memory()
    cores = available_cores()
    found = {"cpus": float(cores), "memory": float(memory.total // MEGABYTE)}
    return NodeInformation(
        cores=cores,
        total_memory=memory.total // MEGABYTE,
        avail_memory=memory.available // MEGABYTE,
        stones=cpu_figure,
        isolation=isolation,
        version=pydra.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        labels=tuple(sorted(set(labels))),
        resources=found | dict(resources),
    )
