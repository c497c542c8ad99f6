# SPDX-License-Identifier: MIT
"""What a worker may use on this machine: what the settings say, and where they are silent, what it has."""

from __future__ import annotations

import os
import shutil
from typing import Protocol

from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds

DESCRIBE_MEMORY_MB = 256
"""Memory of the master's own workers, which describe packages and check arguments."""


class LimitSettings(Protocol):
    """The settings that matter here."""

    @property
    def WORKER_MEMORY_MB(self) -> int: ...  # noqa: N802, D102 - named and described by the settings
    @property
    def MEMORY_CEILING_MB(self) -> int: ...  # noqa: N802, D102
    @property
    def WORKER_PROCESSES(self) -> int: ...  # noqa: N802, D102
    @property
    def PROCESSES_CEILING(self) -> int: ...  # noqa: N802, D102
    @property
    def WORKER_CPUS(self) -> float: ...  # noqa: N802, D102
    @property
    def CPUS_CEILING(self) -> float: ...  # noqa: N802, D102
    @property
    def WORKER_SCRATCH_MB(self) -> int: ...  # noqa: N802, D102
    @property
    def SCRATCH_CEILING_MB(self) -> int: ...  # noqa: N802, D102
    @property
    def WORKER_FILES(self) -> int: ...  # noqa: N802, D102


def defaults(settings: LimitSettings, role: str = "node") -> Bounds:
    """What a worker of this daemon may use unless its task says otherwise."""
    memory = settings.WORKER_MEMORY_MB
    return Bounds(
        memory=(min(memory, DESCRIBE_MEMORY_MB) if role == "master" else memory) * MEBIBYTE,
        processes=settings.WORKER_PROCESSES,
        cpus=settings.WORKER_CPUS,
        scratch=settings.WORKER_SCRATCH_MB * MEBIBYTE,
        files=settings.WORKER_FILES,
    )


def ceilings(settings: LimitSettings, directory: str) -> Bounds:
    """The most that a task may ask for; ``directory`` is on the disk that has the scratch."""
    usual = defaults(settings)
    memory = settings.MEMORY_CEILING_MB * MEBIBYTE or _total_memory()
    scratch = settings.SCRATCH_CEILING_MB * MEBIBYTE or shutil.disk_usage(directory).total
    return Bounds(
        memory=max(memory, usual.memory),
        processes=max(settings.PROCESSES_CEILING, usual.processes),
        cpus=max(settings.CPUS_CEILING or float(len(os.sched_getaffinity(0))), usual.cpus),
        scratch=max(scratch, usual.scratch),
        files=usual.files,
    )


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
