# SPDX-License-Identifier: MIT
"""A limit of the kernel that a task ran into by itself is told as one."""

from __future__ import annotations

import errno
import resource

import pytest

from pydra.cluster.tasks.failure import failure_of, limit_reached
from pydra.cluster.wire.frames import FAILED, READY
from tests.support.runtimes import Runtime

LOWERED = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))"


def test_a_task_without_address_space_left() -> None:
    """Its MemoryError is told with the limit that made it."""
    with Runtime(preparation=LOWERED) as worker:
        assert [READY] == worker.frame()
        worker.run("hostile.hostile_tasks.Large", {"mebibytes": 4096})
        kind, code, message, traceback = worker.answer()
    assert (FAILED, "limit") == (kind, code)
    assert "address space limit of 1024 MiB reached" == message
    assert "MemoryError" in str(traceback)


@pytest.mark.parametrize(
    ("fault", "limit", "expected"),
    [
        (MemoryError(), 3 * 2**20, ("limit", "address space limit of 3 MiB reached")),
        (MemoryError(), resource.RLIM_INFINITY, ("failed", "MemoryError")),
        (OSError(errno.EFBIG, "x"), 2**20 + 1, ("limit", "limit of 1048577 bytes for one file reached")),
        (OSError(errno.EFBIG, "x"), resource.RLIM_INFINITY, ("failed", "OSError: [Errno 27] x")),
        (OSError(errno.ENOSPC, "x"), 2**20, ("failed", "OSError: [Errno 28] x")),
        (OSError(), 2**20, ("failed", "OSError")),
    ],
)
def test_only_what_a_limit_did(
    monkeypatch: pytest.MonkeyPatch, fault: BaseException, limit: int, expected: tuple[str, str]
) -> None:
    """The same exceptions without a limit are the task's own."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    told = failure_of(fault)
    assert expected == (told.code, told.message)
    assert (expected[0] == "limit") == bool(limit_reached(fault))
