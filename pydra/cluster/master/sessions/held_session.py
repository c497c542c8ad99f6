# SPDX-License-Identifier: MIT
"""
One session that is not over, and its client, if one is there.

Results reach the client as they are committed; those for which there was no room are read again from the
store. A client that goes away has a while to come back; then what did not begin is put off and the instance
pauses, so its slots are free for others, and at last it is cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure as Failed

from pydra.cluster.controller.session_messages import Ended, Opened, Refused, Results, Stored, ToClient
from pydra.cluster.master.sessions.units import AT_ONCE, Over, SessionAround, SessionUnits
from pydra.cluster.scheduler.unit_values import PauseRequested, ResumeRequested
from pydra.cluster.wire import payload
from pydra.errors import Conflict, InternalError, LimitExceeded, StoreError
from pydra.model.ids import InstanceId
from pydra.model.instance import Failure, Instance, Payload
from pydra.model.status import Status
from pydra.model.unit import OUTSTANDING_LIMIT, UnitCounts, UnitRow

MESSAGE_SIZE = 512 * 1024
"""Bytes of results and characters of failures in one message, unless one result alone is larger."""


class Client(Protocol):
    """The client of a session; whatever it is told after it went away is dropped."""

    is_lost: bool

    @property
    def has_room(self) -> bool:
        """Whether more may be told now; if not, ``HeldSession.unblocked`` is called when there is."""
        ...

    def tell(self, message: ToClient) -> None:
        """Send a message."""
        ...

    def close(self, reason: str) -> None:
        """Send it away; it was told why."""
        ...

    def go_on(self) -> None:
        """There may be room for units now that there was none for before."""
        ...


@attrs.frozen
class SessionEnds:
    """How a session may end: with a result, or for want of a client; and how long that may be wanted."""

    complete: Callable[[InstanceId, Payload], object]
    cancel: Callable[[InstanceId], object]
    grace_s: float
    keep_s: float


class HeldSession:
    """A session; it begins without a client."""

    log = Logger()

    def __init__(self, around: SessionAround, ends: SessionEnds, instance: Instance, is_new: bool) -> None:
        self.instance = instance.id
        self.task = task_of(instance)
        limit = float(_arguments(instance).get("unit_time_limit", 0.0))
        is_guarded = bool(instance.options.guarantee)
        self._units = SessionUnits(around, self.instance, self.task, limit, is_guarded, is_new)
        self._around = around
        self._ends = ends
        self._client: Client | None = None
        self._is_greeted = False
        """The client was told that it is attached; before that, results wait."""
        self._owed: deque[int] = deque()
        """Units that have ended, and whose results the client is still to be told."""
        self._adding = 0
        self._is_put_off = self._is_paying = self._is_closing = False
        # A master before this one may have paused it; who did is not stored.
        self._has_paused = instance.status is Status.PAUSED
        self._ended: Instance | None = None
        self._woken: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._wait_for_client()

    # What the client asks.

    async def attach(self, client: Client, indexes: Sequence[int] = ()) -> None:
        """From now on this is the client; it is told what came of these units, and all that follows."""
        if self._client is not None:
            self._client.tell(Refused(Conflict.code, "Another client has taken this session over."))
            self._client.close("Another client has taken this session over.")
        self._client, self._is_greeted = client, False
        self._owed.clear()
        self._set_timer(0.0, None)
        if client.is_lost:
            self.lost(client)
            return
        if self._has_paused:
            self._has_paused = False
            self._around.feed(ResumeRequested(self.instance))
        if self._is_put_off:
            self._is_put_off = False
            await self._units.refill()
        ended, missing = await self._units.look_up(indexes)
        if self._client is client:
            self._is_greeted = True
            self._owed.extend(ended)
            client.tell(Opened(self.instance, missing=missing))
            self._pay()

    def take(self, given: int | list[int], indexes: Sequence[int], args: Sequence[bytes]) -> bool:
        """
        Take units of the client, and tell it when they are stored; false if there is no room for them yet.

        `LimitExceeded` if there never is, `Conflict` after the session was closed.
        """
        if self._is_closing or self._ended is not None:
            raise Conflict("The session was closed.")
        count = len(indexes)
        if count > OUTSTANDING_LIMIT:
            raise LimitExceeded(f"{count} units in one message; {OUTSTANDING_LIMIT} may be outstanding.")
        if not self._units.has_room(count, sum(map(len, args)), len(self._owed)):
            return False
        self._adding += 1
        self._in_background(self._add(given, indexes, args))
        return True

    def close(self) -> None:
        """The client wants no more: the instance is complete, once all it sent is stored."""
        if not self._is_closing:
            self._is_closing = True
            if not self._adding:
                self._in_background(self._complete())

    def unblocked(self) -> None:
        """The client has room again."""
        self._wake()

    def lost(self, client: Client) -> None:
        """A client is gone; if it was the one of this session, it has a while to come back."""
        if client is not self._client:
            return
        self._client = None
        self._owed.clear()
        self._wake()
        if self._ended is None:
            self._wait_for_client()

    # What becomes of its units, and of itself.

    def recorded(
        self,
        indexes: Sequence[int],
        results: Sequence[bytes],
        failures: Mapping[int, Failure],
        blobs: Mapping[int, Payload],
    ) -> None:
        """Results were committed."""
        self._tell(indexes, results, failures, blobs)
        self._units.acknowledge(indexes)

    def _tell(
        self,
        indexes: Sequence[int],
        results: Sequence[bytes],
        failures: Mapping[int, Failure],
        blobs: Mapping[int, Payload],
    ) -> None:
        others = self._units.recorded(indexes)
        client = self._client
        if client is None:
            return
        if others:
            # The units of a message that a crash kept from the store: they are told when it comes again.
            places = [place for place, index in enumerate(indexes) if index not in others]
            results = [results[place] for place in places]
            failures = {new: failures[old] for new, old in enumerate(places) if old in failures}
            blobs = {new: blobs[old] for new, old in enumerate(places) if old in blobs}
            indexes = [indexes[place] for place in places]
            if not indexes:
                return
        is_large = sum(map(_length, failures.values())) > MESSAGE_SIZE
        if self._owed or blobs or is_large or not self._is_greeted or not client.has_room:
            self._owed.extend(indexes)
            self._pay()
        else:
            client.tell(Results(list(indexes), list(results), _failures(failures)))
        client.go_on()

    def end(self, instance: Instance) -> None:
        """The instance is final; the client is told when it was told all results."""
        self._ended = instance
        self._set_timer(0.0, None)
        if self._is_greeted and not self._is_paying:
            self._in_background(self._bid_farewell())

    async def refill(self) -> None:
        """After a start of the master: run what has no result."""
        await self._units.refill()

    def stop(self) -> None:
        """Leave no timer behind."""
        self._units.stop()
        self._set_timer(0.0, None)

    # How.

    async def _add(self, given: int | list[int], indexes: Sequence[int], args: Sequence[bytes]) -> None:
        client = self._client
        try:
            known = await self._units.add(indexes, args)
        except Over:
            return  # which the client hears
        self._adding -= 1
        if client is not None and client is self._client:
            if known.others:
                text = "These units were sent before, with other arguments."
                client.tell(Refused(Conflict.code, text, known.others))
                refused = set(known.others)
                given = indexes = [index for index in indexes if index not in refused]
            if indexes:
                client.tell(Stored(given, len(indexes)))
            if known.ended:
                self._owed.extend(known.ended)
                self._pay()
            client.go_on()
        if self._is_closing and not self._adding:
            await self._complete()

    async def _complete(self) -> None:
        counts = await self._counts()
        packed = payload.pack(msgspec.structs.asdict(counts))
        self._ends.complete(self.instance, Payload(len(packed), inline=packed))

    async def _counts(self) -> UnitCounts:
        around = self._around
        return await around.persistent.insist(lambda: around.store.unit_counts(self.instance, self.task))

    def _pay(self) -> None:
        if not self._is_paying and self._is_greeted:
            self._is_paying = True
            self._in_background(self._pay_all())

    async def _pay_all(self) -> None:
        """Tell the client what it is owed, as fast as it reads."""
        while self._owed and self._is_greeted and (client := self._client) is not None:
            await self._room(client)
            if self._client is not client:
                continue
            some = [self._owed.popleft() for _ in range(min(AT_ONCE, len(self._owed)))]
            async for message in self._messages(await self._units.rows(some)):
                await self._room(client)
                if self._client is not client:
                    break
                client.tell(message)
            client.go_on()
        self._is_paying = False
        if self._ended is not None and self._client is not None:
            await self._bid_farewell()

    async def _room(self, client: Client) -> None:
        """Wait until a client has room, or is not the one of this session any more."""
        while self._client is client and not client.has_room:
            woken = self._woken = Deferred()
            await woken

    async def _messages(self, rows: Sequence[UnitRow]) -> AsyncIterator[Results]:
        """The results of units that have ended, in messages that are not too large."""
        group: list[UnitRow] = []
        size = 0
        for row in rows:
            result = row.result
            if result is not None and result.sha256:
                yield await self._large(row.index, result.sha256)
                continue
            group.append(row)
            size += len(result.inline) if result is not None else 0
            size += _length(row.failure) if row.failure is not None else 0
            if size > MESSAGE_SIZE:
                yield _results(group)
                group, size = [], 0
        if group:
            yield _results(group)

    async def _large(self, index: int, sha256: str) -> Results:
        try:
            data = await self._around.in_thread(self._around.blobs.read, sha256)
        except StoreError as fault:
            return Results([index], [b""], {0: (fault.code, str(fault), "")})
        return Results([index], [data])

    async def _bid_farewell(self) -> None:
        client, ended = self._client, self._ended
        if client is None or ended is None:
            return
        counts = await self._counts()
        if self._client is client:
            self._client = None
            client.tell(farewell(ended, counts))
            client.close("The session has ended.")

    def _wait_for_client(self) -> None:
        self._set_timer(self._ends.grace_s, self._put_off)

    def _put_off(self) -> None:
        """The client did not come back: its slots are of use to others."""
        self.log.info("Session {instance} has no client; it pauses", instance=self.instance)
        self._is_put_off = True
        self._units.forget()
        live = self._around.live.get(self.instance)
        if live is not None and live.status is not Status.PAUSED:  # else somebody did, and means it
            self._has_paused = True
            self._around.feed(PauseRequested(self.instance))
        self._set_timer(self._ends.keep_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self.log.info("Session {instance} had no client for too long", instance=self.instance)
        self._ends.cancel(self.instance)

    def _set_timer(self, seconds: float, call: Callable[[], object] | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._around.clock.callLater(seconds, call) if call is not None else None

    def _wake(self) -> None:
        woken, self._woken = self._woken, None
        if woken is not None:
            woken.callback(None)

    def _in_background(self, work: Any) -> None:  # a coroutine that returns nothing
        Deferred.fromCoroutine(work).addErrback(self._failed)

    def _failed(self, fault: Failed) -> None:
        """A fault of ours; the client may come again, and is told then what it waits for."""
        self.log.failure("Session {instance} failed", fault, instance=self.instance)
        self._is_paying = False
        client = self._client
        if client is not None:
            client.tell(Refused(InternalError.code, "Internal error; see the master's log."))
            client.close("Internal error.")
            self.lost(client)


def task_of(instance: Instance) -> str:
    """The task that a session is for; the branch of its units, those that these ask for left out."""
    return str(_arguments(instance)["task"])


def _arguments(instance: Instance) -> Mapping[str, Any]:
    """What the instance of a session was made with, by us: its task, and the options of its units."""
    about: Any = payload.unpack(instance.args.inline)
    return dict(about)


def farewell(instance: Instance, counts: UnitCounts) -> Ended:
    """What the client of a session that is over is told."""
    failure = instance.failure or Failure("", "")
    numbers = (counts.complete, counts.failed, counts.queued)
    return Ended(int(instance.status), *numbers, failure.code, failure.message)


def _results(rows: Sequence[UnitRow]) -> Results:
    failures = {at: row.failure for at, row in enumerate(rows) if row.failure is not None}
    results = [row.result.inline if row.result is not None else b"" for row in rows]
    return Results([row.index for row in rows], results, _failures(failures))


def _length(failure: Failure) -> int:
    return len(failure.message) + len(failure.traceback)


def _failures(failures: Mapping[int, Failure]) -> dict[int, tuple[str, str, str]]:
    return {at: (each.code, each.message, each.traceback) for at, each in failures.items()}
