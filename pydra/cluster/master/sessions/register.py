# SPDX-License-Identifier: MIT
"""All sessions that are not over: found by their instance, restored at start, told how they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
from twisted.internet.interfaces import IReactorTime

from pydra.cluster.controller.functions import checked_request_key
from pydra.cluster.controller.session_messages import Attach, Ended, Open
from pydra.cluster.interfaces import InThread, Socket, Store
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.sessions.held_session import HeldSession, SessionEnds, farewell, task_of
from pydra.cluster.master.sessions.speaker import SessionSpeaker
from pydra.cluster.master.sessions.units import SessionAround
from pydra.cluster.master.sessions.unstored import MOMENT_S
from pydra.cluster.master.store_retry import StoreRetry
from pydra.cluster.master.units.results import Results
from pydra.cluster.scheduler.inputs import CancelRequested
from pydra.cluster.store.blobs import Blobs
from pydra.errors import Conflict, InvalidParameters, NotFound
from pydra.events import Event, InstanceChanged
from pydra.model.ids import InstanceId
from pydra.model.instance import Instance
from pydra.model.unit import SESSION_TASK

OpenSession = Callable[[str, Mapping[str, object], str], Awaitable[InstanceId]]
"""Commits the instance of a session: task key, options, request key; see ``Submissions.open_session``."""


class Sessions:
    """
    The sessions of a master.

    One whose client is gone for ``grace_s`` seconds pauses, so that others have its slots, and ``keep_s``
    seconds later it is cancelled; until then a client may attach to it, and it goes on.
    """

    def __init__(
        self,
        clock: IReactorTime,
        dispatcher: Dispatcher,
        store: Store,
        blobs: Blobs,
        uses: BlobUses,
        in_thread: InThread,
        open_session: OpenSession,
        grace_s: float,
        keep_s: float,
        moment_s: float = MOMENT_S,
    ) -> None:
        self._dispatcher = dispatcher
        self._store = store
        self._open_session = open_session
        self._persistent = StoreRetry(clock, "a session")
        self._around = SessionAround(
            clock,
            store,
            blobs,
            uses,
            in_thread,
            dispatcher.feed,
            dispatcher.units,
            dispatcher.live,
            self._persistent,
            moment_s,
        )
        self._ends = SessionEnds(dispatcher.complete, self._cancel, grace_s, keep_s)
        self._sessions: dict[InstanceId, HeldSession] = {}

    def connect(self, socket: Socket) -> SessionSpeaker:
        """A client is there, of whichever session."""
        return SessionSpeaker(socket, self._find)

    async def restore(self) -> None:
        """Take up the sessions that an earlier master left; once, after the dispatcher did."""
        for instance in list(self._dispatcher.live.values()):
            if instance.task_key == SESSION_TASK:
                await self._hold(instance, is_new=False).refill()

    def published(self, _: int, event: Event) -> None:
        """Something changed; a session may have ended."""
        if isinstance(event, InstanceChanged) and event.status.is_final:
            session = self._sessions.pop(event.instance, None)
            if session is not None:
                session.end(self._dispatcher.ended[event.instance])

    def stop(self) -> None:
        """Leave no timer behind."""
        self._persistent.stop()
        for session in self._sessions.values():
            session.stop()

    async def _find(self, message: Open | Attach) -> HeldSession | Ended:
        if isinstance(message, Attach):
            return await self._known(InstanceId(message.instance))
        key = message.request_key and checked_request_key(message.request_key)
        instance = await self._open_session(message.task, _as_json(message.options), key)
        live = self._dispatcher.live.get(instance)
        if live is not None and instance not in self._sessions and live.task_key == SESSION_TASK:
            return self._hold(live, is_new=True)
        found = await self._known(instance)
        if isinstance(found, HeldSession) and found.task != message.task:
            raise Conflict(f"This request key belongs to session {instance}, for {found.task}.")
        return found

    async def _known(self, instance: InstanceId) -> HeldSession | Ended:
        session = self._sessions.get(instance)
        if session is not None:
            return session
        stored = self._dispatcher.ended.get(instance) or await self._store.instance(instance)
        if stored is None or stored.task_key != SESSION_TASK or not stored.status.is_final:
            raise NotFound(f"There is no session {instance}.")
        return farewell(stored, await self._store.unit_counts(instance, task_of(stored)))

    def _hold(self, instance: Instance, *, is_new: bool) -> HeldSession:
        session = HeldSession(self._around, self._ends, instance, is_new)
        self._sessions[instance.id] = session
        self._dispatcher.units.listen(instance.id, partial(_tell, session))
        return session

    def _cancel(self, instance: InstanceId) -> None:
        self._dispatcher.feed(CancelRequested(instance))


def _as_json(options: Mapping[str, object]) -> Mapping[str, object]:
    """Options as a caller of HTTP would give them: JSON; `InvalidParameters` if they have none."""
    try:
        read: dict[str, object] = msgspec.json.decode(msgspec.json.encode(options))
    except (TypeError, ValueError, RecursionError) as fault:
        raise InvalidParameters(f"The options are no JSON: {fault}.") from None
    return read


def _tell(session: HeldSession, branch: str, results: Results) -> None:
    # A nested branch is asked for by a worker, so whatever is told here is of the client's own.
    session.recorded(results.indexes, results.results, results.failures, results.blobs)
