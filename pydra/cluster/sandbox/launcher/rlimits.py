# SPDX-License-Identifier: MIT
"""
Resource limits: those of every process of a worker, from bounds; put on oneself, or on a process that runs.

A limit can be lowered by its own process, or by whoever has its uid, and never raised again without
privilege. So a worker that is started ahead gets the ceilings of its node, and before it sees any code the
bounds of its task.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

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


def of(bounds: Bounds, *, memory: bool, others: int | None) -> Limits:
    """
    The limits that follow from bounds; of memory only where it is wanted.

    ``others`` are the processes that count beside those of the task; None for no limit of processes.
    """
    chosen = [(resource.RLIMIT_FSIZE, bounds.scratch)]
    if memory:
        chosen.append((resource.RLIMIT_AS, max(SMALLEST_ADDRESS_SPACE, ADDRESS_FACTOR * bounds.memory)))
    if others is not None:
        chosen.append((resource.RLIMIT_NPROC, bounds.processes + others))
    return tuple(chosen)


def apply(limits: Limits) -> None:
    """Take the limits upon this process; one that is lower already stays."""
    for kind, value in limits:
        hard = resource.getrlimit(kind)[1]
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowered, lowered))


def apply_to(pid: int, limits: Limits, uid: int | None = None) -> None:
    """The same for a process of our own, or as root for one of ``uid``. `OSError`."""
    with _real_ids(uid):
        for kind, value in limits:
            hard = resource.prlimit(pid, kind)[1]
            lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, kind, (lowered, lowered))


@contextlib.contextmanager
def _real_ids(uid: int | None) -> Iterator[None]:
    """
    Have the real ids of a worker for a moment, still root by all others.

    The kernel asks for equal ids or CAP_SYS_RESOURCE, which root lacks in most containers. Until the worker
    has its limits, nobody's code runs under its uid.
    """
    if uid is None:
        yield
        return
    os.setresgid(uid, -1, -1)
    try:
        os.setresuid(uid, -1, -1)
        try:
            yield
        finally:
            os.setresuid(0, -1, -1)
    finally:
        os.setresgid(0, -1, -1)


def counts_by_namespace(release: str = "") -> bool:
    """
    True if the kernel counts the processes of a uid for each user namespace apart (since 5.14).

    Then RLIMIT_NPROC concerns the worker alone, even if its uid is also the daemon's.
    """
    numbers = (release or os.uname().release).split("-")[0].split(".")[:2]
    return [int(number) for number in numbers if number.isdigit()] >= [5, 14]


def threads_and_children(pid: int) -> tuple[int, list[int]]:
    """The number of threads of a process, and the children of them all; none if it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            with open(f"/proc/{pid}/task/{thread}/children") as opened:
                found += [int(child) for child in opened.read().split()]
    except (OSError, ValueError):
        return 0, found  # it, or the thread, is gone
    return len(threads), found
