# SPDX-License-Identifier: MIT
"""
Resource limits: those of every process of a worker, from bounds; put on oneself, or on a process that runs.

A limit can be lowered by its own process, or by whoever has its uid, and never raised again without
privilege. So a worker that is started ahead gets the ceilings of its node, and before it sees any code the
bounds of its task.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence

from pydra.cluster.sandbox.launcher.bounds import Bounds

DESCRIPTORS = 256
"""Open descriptors of a process."""

NICENESS = 5
"""Workers run behind the daemons of their machine."""

ADDRESS_FACTOR = 4
"""Address space that a process may take, as a multiple of its memory where no group limits that."""

SMALLEST_ADDRESS_SPACE = 4 * 1024**3
"""Bytes; programs reserve far more than they use."""

Limits = tuple[tuple[int, int], ...]
"""Resource numbers and values; soft and hard are the same."""


def fixed() -> Limits:
    """The limits that are the same for every worker."""
    return (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, DESCRIPTORS)


def of(bounds: Bounds, *, memory: bool, processes: bool) -> Limits:
    """The limits that follow from bounds; of memory and of processes only where they are wanted."""
    chosen = [(resource.RLIMIT_FSIZE, bounds.scratch)]
    if memory:
        chosen.append((resource.RLIMIT_AS, max(SMALLEST_ADDRESS_SPACE, ADDRESS_FACTOR * bounds.memory)))
    if processes:
        chosen.append((resource.RLIMIT_NPROC, bounds.processes))
    return tuple(chosen)


def apply(limits: Limits) -> None:
    """Take the limits upon this process; one that is lower already stays."""
    for kind, value in limits:
        hard = resource.getrlimit(kind)[1]
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowered, lowered))


def apply_to(pid: int, limits: Limits) -> None:
    """The same for a process of our own or, as root, of any uid. `OSError`."""
    for kind, value in limits:
        hard = resource.prlimit(pid, kind)[1]
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.prlimit(pid, kind, (lowered, lowered))


def counts_by_namespace(release: str = "") -> bool:
    """
    True if the kernel counts the processes of a uid for each user namespace apart (since 5.14).

    Then RLIMIT_NPROC concerns the worker alone, even if its uid is also the daemon's.
    """
    numbers = (release or os.uname().release).split("-")[0].split(".")[:2]
    return [int(number) for number in numbers if number.isdigit()] >= [5, 14]


def children(pid: int) -> Sequence[int]:
    """The children of a process; none if it is gone, or the kernel does not list them."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as opened:
            return [int(child) for child in opened.read().split()]
    except (OSError, ValueError):
        return []
