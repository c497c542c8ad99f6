# SPDX-License-Identifier: MIT
"""
Commits what is to be stored, and takes the steps that may only follow the commit, in the order of the rounds.

One commit is under way at a time; all rounds that wait meanwhile go into the next one together. So nothing is
sent or published before it is committed, and nothing is committed, sent or published out of order, even while
the store refuses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure as Failed

from pydra.cluster.interfaces import Store
from pydra.cluster.master.store_retry import StoreRetry
from pydra.errors import Unstorable
from pydra.model.changes import Change, RecordUnits, StartUnit

Step = Callable[[], None]
Look = Callable[[], Coroutine[Deferred[None], None, None]]


@attrs.define
class Round:
    """
    Changes to commit, and the steps after them; ``done`` fires after the last step.

    ``look`` is awaited while nothing is being committed, when the steps of all that is committed are taken.
    """

    changes: list[Change] = attrs.field(factory=list)
    steps: list[Step] = attrs.field(factory=list)
    done: Deferred[None] = attrs.field(factory=Deferred)
    look: Look | None = None


class Rounds:
    """The rounds that wait; ``fatal`` is told if they cannot go on."""

    log = Logger()

    def __init__(self, clock: IReactorTime, store: Store, fatal: Callable[[str], None]) -> None:
        self._retry = StoreRetry(clock, "what was decided")
        self._store = store
        self._fatal = fatal
        self._waiting: deque[Round] = deque()
        self._is_working = False
        self._stopped = False

    def add(self, round_: Round) -> None:
        """Commit and carry out this round after those before it; at once if there are none."""
        self._waiting.append(round_)
        if not self._is_working:
            self._is_working = True
            worked = Deferred.fromCoroutine(self._work())
            worked.addErrback(self._failed)

    def stop(self) -> None:
        """Leave no timer behind and take no further step."""
        self._stopped = True
        self._retry.stop()

    def _failed(self, fault: Failed) -> None:
        """A fault of ours: what is in memory and what is stored may differ, and nothing goes on any more."""
        self.log.failure("The dispatcher failed", fault)
        self._fatal("the dispatcher failed; the log has the details")

    async def _work(self) -> None:
        """Commit and carry out all that waits, and what comes to wait meanwhile."""
        while self._waiting and not self._stopped:
            together = list(self._waiting)
            await self._carry_out(together)
            for round_ in together:
                if round_.look is not None and not self._stopped:
                    await self._look(round_.look)
        self._is_working = False

    async def _carry_out(self, together: Sequence[Round]) -> None:
        """
        These are the first of those that wait; `Unstorable` if the first of them can never be committed.

        What is asked of the store it can take, so that is a fault of ours: nothing may follow it.
        """
        changes = [change for round_ in together for change in round_.changes]
        try:
            if changes:
                await self._commit(changes)
        except Unstorable:
            if len(together) == 1:
                raise
            for round_ in together:
                if not self._stopped:
                    await self._carry_out([round_])
            return
        for round_ in together:
            if self._stopped:
                return
            self._waiting.popleft()
            self._take_steps(round_)

    async def _commit(self, changes: Sequence[Change]) -> None:
        """Commit the changes; while the store refuses, they and all after them wait. `Unstorable`."""
        outcomes = await self._retry.insist(lambda: self._store.commit(changes))
        for change, outcome in zip(changes, outcomes, strict=True):
            # Units that were recorded before are no fault: they came twice.
            # And what was begun may have ended with its instance in between.
            if not outcome.applied and not isinstance(change, RecordUnits | StartUnit):
                self.log.error("The store did not apply {change}", change=type(change).__name__)

    async def _look(self, look: Look) -> None:
        try:
            await look()
        # An edge: what is only looked at holds nothing up.
        except Exception:  # noqa: BLE001
            self.log.failure("A look at the store failed")

    def _take_steps(self, round_: Round) -> None:
        for step in round_.steps:
            try:
                step()
            # An edge: the steps after it concern other instances.
            except Exception:  # noqa: BLE001
                self.log.failure("A step after a commit failed")
        round_.done.callback(None)
