# SPDX-License-Identifier: MIT
"""Verified fakes: each passes the contract suite that the real thing passes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import HistoryPage
from pydra.errors import StoreError, Unstorable
from pydra.model.changes import (
    Change,
    Committed,
    FinishInstance,
    InsertInstance,
    InsertUnits,
    MarkCancelling,
    MarkPaused,
    PutNode,
    PutPackage,
    RecordUnits,
    RequeueInstance,
    RetryInstance,
    StartAttempt,
    StartUnit,
)
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Ended, Instance
from pydra.model.node import Node
from pydra.model.package import PackageDescription
from pydra.model.status import Status
from pydra.model.unit import UnitCounts, UnitPlace, UnitRow
from tests.support.memory_units import MemoryUnits


class MemoryStore:
    """
    ``interfaces.Store`` in memory; what it answers is answered at once.

    ``committed`` lists the changes that were asked for, in order, those whose condition did not hold too.
    ``hold`` keeps later commits waiting (and undone) until ``release``; ``refuse`` makes the next commits
    fail until ``accept``.
    """

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.committed: list[Change] = []
        self._instances: dict[InstanceId, Instance] = {}
        self._nodes: dict[NodeId, Node] = {}
        self._packages: dict[tuple[PackageName, PackageVersion], PackageDescription] = {}
        self._units = MemoryUnits()
        self._refusal: str | None = None
        self._held: list[Deferred[None]] | None = None

    def hold(self) -> None:
        """Later commits wait."""
        self._held = []

    def release(self) -> None:
        """The waiting commits are made in their order, and later ones at once."""
        held, self._held = self._held or [], None
        for waiting in held:
            waiting.callback(None)

    def refuse(self, reason: str) -> None:
        """Later commits fail with a `StoreError`."""
        self._refusal = reason

    def accept(self) -> None:
        """Later commits do not fail any more."""
        self._refusal = None

    async def close(self) -> None:
        """Commits fail from now on."""
        self._refusal = "The store is closed; nothing was changed."

    async def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """Make all changes, or none."""
        changes = tuple(changes)
        if self._held is not None:
            waiting: Deferred[None] = Deferred()
            self._held.append(waiting)
            await waiting
        if self._refusal is not None:
            raise StoreError(self._refusal)
        before = (dict(self._instances), dict(self._nodes), dict(self._packages))
        try:
            outcomes = [self._apply(change) for change in changes]
        except StoreError:
            self._instances, self._nodes, self._packages = before
            self._units.undo()
            raise
        self._units.settle()
        self.committed += changes
        return outcomes

    def _apply(self, change: Change) -> Committed:
        match change:
            case InsertInstance(instance):
                return self._insert(instance)
            case InsertUnits() | StartUnit() | RecordUnits():
                return self._change_units(change)
            case PutNode(node):
                self._nodes[node.id] = node
                return Committed(True)
            case PutPackage(description):
                self._packages[description.package, description.version] = description
                return Committed(True)
        if isinstance(change, FinishInstance) and not change.status.is_final:
            raise Unstorable(f"The store refused, nothing was changed: {change.status.name} is not final.")
        before = self._instances.get(change.instance)
        after = None if before is None else self._changed(before, change)
        if after is not None:
            self._instances[after.id] = after
        return Committed(after is not None, change.instance)

    def _insert(self, instance: Instance) -> Committed:
        for known in self._instances.values():
            if instance.request_key and known.request_key == instance.request_key:
                return Committed(False, known.id)
        if instance.id in self._instances:
            raise Unstorable("The store refused, nothing was changed: there is an instance of this id.")
        self._instances[instance.id] = instance
        return Committed(True, instance.id)

    def _change_units(self, change: InsertUnits | StartUnit | RecordUnits) -> Committed:
        instance = self._instances.get(change.instance)
        takes_units = instance is not None and not instance.status.is_final
        if takes_units:
            self._units.apply(change)
        return Committed(takes_units, change.instance)

    def _changed(self, before: Instance, change: Change) -> Instance | None:
        """The instance after the change; None if the condition of the change does not hold."""
        match change:
            case StartAttempt(_, attempt, node, worker, at) if before.status is Status.QUEUED:
                started = at if before.started is None else before.started
                return msgspec.structs.replace(
                    before,
                    status=Status.RUNNING,
                    attempt=attempt,
                    node=node,
                    worker=worker,
                    started=started,
                    not_before=None,
                    failure=None,
                )
            case MarkCancelling(_, failure, result) if before.status is Status.RUNNING or (
                before.status is Status.PAUSED and before.attempt is not None
            ):
                return msgspec.structs.replace(
                    before, status=Status.CANCELLING, failure=failure, result=result
                )
            case RequeueInstance(_, attempt, losses) if _may_wait_again(before, attempt):
                return msgspec.structs.replace(_waiting(before), losses=losses)
            case RetryInstance(_, attempt, retried, not_before, failure) if _may_wait_again(before, attempt):
                return msgspec.structs.replace(
                    _waiting(before), retried=retried, not_before=not_before, failure=failure
                )
            case MarkPaused(_, True) if before.status in (Status.QUEUED, Status.RUNNING):
                attempt = before.attempt if before.status is Status.RUNNING else None
                return msgspec.structs.replace(before, status=Status.PAUSED, attempt=attempt)
            case MarkPaused(_, False) if before.status is Status.PAUSED:
                status = Status.QUEUED if before.attempt is None else Status.RUNNING
                return msgspec.structs.replace(before, status=status)
            case FinishInstance(_, attempt, status, at, result, failure) if _may_finish(before, attempt):
                return msgspec.structs.replace(
                    before, status=status, completed=at, result=result, failure=failure
                )
        return None

    async def instance(self, instance: InstanceId) -> Instance | None:
        """The instance as it was committed last, or None."""
        return self._instances.get(instance)

    async def endings(self, instances: Collection[InstanceId]) -> dict[InstanceId, Ended]:
        """How those of these instances ended that are final."""
        found = [self._instances[number] for number in instances if number in self._instances]
        return {each.id: Ended(each.status, each.node) for each in found if each.status.is_final}

    async def unfinished(self) -> list[Instance]:
        """All instances that are not final, by id."""
        return [instance for instance in self._by_id() if not instance.status.is_final]

    async def history(self, task_key: TaskKey, page: int) -> HistoryPage:
        """One page of the instances of a task; a page out of range is clipped."""
        found = [instance for instance in reversed(self._by_id()) if instance.task_key == task_key]
        pages = max(1, -(-len(found) // 10))
        page = min(max(1, page), pages)
        return HistoryPage(tuple(found[(page - 1) * 10 : page * 10]), page, pages)

    async def recent(self, limit: int) -> list[Instance]:
        """The newest instances of all tasks, newest first."""
        return self._by_id()[::-1][: min(max(0, limit), 1000)]

    async def last_runs(self) -> dict[TaskKey, float]:
        """When the latest complete instance of each task ended, UTC seconds."""
        runs: dict[TaskKey, float] = {}
        for instance in self._instances.values():
            if instance.status is Status.COMPLETE and instance.completed is not None:
                runs[instance.task_key] = max(runs.get(instance.task_key, 0.0), instance.completed)
        return runs

    async def highest_instance(self) -> InstanceId:
        """The highest id ever given; 0 if none."""
        return max(self._instances, default=InstanceId(0))

    async def blobs(self) -> set[str]:
        """The names of the payloads, of all instances and units, that are not inline."""
        payloads = [each for one in self._instances.values() for each in (one.args, one.result)]
        names = {payload.sha256 for payload in payloads if payload is not None and payload.sha256}
        return names | self._units.blobs()

    async def units(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there are, by index."""
        return self._units.some(instance, branch, indexes)

    async def unit_page(
        self,
        instance: InstanceId,
        branch: str | None = None,
        after: UnitPlace | None = None,
        limit: int = 100,
        status: Status | None = None,
    ) -> list[UnitRow]:
        """The first units after a place, at most a thousand; only of a branch or a status, if it is told."""
        return self._units.page(instance, branch, after, limit, status)

    async def queued_units(self, instance: InstanceId) -> list[UnitRow]:
        """What the client of a session submitted and did not end, by branch and index."""
        return self._units.queued(instance)

    async def running_units(self) -> list[UnitRow]:
        """What has a guarantee and was begun, of all instances that are not final; by instance."""
        return self._units.running([each.id for each in await self.unfinished()])

    async def unit_counts(self, instance: InstanceId, branch: str | None = None) -> UnitCounts:
        """How many units of an instance the store has; only of a branch, if it is told."""
        return self._units.counts(instance, branch)

    async def nodes(self) -> list[Node]:
        """All node records, deleted ones too, by id."""
        return [self._nodes[node] for node in sorted(self._nodes)]

    async def package(self, package: PackageName, version: PackageVersion) -> PackageDescription | None:
        """What the describe run of this version told, or None."""
        return self._packages.get((package, version))

    def _by_id(self) -> list[Instance]:
        return [self._instances[number] for number in sorted(self._instances)]


def _may_finish(instance: Instance, attempt: Attempt | None) -> bool:
    if attempt is None:
        is_paused = instance.status is Status.PAUSED and instance.attempt is None
        return instance.status is Status.QUEUED or is_paused
    running = (Status.RUNNING, Status.CANCELLING, Status.PAUSED)
    return instance.attempt == attempt and instance.status in running


def _may_wait_again(instance: Instance, attempt: Attempt) -> bool:
    return instance.attempt == attempt and instance.status in (Status.RUNNING, Status.PAUSED)


def _waiting(instance: Instance) -> Instance:
    """An instance that lost its attempt; a paused one stays so."""
    if instance.status is Status.PAUSED:
        return msgspec.structs.replace(instance, attempt=None)
    return msgspec.structs.replace(instance, status=Status.QUEUED)
