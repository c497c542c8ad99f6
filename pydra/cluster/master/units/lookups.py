# SPDX-License-Identifier: MIT
"""
Asks for units that may be recorded already: what is complete is answered from the store, the rest goes on.
What runs at most once and ran with other arguments is refused.

A look-up begins when everything is committed that the scheduler knew before it. What is recorded while it is
under way is told by ``settled``, so no unit is computed again because its result was on its way to the disk.
An ask whose look-up is under way is outstanding: a repeat of it does nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import Store
from pydra.cluster.master.store_retry import StoreRetry
from pydra.cluster.scheduler.branches import part_of
from pydra.cluster.scheduler.unit_values import UnitsAsked
from pydra.errors import Conflict, TaskLost
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure
from pydra.model.options import Guarantee
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE, UnitRow

SLICE = 1_000
"""Units that are looked up at a time."""


@attrs.define(eq=False)
class _LookUp:
    """An ask under way; ``waiting`` are the indexes that were not answered or passed on yet."""

    asked: UnitsAsked
    waiting: set[int]
    settled: set[int] = attrs.field(factory=set)
    """Recorded since it began, and told to the asker."""
    missed: set[int] = attrs.field(factory=set)
    """Recorded since it began, but told to nobody, or to another asker: to be looked up again."""
    is_wanted: bool = True


class UnitLookUps:
    """
    All look-ups under way.

    ``after_commits`` calls a function when everything is committed that was to be; ``answer`` takes rows for
    the asker of an ask; ``go_on`` takes what is left of one. ``asks_as`` is the attempt in which a worker
    asks for units of a branch, if it has one.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        after_commits: Callable[[Callable[[], None]], None],
        answer: Callable[[UnitsAsked, Sequence[UnitRow]], None],
        go_on: Callable[[UnitsAsked], None],
        asks_as: Callable[[Attempt, str], Attempt | None],
    ) -> None:
        self._retry = StoreRetry(clock, "a look-up of units")
        self._store = store
        self._after_commits = after_commits
        self._answer = answer
        self._go_on = go_on
        self._asks_as = asks_as
        self._active: dict[InstanceId, list[_LookUp]] = {}

    def stop(self) -> None:
        """Leave no timer behind and answer nothing more."""
        self._retry.stop()
        for look_ups in self._active.values():
            for look_up in look_ups:
                look_up.is_wanted = False

    def begin(self, asked: UnitsAsked) -> None:
        """Look up what of this is recorded, unless that is under way."""
        under_way: set[int] = set()
        for other in self._of(asked.instance, asked.asker, asked.branch):
            under_way |= other.waiting - other.settled
        if not under_way.isdisjoint(asked.indexes):
            asked = part_of(asked, [at for at, index in enumerate(asked.indexes) if index not in under_way])
        if not asked.indexes:
            return
        look_up = _LookUp(asked, set(asked.indexes))
        self._active.setdefault(asked.instance, []).append(look_up)
        self._after_commits(lambda: self._start(look_up))

    def outstanding(self, instance: InstanceId, asker: Attempt | None) -> tuple[int, int]:
        """Units of an asker that are being looked up, and the bytes of their arguments."""
        count = size = 0
        for look_up in self._active.get(instance, ()):
            if look_up.asked.asker == asker and look_up.is_wanted:
                count += len(look_up.waiting)
                size += sum(map(len, look_up.asked.args))
        return count, size

    def settled(
        self, instance: InstanceId, asker: Attempt | None, branch: str, indexes: Collection[int]
    ) -> None:
        """These are about to be recorded, and then told to this asker."""
        for look_up in self._active.get(instance, ()):
            if look_up.asked.branch == branch:
                told = look_up.settled if look_up.asked.asker == asker else look_up.missed
                told.update(look_up.waiting.intersection(indexes))

    def wanted(self, instance: InstanceId, branch: str) -> set[int]:
        """Units of this branch that are being looked up, and are not told to who asked for them otherwise."""
        wanted: set[int] = set()
        for look_up in self._active.get(instance, ()):
            if look_up.asked.branch == branch and look_up.is_wanted:
                wanted |= look_up.waiting - look_up.settled
        return wanted

    def forget(self, instance: InstanceId, asker: Attempt | None, branch: str) -> None:
        """Nobody wants the answers any more."""
        for look_up in self._of(instance, asker, branch):
            look_up.is_wanted = False

    def end(self, instance: InstanceId) -> None:
        """The instance is final."""
        for look_up in self._active.pop(instance, ()):
            look_up.is_wanted = False

    def _of(self, instance: InstanceId, asker: Attempt | None, branch: str) -> Iterator[_LookUp]:
        for look_up in self._active.get(instance, ()):
            if look_up.is_wanted and (look_up.asked.asker, look_up.asked.branch) == (asker, branch):
                yield look_up

    def _start(self, look_up: _LookUp) -> None:
        done = Deferred.fromCoroutine(self._run(look_up))
        done.addErrback(lambda fault: self.log.failure("A look-up of units failed", fault))

    async def _run(self, look_up: _LookUp) -> None:
        try:
            indexes = look_up.asked.indexes
            for start in range(0, len(indexes), SLICE):
                at = range(start, min(start + SLICE, len(indexes)))
                asked = part_of(look_up.asked, at) if len(at) < len(indexes) else look_up.asked
                rows = await self._retry.insist(functools.partial(self._read, look_up, asked))
                if not look_up.is_wanted:
                    return
                self._pass_on(look_up, asked, rows)
        finally:
            active = self._active.get(look_up.asked.instance, [])
            if look_up in active:
                active.remove(look_up)
                if not active:
                    del self._active[look_up.asked.instance]

    async def _read(self, look_up: _LookUp, asked: UnitsAsked) -> list[UnitRow]:
        """The rows of these units, as long as they are wanted."""
        if not look_up.is_wanted:
            return []
        return await self._store.units(asked.instance, asked.branch, asked.indexes)

    def _pass_on(self, look_up: _LookUp, asked: UnitsAsked, rows: Sequence[UnitRow]) -> None:
        digests = asked.digests
        places = {index: DIGEST_SIZE * at for at, index in enumerate(asked.indexes)}
        same = [
            row
            for row in rows
            if row.status is not Status.QUEUED
            and row.digest == digests[(place := places[row.index]) : place + DIGEST_SIZE]
            and row.index not in look_up.settled
        ]
        known = [row for row in same if _is_lasting(row, asked)]
        if asked.guarantee & Guarantee.ONCE and asked.asker is not None:
            others = {row.index for row in same} | look_up.settled
            since = self._asks_as(asked.asker, asked.branch)
            known += [_refused(row) for row in rows if row.index not in others and _was_before(row, since)]
        answered = {row.index for row in known}
        look_up.waiting.difference_update(asked.indexes)
        missed = look_up.missed - answered
        done = answered | look_up.settled
        if known:
            self._answer(asked, known)
        again = _left(asked, lambda index: index in missed and index not in done)
        if again is not None:
            self.begin(again)
        rest = _left(asked, lambda index: index not in missed and index not in done)
        if rest is not None:
            started = {row.index: row.attempt for row in same if row.status is Status.RUNNING and row.attempt}
            self._go_on(msgspec.structs.replace(rest, started=started) if started else rest)


def _is_lasting(row: UnitRow, asked: UnitsAsked) -> bool:
    """Asking again does not change it: it is complete, or failed and is never run again, as a client's is."""
    if row.status is Status.FAILED and row.failure is not None:
        is_once = asked.asker is None or bool(asked.guarantee & Guarantee.ONCE)
        return is_once or row.failure.code == TaskLost.code
    return row.status is Status.COMPLETE


def _was_before(row: UnitRow, since: Attempt | None) -> bool:
    """
    It ran before the attempt that asks had begun, so that is to do the same again; attempts only rise.

    One that draws twice asks for other units under the same indexes. One that is over asks in vain.
    """
    if row.status is Status.QUEUED or row.attempt is None:
        return False
    return since is None or row.attempt < since


def _refused(row: UnitRow) -> UnitRow:
    """What is told of a unit that is asked for with other arguments, and may not be run with both."""
    words = "This unit ran before with other arguments, and it runs at most once: these are not run."
    return msgspec.structs.replace(
        row, status=Status.FAILED, result=None, failure=Failure(Conflict.code, words)
    )


def _left(asked: UnitsAsked, is_left: Callable[[int], bool]) -> UnitsAsked | None:
    """The part of an ask; None if there is nothing in it."""
    at = [place for place, index in enumerate(asked.indexes) if is_left(index)]
    if not at:
        return None
    return asked if len(at) == len(asked.indexes) else part_of(asked, at)
