# SPDX-License-Identifier: MIT
"""
Control groups: limits on all processes of a worker together, and an end for all of them at once.

Each sandbox has a group ``<hierarchy>/<name>/<launcher>/<sandbox>`` in every hierarchy that is of use here:
the old ones (version 1) of memory, pids and cpu, or the unified one (version 2), which can also kill. What a
launcher left that was killed, the next one removes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from pydra.cluster.sandbox.launcher.bounds import Bounds

MEMORY, PIDS, CPU = "memory", "pids", "cpu"
CONTROLLERS = (MEMORY, PIDS, CPU)

_PERIOD_US = 100_000
_SHARES, _WEIGHT = 1024, 100
"""What one core's worth is called in each version."""


class Hierarchy(NamedTuple):
    """A mounted tree of groups and what it can limit."""

    path: str
    version: int
    controllers: tuple[str, ...]


def find_hierarchies(mounts: str = "/proc/self/mounts") -> list[Hierarchy]:
    """The hierarchies that are of use: each of our controllers once, and the unified one."""
    found: list[Hierarchy] = []
    with open(mounts) as opened:
        lines = [line.split() for line in opened]
    for _, path, kind, options, *_ in lines:
        if kind == "cgroup":
            controllers = tuple(name for name in CONTROLLERS if name in options.split(","))
            if controllers:
                found.append(Hierarchy(path, 1, controllers))
        elif kind == "cgroup2":
            offered = (_read(f"{path}/cgroup.controllers") or "").split()
            found.append(Hierarchy(path, 2, tuple(name for name in CONTROLLERS if name in offered)))
    return found


class Group:
    """The groups of one sandbox, one in each hierarchy."""

    def __init__(self, places: list[Hierarchy]) -> None:
        self._places = places

    @property
    def limits_memory(self) -> bool:
        """The memory of all its processes is limited."""
        return any(MEMORY in place.controllers for place in self._places)

    @property
    def limits_processes(self) -> bool:
        """The number of its processes is limited."""
        return any(PIDS in place.controllers for place in self._places)

    def join(self) -> None:
        """Move the calling process, which must have one thread, into the group. `OSError`."""
        self.add(0)

    def add(self, pid: int) -> None:
        """Move another process, which must have one thread, into the group. `OSError`."""
        for place in self._places:
            _write(f"{place.path}/cgroup.procs", str(pid))

    def limit(self, bounds: Bounds, others: int) -> None:
        """Set the limits of all its processes together, ``others`` of which are not the task's. `OSError`."""
        bounds = bounds._replace(processes=bounds.processes + others)
        for place in self._places:
            for controller in place.controllers:
                _SETTERS[place.version, controller](place.path, bounds)

    def out_of_memory(self) -> bool:
        """A process was killed because the memory limit was reached."""
        names = {1: "memory.oom_control", 2: "memory.events"}
        return self._count(MEMORY, names, "oom_kill") > 0

    def out_of_processes(self) -> bool:
        """A process could not be made because the limit was reached."""
        return self._count(PIDS, {1: "pids.events", 2: "pids.events"}, "max") > 0

    def _count(self, controller: str, names: dict[int, str], key: str) -> int:
        for place in self._places:
            if controller in place.controllers:
                for line in (_read(f"{place.path}/{names[place.version]}") or "").splitlines():
                    name, _, count = line.partition(" ")
                    if name == key and count.isdigit():
                        return int(count)
        return 0

    def kill(self) -> None:
        """Kill every process in it, where the kernel can do that at once."""
        for place in self._places:
            if place.version == 2:
                with contextlib.suppress(OSError):  # a kernel before 5.14
                    _write(f"{place.path}/cgroup.kill", "1")

    def remove(self) -> bool:
        """Remove it; False if a process is still in it."""
        for place in self._places:
            try:
                os.rmdir(place.path)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True


class Groups:
    """The groups of this launcher, below ``name`` (a relative path) in each hierarchy."""

    def __init__(self, name: str, hierarchies: list[Hierarchy], processes: str = "/proc") -> None:
        self._processes = processes
        self._above = [place._replace(path=f"{place.path}/{name}") for place in hierarchies]
        own = f"{os.getpid()}-{self._started(os.getpid())}"
        self._own = list(_prepared(self._above, own))

    @property
    def controllers(self) -> frozenset[str]:
        """What can be limited."""
        return frozenset(controller for place in self._own for controller in place.controllers)

    def make(self, number: int) -> Group:
        """The group of a sandbox, empty and without limits. `OSError`."""
        group = Group([place._replace(path=f"{place.path}/{number}") for place in self._own])
        try:
            for place in self._own:
                os.makedirs(f"{place.path}/{number}")
        except OSError:
            group.remove()
            raise
        return group

    def remove_leftovers(self) -> None:
        """Remove the empty groups of launchers that are gone."""
        for place in self._above:
            for name in _directories(place.path):
                pid, _, started = name.partition("-")
                if pid.isdigit() and started != self._started(int(pid)):
                    _remove_below(f"{place.path}/{name}")

    def close(self) -> None:
        """Remove the groups of this launcher, if they are empty."""
        for place in self._own:
            _remove_below(place.path)
        for place in self._above:
            with contextlib.suppress(OSError):  # there are other launchers
                os.rmdir(place.path)

    def _started(self, pid: int) -> str:
        """When a process was started, in the kernel's units; a number is given again, this pair is not."""
        status = _read(f"{self._processes}/{pid}/stat")
        return status.rpartition(")")[2].split()[19] if status else ""


def open_groups(name: str) -> Groups | None:
    """The groups of this launcher, made; None if this machine has none that we may use."""
    try:
        groups = Groups(name, find_hierarchies())
    except OSError:
        return None
    groups.remove_leftovers()
    return groups if groups._own else None


def _prepared(above: list[Hierarchy], own: str) -> Iterator[Hierarchy]:
    """The launcher's own group in each hierarchy where it can be made, and what its children can limit."""
    for place in above:
        path = f"{place.path}/{own}"
        if not _made(path):
            continue
        if place.version == 1:
            yield place._replace(path=path)
            continue
        wanted = " ".join(f"+{name}" for name in place.controllers)
        for directory in (os.path.dirname(place.path), place.path, path):
            if wanted:
                with contextlib.suppress(OSError):
                    _write(f"{directory}/cgroup.subtree_control", wanted)
        given = (_read(f"{path}/cgroup.subtree_control") or "").split()
        controllers = tuple(name for name in place.controllers if name in given)
        if controllers or os.path.exists(f"{path}/cgroup.kill"):
            yield place._replace(path=path, controllers=controllers)


def _made(path: str) -> bool:
    for _ in range(3):
        try:
            os.makedirs(path, exist_ok=True)
        except FileNotFoundError:
            continue  # another launcher, the last one, has just removed what is above
        except OSError:
            return False
        return True
    return False


def _memory_1(path: str, bounds: Bounds) -> None:
    limit = f"{path}/memory.limit_in_bytes"
    with_swap = f"{path}/memory.memsw.limit_in_bytes"
    value = str(bounds.memory)
    if not os.path.exists(with_swap):
        _write(limit, value)
        return
    try:
        _write(limit, value)
        _write(with_swap, value)
    except OSError:
        # The first may not be above the second: to raise them, the second goes first.
        _write(with_swap, value)
        _write(limit, value)


def _memory_2(path: str, bounds: Bounds) -> None:
    _write(f"{path}/memory.max", str(bounds.memory))
    if os.path.exists(f"{path}/memory.swap.max"):
        _write(f"{path}/memory.swap.max", "0")


def _pids(path: str, bounds: Bounds) -> None:
    _write(f"{path}/pids.max", str(bounds.processes))


def _cpu_1(path: str, bounds: Bounds) -> None:
    _write(f"{path}/cpu.shares", str(max(2, int(_SHARES * (bounds.cpus or 1)))))
    quota = f"{path}/cpu.cfs_quota_us"
    if os.path.exists(quota):
        _write(f"{path}/cpu.cfs_period_us", str(_PERIOD_US))
        _write(quota, str(int(bounds.cpus * _PERIOD_US)) if bounds.cpus else "-1")


def _cpu_2(path: str, bounds: Bounds) -> None:
    _write(f"{path}/cpu.weight", str(min(10_000, max(1, int(_WEIGHT * (bounds.cpus or 1))))))
    quota = str(int(bounds.cpus * _PERIOD_US)) if bounds.cpus else "max"
    _write(f"{path}/cpu.max", f"{quota} {_PERIOD_US}")


_SETTERS = {
    (1, MEMORY): _memory_1,
    (2, MEMORY): _memory_2,
    (1, PIDS): _pids,
    (2, PIDS): _pids,
    (1, CPU): _cpu_1,
    (2, CPU): _cpu_2,
}


def _remove_below(path: str) -> None:
    """Remove a launcher's group and those in it, as far as they are empty."""
    for name in _directories(path):
        with contextlib.suppress(OSError):
            os.rmdir(f"{path}/{name}")
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _read(path: str) -> str | None:
    try:
        with open(path) as opened:
            return opened.read()
    except OSError:
        return None


def _write(path: str, value: str) -> None:
    # Written by one call, which the kernel answers; and not created, should it not be there.
    file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)
