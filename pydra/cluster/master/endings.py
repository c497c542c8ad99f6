# SPDX-License-Identifier: MIT
"""How the instances ended that others depend on, wherever that is known at the moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pydra.cluster.interfaces import Store
from pydra.cluster.scheduler.inputs import Restored, Submitted
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.scheduler.unit_values import UnitRestored
from pydra.model.ids import InstanceId
from pydra.model.instance import Ended, Instance
from pydra.model.options import RunOptions
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK, UnitRow


class Endings:
    """An instance is with the scheduler, on its way to the store, or in the store; never nowhere."""

    def __init__(self, scheduler: Scheduler, store: Store) -> None:
        self._scheduler = scheduler
        self._store = store
        self._on_the_way: dict[InstanceId, Ended] = {}
        self._asked: Counter[InstanceId] = Counter()
        """Those that submissions under way depend on, and how many."""
        self._stored: set[InstanceId] = set()
        """Those of them that are kept although the store has their end."""

    def note(self, instance: InstanceId, ended: Ended) -> None:
        """The scheduler has let go of it, and the store will have it soon."""
        self._on_the_way[instance] = ended

    def stored(self, instance: InstanceId) -> None:
        """The store has its end."""
        if instance in self._asked:
            self._stored.add(instance)
        else:
            self._on_the_way.pop(instance, None)

    @contextmanager
    def following(self, instances: Collection[InstanceId]) -> Iterator[None]:
        """Until this is left, ``since`` knows each of them that ends."""
        self._asked.update(instances)
        try:
            yield
        finally:
            self._asked -= Counter(instances)
            for instance in self._stored.intersection(instances) - self._asked.keys():
                self._stored.remove(instance)
                del self._on_the_way[instance]

    def since(self, instances: Collection[InstanceId]) -> dict[InstanceId, Ended]:
        """How those of them ended that did so while they were followed."""
        return {each: self._on_the_way[each] for each in instances if each in self._on_the_way}

    async def of(self, instances: Iterable[InstanceId]) -> dict[InstanceId, Ended]:
        """
        How those ended that did; the others are with the scheduler, or never were.

        This holds until the caller waits for something.
        """
        wanted, ended = set(instances), dict[InstanceId, Ended]()
        while missing := {each for each in wanted - ended.keys() if not self._is_here(each)}:
            found = self.since(missing)
            if asked := missing - found.keys():
                found |= await self._store.endings(sorted(asked))
            if not found:
                break
            ended |= found
        return ended

    async def unknown(self, instances: Collection[InstanceId]) -> list[InstanceId]:
        """Those that never were."""
        ended = await self.of(instances)
        return sorted(each for each in set(instances) - ended.keys() if not self._is_here(each))

    def _is_here(self, instance: InstanceId) -> bool:
        return self._scheduler.status(instance) is not Status.UNKNOWN


def dependencies(options: RunOptions) -> list[InstanceId]:
    """What an instance with these options depends on."""
    found: list[InstanceId] = []
    for dependency in (options.after, options.follow):
        if dependency is not None:
            found += dependency.instances
    return found


async def past_of(store: Store, unfinished: Sequence[Instance]) -> dict[InstanceId, Ended]:
    """What ``restored`` has to know of the past of these instances."""
    here = {instance.id for instance in unfinished}
    wanted = {each for instance in unfinished for each in dependencies(instance.options)}
    return await store.endings(sorted(wanted - here))


def submitted(instance: Instance, ended: Mapping[InstanceId, Ended]) -> Submitted:
    """What the scheduler is told of a new instance."""
    return Submitted(
        instance.id,
        instance.priority,
        instance.queued,
        instance.task_key == SESSION_TASK,
        options=instance.options,
        isolation=instance.needs.limits.isolation,
        ended=ended,
    )


def restored(instance: Instance, ended: Mapping[InstanceId, Ended], now: float) -> Restored:
    """What the scheduler is told of an instance of the store; ``now`` is an instant in UTC."""
    is_queued = instance.status is Status.QUEUED
    is_ending = instance.status is Status.CANCELLING
    failure = instance.failure if is_ending else None
    # A clock that was set must not make a rest longer than it was to be.
    rest_s = max(0.0, (instance.not_before or now) - now)
    return Restored(
        instance=instance.id,
        priority=instance.priority,
        queued=instance.queued,
        status=instance.status,
        attempt=None if is_queued else instance.attempt,
        node=instance.node,
        index=int(instance.worker.rpartition(":")[2]) if instance.worker and not is_queued else None,
        losses=instance.losses,
        fails=failure is not None,
        completes=is_ending and instance.result is not None,
        is_session=instance.task_key == SESSION_TASK,
        options=instance.options,
        isolation=instance.needs.limits.isolation,
        retried=instance.retried,
        reason=failure.message if failure is not None else "",
        code=failure.code if failure is not None else "",
        rest_s=min(rest_s, instance.options.delay_s(max(0, instance.retried - 1))),
        ended=ended,
    )


def begun_before(row: UnitRow) -> UnitRestored | None:
    """What the scheduler is told of a unit that was begun; None if it says too little of itself."""
    if row.attempt is None or row.worker is None or row.node is None:
        return None
    unit = (row.branch, row.index, row.digest, row.guarantee)
    return UnitRestored(row.instance, *unit, row.attempt, row.worker, row.node)
