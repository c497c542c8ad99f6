# SPDX-License-Identifier: MIT
"""``interfaces.Store`` on a database of Django's: the reactor asks, threads answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydra.cluster.interfaces import HistoryPage
from pydra.cluster.store.reader import Readers
from pydra.cluster.store.settings import configure
from pydra.cluster.store.threads import FromThreads
from pydra.cluster.store.writer import Writer
from pydra.errors import StoreError
from pydra.model.changes import Change, Committed
from pydra.model.ids import InstanceId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Ended, Instance
from pydra.model.node import Node
from pydra.model.package import PackageDescription
from pydra.model.status import Status
from pydra.model.unit import UnitCounts, UnitPlace, UnitRow

if TYPE_CHECKING:
    from pydra.cluster.store.queries import Queries


class DjangoStore:
    """
    An open store; made by ``open``, ended by ``close``.

    While it is open, nobody else can open the same file for writing.
    """

    def __init__(self, epoch: int, writer: Writer, readers: Readers, queries: Queries) -> None:
        self.epoch = epoch
        self._writer = writer
        self._readers = readers
        self._queries = queries

    @classmethod
    async def open(cls, database: Path, reactor: FromThreads, on_fatal: Callable[[str], None]) -> DjangoStore:
        """
        Lock the store in this file, bring its schema up to date and raise its epoch.

        ``on_fatal`` is called in the reactor, once, with the reason why nothing can be committed any more:
        the disk failed, and the master has to stop. `StoreError` if another master uses the store, or it
        cannot be used.
        """
        configure(database)
        # The models cannot be imported before Django is configured.
        from pydra.cluster.store.queries import Queries  # noqa: PLC0415

        writer = Writer(database, reactor, on_fatal)
        try:
            epoch = await writer.start()
        except StoreError:
            await writer.stop()
            raise
        readers = Readers(database, reactor)
        readers.start()
        return cls(epoch, writer, readers, Queries())

    async def close(self) -> None:
        """
        Answer what was asked, commit what is pending, end the threads and release the lock.

        Whatever is asked afterwards is refused. A second call does nothing.
        """
        await self._readers.stop()
        await self._writer.stop()

    @property
    def transactions(self) -> int:
        """Transactions that were committed since the store was opened; commits that share one count once."""
        return self._writer.transactions

    async def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """Commit the changes, all in one transaction; see ``interfaces.Store``."""
        return await self._writer.submit(changes)

    async def instance(self, instance: InstanceId) -> Instance | None:
        """The instance as it was committed last, or None."""
        return await self._readers.ask(self._queries.instance, instance)

    async def endings(self, instances: Collection[InstanceId]) -> dict[InstanceId, Ended]:
        """How those of these instances ended that are final."""
        return await self._readers.ask(self._queries.endings, list(instances)) if instances else {}

    async def unfinished(self) -> list[Instance]:
        """All instances that are not final, by id."""
        return await self._readers.ask(self._queries.unfinished)

    async def history(self, task_key: TaskKey, page: int) -> HistoryPage:
        """One page of the instances of a task; a page out of range is clipped."""
        return await self._readers.ask(self._queries.history, task_key, page)

    async def recent(self, limit: int) -> list[Instance]:
        """The newest instances of all tasks, at most a thousand, newest first."""
        return await self._readers.ask(self._queries.recent, limit)

    async def last_runs(self) -> dict[TaskKey, float]:
        """When the latest complete instance of each task ended, UTC seconds."""
        return await self._readers.ask(self._queries.last_runs)

    async def highest_instance(self) -> InstanceId:
        """The highest id ever given; 0 if none."""
        return await self._readers.ask(self._queries.highest_instance)

    async def blobs(self) -> set[str]:
        """The names of the payloads, of all instances and units, that are not inline."""
        return await self._readers.ask(self._queries.blobs)

    async def units(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there are, by index."""
        return await self._readers.ask(self._queries.units, instance, branch, indexes)

    async def unit_page(
        self,
        instance: InstanceId,
        branch: str | None = None,
        after: UnitPlace | None = None,
        limit: int = 100,
        status: Status | None = None,
    ) -> list[UnitRow]:
        """The first units after a place, at most a thousand; only of a branch or a status, if it is told."""
        return await self._readers.ask(self._queries.unit_page, instance, branch, after, limit, status)

    async def queued_units(self, instance: InstanceId) -> list[UnitRow]:
        """What the client of a session submitted and did not end, by branch and index."""
        return await self._readers.ask(self._queries.queued_units, instance)

    async def running_units(self) -> list[UnitRow]:
        """What has a guarantee and was begun, of all instances that are not final; by instance."""
        return await self._readers.ask(self._queries.running_units)

    async def unit_counts(self, instance: InstanceId, branch: str | None = None) -> UnitCounts:
        """How many units of an instance the store has; only of a branch, if it is told."""
        return await self._readers.ask(self._queries.unit_counts, instance, branch)

    async def nodes(self) -> list[Node]:
        """All node records, deleted ones too, by id."""
        return await self._readers.ask(self._queries.nodes)

    async def package(self, package: PackageName, version: PackageVersion) -> PackageDescription | None:
        """What the describe run of this version told, or None."""
        return await self._readers.ask(self._queries.package, package, version)
