# SPDX-License-Identifier: MIT
"""What workers tell in several frames, and how they tell of failures, within limits."""

from __future__ import annotations

import hashlib

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.node.limit_words import after
from pydra.cluster.wire import frames
from pydra.errors import InvalidParameters, LimitExceeded, LoadError, TaskNotFoundException, WireError
from pydra.model.instance import MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure

TASK_CODES = frozenset(
    {"failed", LoadError.code, LimitExceeded.code, InvalidParameters.code, TaskNotFoundException.code}
)
"""Failure codes that a worker may claim; any other is read as ``failed``."""


def told_failure(code: str, text: str, traceback: str) -> Failure:
    """A failure as a worker told it."""
    code = code if code in TASK_CODES else "failed"
    return Failure(code, text[:MESSAGE_LIMIT], traceback[-TRACEBACK_LIMIT:])


def limit_failure(ending: WorkerExit, seconds: float, told: Failure | None) -> Failure:
    """A worker ended at a limit, so long after its begin; ``told`` is what it said of it."""
    words = after(ending.limit, seconds)
    if told is not None:
        words = f"{words} ({told.message})"
    return Failure(LimitExceeded.code, words[:MESSAGE_LIMIT], told.traceback if told else "")


class Parts:
    """Parts of an answer that are to come before it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._hash = hashlib.sha256()
        self.digest = ""
        """The SHA-256 (hex) of what was taken last; each part is hashed as it comes, so no turn is long."""

    def __bool__(self) -> bool:
        return bool(self._parts)

    def has_room(self, part: bytes) -> bool:
        """Whether it would not be too much."""
        return self._size + len(part) <= frames.ANSWER_LIMIT

    def add(self, part: bytes) -> None:
        """One more; `WireError` if that is too much."""
        self._size += len(part)
        if self._size > frames.ANSWER_LIMIT:
            raise WireError(f"The worker sent an answer above {frames.ANSWER_LIMIT} bytes.")
        self._parts.append(part)
        self._hash.update(part)

    def take(self, rest: bytes = b"") -> bytes:
        """All of them, with what was in the answer; `WireError` if that is too much."""
        self.add(rest)
        self.digest = self._hash.hexdigest()
        whole = b"".join(self._parts)
        self.clear()
        return whole

    def clear(self) -> None:
        """Nothing comes after them."""
        self._parts.clear()
        self._size = 0
        self._hash = hashlib.sha256()
