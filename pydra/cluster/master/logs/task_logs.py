# SPDX-License-Identifier: MIT
"""
What tasks wrote, kept on the master.

Records of all nodes go to the archive in the order in which they come, many in one call of its thread; a
record is acknowledged when it is there. An instance whose node told how many lines it wrote is complete when
these are there.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.cluster.master.logs.archive import ALL, Choice, LogArchive, Page
from pydra.cluster.master.logs.text import LatestLines
from pydra.cluster.wire.log_records import LogRecord, pack_lines
from pydra.model.ids import Attempt, InstanceId

MISSING_S = 30.0
"""Seconds that lines which a node announced may be missing before nobody waits for them."""

Answer = Callable[[int | Exception], None]
"""
Called once with the number of lines that are held of the attempt now, or with what went wrong: `WireError` if
the record is none; after anything else, as `OSError`, it is to come again.
"""


class TaskLogs:
    """Appends and reads the lines of instances; ``told`` is called when there are new ones."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        archive: LogArchive,
        in_thread: InThread,
        told: Callable[[InstanceId], None],
    ) -> None:
        self._clock = clock
        self._archive = archive
        self._in_thread = in_thread
        self._told = told
        self._waiting: list[tuple[InstanceId, LogRecord, Answer]] = []
        self._is_writing = False
        self._expected: dict[InstanceId, tuple[Attempt, int, float]] = {}
        """Lines that were announced, and until when they are waited for; in that order."""

    def append(self, instance: InstanceId, record: LogRecord, answer: Answer) -> None:
        """Add a record."""
        self._waiting.append((instance, record, answer))
        if not self._is_writing:
            self._is_writing = True
            written = Deferred.fromCoroutine(self._write())
            written.addErrback(lambda fault: self.log.failure("Task logs cannot be answered", fault))

    def expect(self, instance: InstanceId, attempt: Attempt, lines: int) -> None:
        """The attempt has ended, and its node said how many lines it wrote."""
        if lines <= 0:
            return
        self._expected.pop(instance, None)
        self._expected[instance] = (attempt, lines, self._clock.seconds() + MISSING_S)
        # Lines that never come, and that nobody asks for, are forgotten here: the oldest are first.
        while self.is_complete(next(iter(self._expected))):
            pass
        # Those that came before are written before this.
        self.append(instance, LogRecord(attempt, 0, 0, pack_lines([])), lambda _: None)

    def is_complete(self, instance: InstanceId) -> bool:
        """True unless lines that were announced are still to come."""
        expected = self._expected.get(instance)
        if expected is not None and self._clock.seconds() > expected[2]:
            del self._expected[instance]
            expected = None
        return expected is None

    async def read(self, instance: InstanceId, after: int, choice: Choice = ALL) -> Page:
        """Lines from a position on (0 is the begin), and the position after them."""
        page: Page = await self._in_thread(self._archive.read, instance, after, choice)
        return page

    async def text(self, instance: InstanceId, choice: Choice = ALL) -> str:
        """The lines, merged by time, as people read them; the latest if they are very many."""
        latest, after = LatestLines(), 0
        while (next_ := await self._in_thread(self._take_page, latest, instance, after, choice)) is not None:
            after = next_  # others have their turn between the pages
        text: str = await self._in_thread(latest.text)
        return text

    def _take_page(self, latest: LatestLines, instance: InstanceId, after: int, choice: Choice) -> int | None:
        """Read a page; where the next one begins, or None; blocking."""
        page = self._archive.read(instance, after, choice)
        latest.add(page)
        return page.next if page.has_more else None

    async def was_removed(self, instance: InstanceId) -> bool:
        """True if lines of this instance were removed."""
        was_removed: bool = await self._in_thread(self._archive.was_removed, instance)
        return was_removed

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                given = [(instance, record) for instance, record, _ in batch]
                try:
                    found = await self._in_thread(self._archive.append, given)
                # An edge: each of the records is answered, whatever came of it.
                except Exception as fault:  # noqa: BLE001
                    self.log.failure("The archive of task logs failed")
                    found = [fault] * len(batch)
                news: dict[InstanceId, None] = {}
                for (instance, record, answer), held in zip(batch, found, strict=True):
                    if isinstance(held, Exception):
                        self.log.error(
                            "Lines of instance={instance} were not kept: {fault}",
                            instance=instance,
                            fault=str(held),
                        )
                    else:
                        news[instance] = None
                        self._arrived(instance, record.attempt, held)
                    answer(held)
                for instance in news:
                    self._told(instance)
        finally:
            self._is_writing = False

    def _arrived(self, instance: InstanceId, attempt: Attempt, lines: int) -> None:
        expected = self._expected.get(instance)
        if expected is not None and expected[0] == attempt and lines >= expected[1]:
            del self._expected[instance]
