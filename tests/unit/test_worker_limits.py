# SPDX-License-Identifier: MIT
"""A limit of the kernel that a task ran into by itself is told as one."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
from collections.abc import Callable

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


def reads() -> None:
    """Reads what is not there yet."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.recv(1)


def starts_a_process() -> None:
    """There is no such program; the frame that raises is the one that forks all the same."""
    subprocess.Popen(["/nothing/there"])


def threads() -> None:
    """What the interpreter says when there are too many."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("call", "running", "is_told"),
    [(reads, 65, True), (reads, 64, False), (starts_a_process, 3, True), (threads, 3, True)],
)
def test_the_process_limit_is_told(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], running: int, is_told: bool, grouped: bool
) -> None:
    """If so many run, the first one aside, or if it was a process or a thread that could not be started."""
    with pytest.raises((OSError, RuntimeError)) as caught:
        call()
    fault = caught.value
    if isinstance(fault, FileNotFoundError):
        fault = BlockingIOError(errno.EAGAIN, "try again").with_traceback(fault.__traceback__)
    limits = {
        resource.RLIMIT_NPROC: 66 if grouped else 65,
        resource.RLIMIT_AS: resource.RLIM_INFINITY if grouped else 2**32,
    }
    processes = {"/proc": ["1", "2", "self"], "/proc/1/task": ["1"], "/proc/2/task": ["2"] * (running - 1)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(os, "listdir", processes.__getitem__)
    assert ("process limit of 64 reached" if is_told else "") == limit_reached(fault)
