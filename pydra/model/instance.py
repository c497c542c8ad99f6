# SPDX-License-Identifier: MIT
"""A task instance and what it carries."""

from __future__ import annotations

import msgspec

from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion, TaskKey, WorkerKey
from pydra.model.options import NO_OPTIONS, PRIORITY, RunOptions
from pydra.model.package import NO_NEEDS, Needs
from pydra.model.status import Status

INLINE_LIMIT = 64 * 1024
"""Bytes of a payload that travel and are stored inline; larger ones go by bulk and are files."""


MESSAGE_LIMIT, TRACEBACK_LIMIT = 4 * 1024, 64 * 1024
"""Characters of a failure's message, or of a message of progress, and of its traceback; more is cut."""


class Payload(msgspec.Struct, frozen=True):
    """
    Arguments or a result: MessagePack bytes that daemons carry and do not look into.

    Either ``inline`` holds them, or ``sha256`` (hex) names a blob of ``size`` bytes.
    """

    size: int
    inline: bytes = b""
    sha256: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why something failed: a stable code of ``pydra.errors``, a sentence, and the task's own traceback."""

    code: str
    message: str
    traceback: str = ""


class Instance(msgspec.Struct, frozen=True):
    """One run of a task; instants are UTC seconds since the epoch."""

    id: InstanceId
    task_key: TaskKey
    package: PackageName
    version: PackageVersion
    args: Payload
    status: Status
    queued: float
    priority: int = PRIORITY
    """Smaller runs first."""
    request_key: str = ""
    """Made by the client; a repeated submission with the same key answers the first id."""
    started: float | None = None
    completed: float | None = None
    attempt: Attempt | None = None
    """The latest assignment; only its outcome is recorded."""
    node: NodeId | None = None
    worker: WorkerKey | None = None
    losses: int = 0
    """Assignments that ended by losing the worker or the node."""
    result: Payload | None = None
    failure: Failure | None = None
    needs: Needs = NO_NEEDS
    """What the package version runs with, as it was when the instance was accepted."""
    options: RunOptions = NO_OPTIONS
    """How it is run."""
    retried: int = 0
    """Attempts that failed and were followed by a retry; the ``failure`` of the last is kept meanwhile."""
    not_before: float | None = None
    """A queued retry does not begin earlier."""


class Ended(msgspec.Struct, frozen=True):
    """What others may depend on of an instance that is final."""

    status: Status
    node: NodeId | None = None
    """Where it ran last; None if it never ran."""


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One line that a task wrote; ``time`` is UTC seconds, ``stream`` is stdout, stderr or log."""

    time: float
    level: str
    stream: str
    text: str
