# SPDX-License-Identifier: MIT
"""
Ends workers that use more than they may, once a second, and finds out what a worker had reached that ended.

A group limits memory and processes by itself, and counts what it refused; without one they are watched here.
The scratch is always watched: no limit of the kernel's concerns a directory.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from time import monotonic

from pydra.cluster.sandbox.launcher import watching
from pydra.cluster.sandbox.launcher.bounds import MEMORY
from pydra.cluster.sandbox.launcher.sandboxes import Sandbox
from pydra.cluster.sandbox.launcher.scratch import Scratch


class UsageWatch:
    """Looks at each sandbox in turn, in small steps."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    def due(self, sandboxes: Iterable[Sandbox]) -> Iterator[Generator[None, None, None]]:
        """The looks for which it is time, begun by whoever steps them."""
        now = monotonic()
        for sandbox in sandboxes:
            if sandbox.next_look <= now and not sandbox.watched and sandbox.status is None:
                sandbox.watched = True
                yield self._look(sandbox)

    def _look(self, sandbox: Sandbox) -> Generator[None, None, None]:
        usage = watching.Usage()
        try:
            if sandbox.reached is None:
                sandbox.reached = (
                    (MEMORY if sandbox.group is not None and sandbox.group.out_of_memory() else None)
                    or (yield from self._look_at_processes(sandbox))
                    or (yield from self._look_at_scratch(sandbox, usage))
                )
        except OSError:
            pass  # it has just ended
        finally:
            sandbox.watched = False
        pause_s = max(watching.INTERVAL_S, watching.PAUSE_PER_ENTRY_S * usage.files)
        sandbox.next_look = monotonic() + pause_s
        if sandbox.reached is not None and sandbox.status is None:
            sandbox.kill()

    def last_look(self, sandbox: Sandbox) -> Generator[None, None, None]:
        """Find out, when it is dead, whether its scratch was full."""
        if sandbox.reached is None:
            sandbox.reached = yield from self._look_at_scratch(sandbox, watching.Usage())

    def _look_at_processes(self, sandbox: Sandbox) -> watching.Look:
        memory, processes = not sandbox.limits_memory, not sandbox.limits_processes
        if not memory and not processes:
            return None
        look = watching.look_at_processes(
            sandbox.workers(), sandbox.bounds, memory=memory, processes=processes
        )
        return (yield from look)

    def _look_at_scratch(self, sandbox: Sandbox, usage: watching.Usage) -> watching.Look:
        work = self._scratch.open_work(sandbox.number)
        try:
            return (yield from watching.look_at_scratch(work, sandbox.bounds, usage))
        finally:
            os.close(work)
