# SPDX-License-Identifier: MIT
"""Names of things, as distinct types."""

from __future__ import annotations

from typing import Annotated, NewType

import msgspec
from msgspec import Meta

NUMBER_LIMIT = 2**63 - 1
"""The highest number that a store takes."""

Number = Annotated[int, Meta(ge=0, le=NUMBER_LIMIT)]
"""What a peer may tell of something that is counted; another one is refused when its message is read."""

InstanceId = NewType("InstanceId", int)
"""Number of a task instance, unique in a store, rising."""

NodeId = NewType("NodeId", int)
"""Number of a node record in the master's store."""

TaskKey = NewType("TaskKey", str)
"""``package.module.Class``."""

PackageName = NewType("PackageName", str)
"""Directory name of a package below ``TASKS_DIR``; a Python identifier."""

PackageVersion = NewType("PackageVersion", str)
"""SHA-256 (hex) over the sorted names, modes and contents of a package's files."""

WorkerKey = NewType("WorkerKey", str)
"""``host:port:index``: a worker slot of a node."""


class Attempt(msgspec.Struct, frozen=True, order=True):
    """
    The number of one assignment of a work unit; never reused.

    ``epoch`` is raised in the store at each start of a master, so a restarted master cannot repeat a number.
    """

    epoch: Number
    number: Number

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"


class WorkerSlot(msgspec.Struct, frozen=True, order=True):
    """A place for one worker on a node, ``index`` from 0."""

    node: NodeId
    index: int
