# SPDX-License-Identifier: MIT
"""What one worker and all its processes together may use."""

from __future__ import annotations

from typing import NamedTuple

MEBIBYTE = 1024 * 1024

MEMORY, PROCESSES, SCRATCH, FILES = "memory", "processes", "scratch", "files"
"""What a worker can have reached the limit of."""


class Bounds(NamedTuple):
    """The limits of one worker."""

    memory: int
    """Bytes, files in its memory file systems included."""
    processes: int
    """Processes and threads, the worker itself included."""
    cpus: float
    """Cores that it may use; 0 for its share of all, which is that of one."""
    scratch: int
    """Bytes on disk in its scratch directory, and of any one file."""
    files: int
    """Files and directories in its scratch directory."""


class BoundsFault(Exception):
    """These are no bounds, or they are above what is allowed; the text says why."""


def read_bounds(listed: object, ceilings: Bounds) -> Bounds:
    """The bounds in a list of JSON, in the order of the fields. `BoundsFault`."""
    if not isinstance(listed, list) or len(listed) != len(Bounds._fields):
        raise BoundsFault("The bounds are not a list of five numbers.")
    for name, value in zip(Bounds._fields, listed, strict=True):
        kinds = (int, float) if name == "cpus" else (int,)
        if type(value) not in kinds or not (0 if name == "cpus" else 1) <= value <= getattr(ceilings, name):
            raise BoundsFault(f"The bound of {name} is above what this node allows, or no number.")
    return Bounds(*listed)


def words(what: str, bounds: Bounds) -> str:
    """That a limit was reached, with its figure, for whoever reads what became of a task."""
    figure = {
        MEMORY: f"memory limit of {size_words(bounds.memory)}",
        PROCESSES: f"process limit of {bounds.processes}",
        SCRATCH: f"scratch limit of {size_words(bounds.scratch)}",
        FILES: f"scratch limit of {bounds.files} files",
    }[what]
    return f"{figure} reached"


def size_words(count: int) -> str:
    """Bytes as people say them, exact."""
    return f"{count // MEBIBYTE} MiB" if count % MEBIBYTE == 0 else f"{count} bytes"
