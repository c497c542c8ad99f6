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

from pydra.cluster.sandbox.launcher import bounds as limits
from pydra.cluster.sandbox.launcher import rlimits, watching
from pydra.cluster.sandbox.launcher.bounds import Bounds
from pydra.cluster.sandbox.launcher.cgroups import Group

OWN_PROCESSES = 2
"""Processes of a sandbox that bubblewrap made which are not the task's."""

_INFORMATION_LIMIT = 4096


class Sandbox:
    """What the launcher knows of one sandbox."""

    def __init__(
        self, number: int, uid: int | None, packages: int, bounds: Bounds, group: Group | None
    ) -> None:
        self.number = number
        self.uid = uid
        self.bounds = bounds
        """What it may use."""
        self.group = group
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
        self.is_forked = False
        """It was not made by bubblewrap: its monitor is the first process inside."""
        self.reached: str | None = None
        """The limit that it has reached, by its name in ``bounds``."""
        self.is_overdue = False
        """It was ended because its time had passed."""
        self.watched = False
        """A look at what it uses is under way."""
        self.next_look = 0.0
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

    @property
    def limits_memory(self) -> bool:
        """Its group limits its memory."""
        return self.group is not None and self.group.limits_memory

    @property
    def limits_processes(self) -> bool:
        """Its group limits its processes."""
        return self.group is not None and self.group.limits_processes

    def join(self) -> None:
        """Move its monitor, whose only process it still is, into its group."""
        if self.group is not None:
            try:
                self.group.add(self.monitor)
            except OSError:
                self._doomed = True  # no worker begins without its limits

    def workers(self) -> list[int]:
        """The worker, whose descendants are all that it started; none if it is gone."""
        first = self.monitor if self.is_forked else self.first
        if first is not None:
            return rlimits.threads_and_children(first)[1]
        return [self.monitor] if self.status is None else []

    @property
    def _others(self) -> int | None:
        """Processes that the kernel counts beside those of the task; None if it counts other workers' too."""
        inside = self.is_forked or self.first is not None
        if inside and rlimits.counts_by_namespace():
            others = 1  # the first process inside
        elif self.uid is not None:
            others = self.own_processes
        else:
            return None
        # The group refuses before, since it can tell afterwards.
        return others + 1 if self.limits_processes else others

    @property
    def own_processes(self) -> int:
        """Its processes that are not the task's: the first one inside and, of bubblewrap, the monitor."""
        return 1 if self.is_forked else OWN_PROCESSES

    def launch_limits(self, ceilings: Bounds) -> rlimits.Limits:
        """The resource limits that it starts with, which can be lowered and not be raised."""
        others = self.own_processes + 1 if self.uid is not None else None
        return rlimits.fixed() + rlimits.of(ceilings, memory=not self.limits_memory, others=others)

    def bind(self, bounds: Bounds) -> None:
        """Set what it may use, before it sees any code. `OSError` if it is gone."""
        if self.group is not None and bounds != self.bounds:
            self.group.limit(bounds, self.own_processes)
        self.bounds = bounds
        chosen = rlimits.of(bounds, memory=not self.limits_memory, others=self._others)
        workers = self.workers()
        for worker in workers:
            rlimits.apply_to(worker, chosen, self.uid)
        if not workers:
            raise ProcessLookupError("the worker is gone")

    def note_reached(self) -> None:
        """Find out whether it has reached a limit that did not end it; asked before it is ended."""
        if self.reached is None and self.group is not None:
            if self.group.out_of_memory():
                self.reached = limits.MEMORY
            elif self.group.out_of_processes():
                self.reached = limits.PROCESSES
        if self.reached is not None or self.limits_processes:
            return
        if watching.count_processes(self.workers()) >= self.bounds.processes:
            self.reached = limits.PROCESSES

    def kill(self) -> None:
        """Begin its end."""
        self._doomed = True
        self.advance_kill()

    def advance_kill(self) -> None:
        """Kill what can be killed by now: not the monitor before it told whom it started."""
        if self._doomed and self.monitor and self.information is None and self.status is None:
            os.kill(self.monitor, signal.SIGKILL)
            if self.group is not None:
                self.group.kill()

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
