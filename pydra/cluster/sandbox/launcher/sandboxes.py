# SPDX-License-Identifier: MIT
"""
One sandbox from start to end.

Two processes of it matter here: the *monitor* that we started (bubblewrap; without a sandbox the worker
itself) and the *first* process inside, whose death is the death of all others there. When the monitor dies
the kernel makes the first process our child (we adopt orphans), so both ends can be waited for without a
race on numbers. In a sandbox that was forked they are one: the first process is our child.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator

_INFORMATION_LIMIT = 4096


class Sandbox:
    """What the launcher knows of one sandbox."""

    def __init__(self, number: int, uid: int | None, packages: int) -> None:
        self.number = number
        self.uid = uid
        self.packages: int | None = packages
        """Descriptor of its package directory, until it was filled."""
        self.filling: Generator[None, None, None] | None = None
        self.monitor = 0
        """Its pid; 0 before there is one."""
        self.first: int | None = None
        """Pid of the first process inside; None if there is none (any more), or not told yet."""
        self.information: int | None = None
        """Descriptor on which the first process is told; None afterwards."""
        self.status: int | None = None
        """How the monitor ended: 128 + signal, or its exit code."""
        self._told = b""
        self._doomed = False

    def read_information(self) -> bool:
        """Read what bubblewrap tells; true at its end, when the descriptor may be closed."""
        assert self.information is not None
        try:
            read = os.read(self.information, _INFORMATION_LIMIT)
        except BlockingIOError:
            read = b""  # asked for at the monitor's end, after which nobody writes
        self._told += read
        if read and len(self._told) <= _INFORMATION_LIMIT:
            return False
        try:
            first = json.loads(self._told)["child-pid"]
        except (ValueError, KeyError, TypeError):
            return True  # it failed before there was one
        if isinstance(first, int) and first > 1:
            self.first = first
        return True

    def kill(self) -> None:
        """Begin its end."""
        self._doomed = True
        self.advance_kill()

    @property
    def is_doomed(self) -> bool:
        """True once its end was begun."""
        return self._doomed

    def advance_kill(self) -> None:
        """Kill what can be killed by now: not the monitor before it told whom it started."""
        if self._doomed and self.monitor and self.information is None and self.status is None:
            os.kill(self.monitor, signal.SIGKILL)

    def monitor_ended(self, status: int) -> None:
        """The monitor was reaped; see to it that the first process follows."""
        self.status = status
        if self.first is None:
            return
        try:
            # As our child it cannot be reaped by anybody else, so the number is still its own.
            if os.waitpid(self.first, os.WNOHANG)[0] == 0:
                os.kill(self.first, signal.SIGKILL)
                return
        except ChildProcessError:
            pass  # its parent, the monitor, had reaped it
        self.first = None

    def first_ended(self) -> None:
        """The first process was reaped, and with it every other inside."""
        self.first = None

    @property
    def is_dead(self) -> bool:
        """No process of it is alive."""
        return self.status is not None and self.first is None


def exit_status(wait_status: int) -> int:
    """128 + signal, or the exit code."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
