# SPDX-License-Identifier: MIT
"""Sessions on a clock and a store in memory, with clients and a dispatcher that a test plays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.controller.session_messages import Open, Opened, Units, decode_to_client, encode
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.sessions.register import Sessions
from pydra.cluster.master.sessions.units import digests_of
from pydra.cluster.master.units.results import Results as Told
from pydra.cluster.scheduler.inputs import Input
from pydra.cluster.scheduler.unit_values import UnitsAsked, UnitsForgotten
from pydra.cluster.store.blobs import Blobs
from pydra.cluster.wire import payload
from pydra.errors import NotFound
from pydra.events import InstanceChanged
from pydra.model.changes import FinishInstance, InsertInstance, RecordUnits
from pydra.model.ids import InstanceId
from pydra.model.instance import Failure, Instance, Payload
from pydra.model.options import NO_OPTIONS
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK, UnitRow
from tests.support.cables import unthreaded
from tests.support.fakes import MemoryStore
from tests.support.instances import attempt, queued_instance
from tests.support.pumps import result_of

TASK = "demo.steps.Step"
GRACE_S, KEEP_S = 60.0, 600.0


class SlowStore(MemoryStore):
    """A store that answers questions about units when ``answer`` is called, if it was told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[Deferred[None]] | None = None

    def wait(self) -> None:
        """Later questions are answered later."""
        self._asked = []

    def answer(self) -> None:
        """What was asked is answered, and later questions at once."""
        asked, self._asked = self._asked or [], None
        for each in asked:
            each.callback(None)

    async def units(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there are, as they are when the answer comes."""
        if self._asked is not None:
            waiting: Deferred[None] = Deferred()
            self._asked.append(waiting)
            await waiting
        return await super().units(instance, branch, indexes)


@attrs.define
class PlayedUnits:
    """The part of the dispatcher that is about units; ``looked_up`` may have results already."""

    feed: Callable[[Input], None]
    listeners: dict[InstanceId, Any] = attrs.field(factory=dict)
    looked_up: list[int] = attrs.field(factory=list)

    def listen(self, instance: InstanceId, told: Any) -> None:
        """Whom to tell."""
        self.listeners[instance] = told

    def look_up(self, given: UnitsAsked) -> None:
        """Nothing is known of them."""
        self.looked_up += given.indexes
        self.feed(given)

    def forget(self, given: UnitsForgotten) -> None:
        """They are not wanted any more."""
        self.feed(given)


class PlayedDispatcher:
    """What sessions need of a dispatcher; ``fed`` is what they fed it with."""

    def __init__(self) -> None:
        self.live: dict[InstanceId, Instance] = {}
        self.ended: dict[InstanceId, Instance] = {}
        self.units = PlayedUnits(self.feed)
        self.fed: list[Input] = []
        self.completed: list[tuple[InstanceId, object]] = []

    def feed(self, given: Input) -> None:
        """Note it."""
        self.fed.append(given)

    def complete(self, instance: InstanceId, result: Payload) -> None:
        """Note it."""
        self.completed.append((instance, payload.unpack(result.inline)))

    def take(self) -> list[Input]:
        """What was fed since the last time."""
        fed, self.fed = self.fed, []
        return fed


class Wire:
    """The socket of a client; ``heard`` is what it was told since the last time."""

    def __init__(self) -> None:
        self.address = "192.0.2.7"
        self.has_room = True
        self.is_paused = False
        self.closed: list[tuple[int, str]] = []
        self._told: list[Any] = []
        self.speaker: Any = None

    def send(self, message: bytes | str) -> None:
        """The master says something."""
        assert isinstance(message, bytes)
        if not self.closed:
            self._told.append(decode_to_client(message))

    def pause(self, paused: bool) -> None:
        """The master reads, or not."""
        self.is_paused = paused

    def close(self, code: int, reason: str = "") -> None:
        """The master ends it."""
        if not self.closed:
            self.closed.append((code, reason))
            self.speaker.lost()

    def heard(self) -> list[Any]:
        """What it was told."""
        told, self._told = self._told, []
        return told

    def say(self, *messages: Any) -> list[Any]:
        """Say something; what came of it."""
        for message in messages:
            data = message if isinstance(message, bytes | str) else encode(message)
            self.speaker.received(data)
        return self.heard()

    def leave(self) -> None:
        """The client is gone."""
        if not self.closed:
            self.closed.append((1006, ""))
            self.speaker.lost()


class SessionsBench:
    """Sessions, and what is around them."""

    def __init__(self, directory: Path, store: SlowStore | None = None, moment_s: float = 0.0) -> None:
        self._moment_s = moment_s
        self.clock = Clock()
        self.store = store or SlowStore()
        self.dispatcher = PlayedDispatcher()
        self.blobs = Blobs(directory / "blobs")
        self.uses = BlobUses(functools.partial(unthreaded, self.blobs.remove))
        self.options = NO_OPTIONS
        """What sessions that are opened are promised."""
        self.sessions = self._made()
        self._highest = 0

    def _made(self) -> Sessions:
        return Sessions(
            self.clock,
            self.dispatcher,  # type: ignore[arg-type]
            self.store,
            self.blobs,
            self.uses,
            unthreaded,
            self._open,
            GRACE_S,
            KEEP_S,
            self._moment_s,
        )

    async def _open(self, task_key: str, options: Mapping[str, object], request_key: str) -> InstanceId:
        if task_key != TASK:
            raise NotFound(f"There is no task {task_key!r}.")
        packed = payload.pack({"task": task_key} | dict(options))
        self._highest += 1
        instance = queued_instance(
            self._highest,
            task_key=SESSION_TASK,
            args=Payload(len(packed), packed),
            request_key=request_key,
            options=self.options,
        )
        [outcome] = await self.store.commit([InsertInstance(instance)])
        assert outcome.instance is not None
        if outcome.applied:
            self.dispatcher.live[instance.id] = instance
        return outcome.instance

    def connect(self) -> Wire:
        """A client that said nothing yet."""
        wire = Wire()
        wire.speaker = self.sessions.connect(wire)
        return wire

    def opened(self, **fields: Any) -> Wire:
        """A client with a new session."""
        wire = self.connect()
        (opened,) = wire.say(Open(TASK, **fields))
        assert isinstance(opened, Opened), opened
        return wire

    def restart(self) -> None:
        """The master is killed and starts again on the same store."""
        self.sessions.stop()
        self.dispatcher.fed.clear()
        self.dispatcher.units.listeners.clear()
        self.sessions = self._made()
        result_of(Deferred.fromCoroutine(self.sessions.restore()))

    def record(
        self,
        *indexes: int,
        results: Sequence[bytes] | None = None,
        failures: Mapping[int, Failure] | None = None,
        blobs: Mapping[int, Payload] | None = None,
        args: Sequence[bytes] | None = None,
        instance: int = 1,
        branch: str = TASK,
    ) -> None:
        """Results are committed, and told if they are of the client's own units."""
        digests = b"".join(digests_of(args or [b"%d" % index for index in indexes]))
        columns = (list(indexes), list(results or [b"r%d" % index for index in indexes]))
        told = Told(*columns, failures or {}, blobs or {})
        change = RecordUnits(
            InstanceId(instance),
            branch,
            told.indexes,
            digests,
            told.results,
            told.failures,
            told.blobs,
            attempt(),
            None,
            5.0,
        )
        result_of(Deferred.fromCoroutine(self.store.commit([change])))
        self.uses.release(InstanceId(instance), branch, indexes)
        listener = self.dispatcher.units.listeners.get(InstanceId(instance))
        if listener is not None and branch == TASK:
            listener(TASK, told)

    def paused(self, instance: int = 1) -> None:
        """An instance was paused."""
        number = InstanceId(instance)
        self.dispatcher.live[number] = msgspec.structs.replace(
            self.dispatcher.live[number], status=Status.PAUSED
        )

    def finish(self, status: Status = Status.CANCELLED, instance: int = 1, **fields: Any) -> None:
        """An instance becomes final."""
        number = InstanceId(instance)
        change = FinishInstance(number, None, status, 9.0, fields.get("result"), fields.get("failure"))
        result_of(Deferred.fromCoroutine(self.store.commit([change])))
        ended = msgspec.structs.replace(self.dispatcher.live.pop(number), status=status, **fields)
        self.dispatcher.ended[number] = ended
        self.sessions.published(1, InstanceChanged(number, status))

    def close(self) -> None:
        """Stop; no timer may be left."""
        self.sessions.stop()
        assert [] == self.clock.getDelayedCalls()


def units(*indexes: int) -> Units:
    """Units whose arguments are their numbers."""
    return Units(list(indexes), [b"%d" % index for index in indexes])


def asked(*indexes: int) -> tuple[list[int], list[bytes]]:
    """What the scheduler is asked for these units."""
    return list(indexes), [b"%d" % index for index in indexes]


def runs(fed: Sequence[Input]) -> list[tuple[list[int], list[bytes]]]:
    """The units among what was fed."""
    return [(each.indexes, each.args) for each in fed if isinstance(each, UnitsAsked)]
