# SPDX-License-Identifier: MIT
"""
Looking at what a worker uses: its scratch, and where no group limits them, its memory and its processes.

Everything is looked at in small steps, and nothing here believes what it finds: the worker may be changing it
at the same time.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator

from pydra.cluster.sandbox.launcher.bounds import FILES, MEMORY, PROCESSES, SCRATCH, Bounds
from pydra.cluster.sandbox.launcher.rlimits import threads_and_children

INTERVAL_S = 1.0
"""Seconds between two looks."""

PAUSE_PER_ENTRY_S = 40e-6
"""Seconds that a look is put off for each file of the last: about ten times what it took."""

DEPTH_LIMIT = 200
"""Directories in each other; what is deeper counts as too many files."""

_STRIDE = 64
_BLOCK = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PAGE = os.sysconf("SC_PAGE_SIZE")

Look = Generator[None, None, str | None]
"""A look in steps; its value is the limit that is reached, if any."""


class Usage:
    """What was found in a scratch directory."""

    def __init__(self) -> None:
        self.size = 0
        self.files = 0
        self._linked: set[tuple[int, int]] = set()

    def add(self, status: os.stat_result) -> None:
        """Count a file, whatever its names, by the blocks that it takes: holes are free."""
        self.files += 1
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in self._linked:
                return
            self._linked.add((status.st_dev, status.st_ino))
        self.size += status.st_blocks * _BLOCK

    def reached(self, bounds: Bounds) -> str | None:
        """The limit that this reaches."""
        if self.files > bounds.files:
            return FILES
        return SCRATCH if self.size >= bounds.scratch else None


def look_at_scratch(scratch: int, bounds: Bounds, usage: Usage) -> Look:
    """A look at a directory, by a descriptor of it; ends as soon as a limit is reached."""
    reached = yield from _look_below(scratch, bounds, usage, 0)
    return reached


def _look_below(directory: int, bounds: Bounds, usage: Usage, depth: int) -> Look:
    if depth > DEPTH_LIMIT:
        return FILES
    with os.scandir(directory) as entries:
        for entry in entries:
            if usage.files % _STRIDE == _STRIDE - 1:
                yield
            try:
                usage.add(entry.stat(follow_symlinks=False))
            except OSError:
                continue  # it is gone
            if reached := usage.reached(bounds):
                return reached
            if entry.is_dir(follow_symlinks=False):
                below = _open(entry.name, directory)
                if below is not None:
                    try:
                        reached = yield from _look_below(below, bounds, usage, depth + 1)
                    finally:
                        os.close(below)
                    if reached:
                        return reached
    return None


def _open(name: str, parent: int) -> int | None:
    """A directory, made readable if its owner, who we are then, hid it; None if it is gone."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        pass
    except OSError:
        return None
    with contextlib.suppress(OSError):
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            # By what was opened: the name may be a link by now.
            os.chmod(f"/proc/self/fd/{held}", 0o700)
            return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(held)
    return None


def look_at_processes(first: list[int], bounds: Bounds, *, memory: bool, processes: bool) -> Look:
    """A look at these processes and all below them: at their memory and at their number, as wanted."""
    count, found = yield from _all_below(first)
    if processes and count > bounds.processes:
        return PROCESSES
    if not memory:
        return None
    total = 0
    for pid in found:
        total += _resident(pid)
    if total <= bounds.memory:
        return None
    # What processes share was counted for each of them: now it is divided among them, which takes longer.
    total = 0
    for pid in found:
        total += _proportional(pid)
        yield
    return MEMORY if total > bounds.memory else None


def count_processes(first: list[int]) -> int:
    """These processes and all below them, now, with their threads."""
    look = _all_below(first)
    while True:
        try:
            next(look)
        except StopIteration as ended:
            count: int = ended.value[0]
            return count


def _all_below(first: list[int]) -> Generator[None, None, tuple[int, list[int]]]:
    """The number of processes and threads, and the processes."""
    found: list[int] = []
    count = 0
    waiting = list(first)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        threads, below = threads_and_children(pid)
        count += threads
        waiting += below
        if len(found) % _STRIDE == 0:
            yield
    return count, found


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as opened:
            return int(opened.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as opened:
            for line in opened:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _resident(pid)
