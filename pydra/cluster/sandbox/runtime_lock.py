# SPDX-License-Identifier: MIT
"""
The lock that keeps a second daemon away from a runtime directory.

It belongs to an open file: the kernel lets go of it when the process ends, however it ends. The file stays:
removing it would let two daemons lock two files of the same name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pydra.errors import ConfigError

NAME = "daemon.lock"

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def hold(runtime: Path) -> int:
    """
    Take the lock of a directory; the descriptor that holds it until it is closed.

    `ConfigError` if another daemon has it, or if there can be no lock.
    """
    try:
        descriptor = os.open(runtime / NAME, _FLAGS | os.O_CREAT, 0o600)
    except OSError as fault:
        raise ConfigError(f"{runtime / NAME} cannot be opened: {fault.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _written(descriptor)
        os.close(descriptor)
        raise ConfigError(
            f"RUNTIME_FILES_DIR: another daemon (process {other}) works in {runtime}; "
            f"end it, or name another directory."
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def holder(runtime: Path) -> str | None:
    """Return the number of the process whose daemon works in a directory; None if there is none."""
    try:
        descriptor = os.open(runtime / NAME, _FLAGS)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written(descriptor)
    finally:
        os.close(descriptor)
    return None


def _written(descriptor: int) -> str:
    """Return what the daemon that has the lock wrote of itself, as far as it is a number."""
    text = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return text if text.isdecimal() else "unknown"
