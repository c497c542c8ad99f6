# SPDX-License-Identifier: MIT
"""
CPU time of a whole cluster, workers that were killed included: the kernel counts it for a control group.

Adding up processes does not do: what the first process of a sandbox did not wait for is counted nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OLD, _UNIFIED = Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")


class Meter:
    """A control group whose CPU time is counted; without permission to make one it counts nothing."""

    def __init__(self, group: Path | None) -> None:
        self._group = group

    def join(self) -> None:
        """In a child before it executes: be counted, with all that it starts."""
        if self._group is not None:
            (self._group / "cgroup.procs").write_text(str(os.getpid()))

    def seconds(self) -> float:
        """CPU time so far; not a number if nothing is counted."""
        if self._group is None:
            return float("nan")
        usage = self._group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        told = dict(line.split() for line in (self._group / "cpu.stat").read_text().splitlines())
        return int(told["usage_usec"]) / 1e6


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter, removed at the end if nobody is in it any more."""
    above = _OLD if _OLD.is_dir() else _UNIFIED
    group: Path | None = above / f"pydra-benchmark-{os.getpid()}"
    assert group is not None
    try:
        group.mkdir(exist_ok=True)
    except OSError:
        group = None
    try:
        yield Meter(group)
    finally:
        if group is not None:
            try:
                group.rmdir()
            except OSError:
                print(f"{group} is still in use")
