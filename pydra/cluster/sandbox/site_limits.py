# SPDX-License-Identifier: MIT
"""What a worker may use on this machine: what the settings say, and where they are silent, what it has."""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple, Protocol

from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds, size_words
from pydra.cluster.sandbox.launcher.configuration import FULL
from pydra.errors import LimitExceeded
from pydra.model.package import TaskLimits

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


class NetworkSettings(LimitSettings, Protocol):
    """The same, and the network's."""

    @property
    def ALLOW_NETWORK(self) -> bool: ...  # noqa: N802, D102


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


class SiteLimits(NamedTuple):
    """What a node gives to tasks."""

    defaults: Bounds
    ceilings: Bounds
    network: bool
    isolation: str

    def bounds(self, asked: TaskLimits) -> Bounds:
        """What a task gets that asks for this; `LimitExceeded` says what this node does not give."""
        if asked.isolation == FULL and self.isolation != FULL:
            raise LimitExceeded(f"The task asks for isolation full; that of this node is {self.isolation}.")
        if asked.network and not self.network:
            raise LimitExceeded(
                "The task asks for the network, which this node does not give (ALLOW_NETWORK)."
            )
        for name, setting, words in (
            ("memory", "MEMORY_CEILING_MB", size_words),
            ("processes", "PROCESSES_CEILING", "{} processes".format),
            ("cpus", "CPUS_CEILING", "{:g} cores".format),
            ("scratch", "SCRATCH_CEILING_MB", size_words),
        ):
            wanted, most = getattr(asked, name), getattr(self.ceilings, name)
            if wanted > most:
                what = {"memory": " of memory", "scratch": " of scratch"}.get(name, "")
                told = f"The task asks for {words(wanted)}{what}"
                raise LimitExceeded(f"{told}; this node gives at most {words(most)} ({setting}).")
        return Bounds(
            memory=asked.memory or self.defaults.memory,
            processes=asked.processes or self.defaults.processes,
            cpus=asked.cpus or self.defaults.cpus,
            scratch=asked.scratch or self.defaults.scratch,
            files=self.defaults.files,
        )


def site_limits(settings: NetworkSettings, directory: str, isolation: str) -> SiteLimits:
    """Those of a node whose scratch is on the disk of ``directory``."""
    return SiteLimits(defaults(settings), ceilings(settings, directory), settings.ALLOW_NETWORK, isolation)


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
