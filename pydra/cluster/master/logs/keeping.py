# SPDX-License-Identifier: MIT
"""Keeps the archive of task logs within limits: what is too old goes, then the oldest of what is too much."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.interfaces import InThread
from pydra.cluster.master.logs.archive import LogArchive
from pydra.cluster.master.repeated import Repeated
from pydra.model.ids import InstanceId

FIRST_S, EVERY_S = 60.0, 3600.0
"""Seconds from the start to the first look, and between two looks."""

AT_ONCE = 100
"""Logs that are removed in one call of the thread that also writes; others wait so long."""

DAY_S = 86_400.0


class LogKeeping:
    """
    Looks at the archive once an hour.

    ``walk`` is a thread that may take its time, ``write`` the one of the archive. What runs keeps its log.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        archive: LogArchive,
        walk: InThread,
        write: InThread,
        live: Collection[InstanceId],
        keep_days: float,
        limit: int,
    ) -> None:
        self._wall_clock = wall_clock
        self._archive = archive
        self._walk = walk
        self._write = write
        self._live = live
        self._keep_s = keep_days * DAY_S
        self._limit = limit
        self._looks = Repeated(clock, self._clear, self._look_failed, EVERY_S)
        self.rule = (
            f"logs are kept for {keep_days:g} days, and the newest {limit // 2**20} MiB of them; "
            "LOG_KEEP_DAYS and LOG_ARCHIVE_MB of the settings say so"
        )
        """Why a log was removed, for people."""

    def start(self) -> None:
        """Begin to look."""
        self._looks.begin_in(FIRST_S)

    def stop(self) -> None:
        """Look no more."""
        self._looks.stop()

    def _look_failed(self, fault: Failure) -> None:
        self.log.failure("Old task logs could not be removed", fault)

    async def _clear(self) -> None:
        now = self._wall_clock()
        live = frozenset(self._live)
        found = await self._walk(self._archive.sizes_and_ages)
        doomed = too_old_or_too_much(
            [each for each in found if each[2] not in live],
            now - self._keep_s,
            self._limit - sum(size for _, size, instance in found if instance in live),
        )
        removed = 0
        for start in range(0, len(doomed), AT_ONCE):
            removed += await self._write(self._remove, doomed[start : start + AT_ONCE])
        if removed:
            self.log.info("{removed} task logs were removed: {rule}", removed=removed, rule=self.rule)

    def _remove(self, doomed: list[tuple[float, InstanceId]]) -> int:
        return sum(self._archive.remove(instance, at) for at, instance in doomed)


def too_old_or_too_much(
    found: list[tuple[float, int, InstanceId]], oldest: float, limit: int
) -> list[tuple[float, InstanceId]]:
    """Which logs (last written, bytes, instance) are to go, oldest first; the rest is within limits."""
    total = sum(size for _, size, _ in found)
    doomed = []
    for at, size, instance in sorted(found):
        if at >= oldest and total <= limit:
            break
        total -= size
        doomed.append((at, instance))
    return doomed
