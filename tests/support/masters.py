# SPDX-License-Identifier: MIT
"""The heart of a master on a clock: scheduler, store in memory, events, dispatcher, and a trace of all."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.event_log import EventLog
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.scheduler import inputs
from pydra.cluster.scheduler.limits import Limits
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.wire.messages import COMPLETE, RunUnit, ToNode, UnitFinished
from pydra.events import Event
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerKey
from pydra.model.instance import Failure, Instance, Payload
from tests.support.fakes import MemoryStore
from tests.support.instances import queued_instance
from tests.support.pumps import result_of

T = TypeVar("T")

WALL_TIME = 1_700_000_000.0
"""The wall clock of every bench, when its clock says 0."""

NODE = NodeId(1)
RESULT = Payload(1, b"\x05")


class Heart:
    """``trace`` tells what was sent (node and message) and published (event), in order."""

    def __init__(
        self, store: MemoryStore | None = None, limits: Limits | None = None, clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.store = store or MemoryStore()
        self.trace: list[Any] = []
        self.fatal: list[str] = []
        self.uses = BlobUses(self.remove_blob)
        self.events = EventLog(self.clock, self.store.epoch)
        self.scheduler = Scheduler(self.store.epoch, limits or Limits())
        self.dispatcher = Dispatcher(
            self.clock,
            self.wall_clock,
            self.scheduler,
            self.store,
            self.send,
            lambda node, index: WorkerKey(f"node{node}:11890:{index}"),
            self.publish,
            self.fatal.append,
            self.uses,
            lambda node: 0,
        )

    async def remove_blob(self, sha256: str) -> None:
        """Where blobs go that nobody needs; there are none here."""

    def wall_clock(self) -> float:
        """UTC seconds."""
        return WALL_TIME + self.clock.seconds()

    def send(self, node: NodeId, message: ToNode) -> None:
        """Where the dispatcher's messages go."""
        self.trace.append((node, message))

    def publish(self, event: Event) -> int:
        """Where its events go."""
        self.trace.append(event)
        return self.events.publish(event)

    def take(self) -> list[Any]:
        """The trace since the last time."""
        trace, self.trace = self.trace, []
        return trace

    def sent(self) -> list[ToNode]:
        """The messages of the trace since the last time."""
        return [entry[1] for entry in self.take() if isinstance(entry, tuple)]

    def ready(self, slots: int = 1, node: NodeId = NODE) -> None:
        """A node is there, with nothing on it."""
        self.dispatcher.feed(inputs.NodeReady(node, slots))

    def submit(self, number: int, **fields: Any) -> tuple[InstanceId, bool]:
        """Submit an instance."""
        return self.result(self.dispatcher.submit(queued_instance(number, **fields)))

    def finish(
        self,
        attempt: Attempt,
        outcome: str = COMPLETE,
        result: Payload | None = RESULT,
        failure: Failure | None = None,
        node: NodeId = NODE,
    ) -> None:
        """A node tells an outcome."""
        self.dispatcher.unit_finished(node, UnitFinished(attempt, outcome, result, failure))

    def running(self, number: int = 1, **fields: Any) -> RunUnit:
        """Submit an instance to a ready node; the message that it runs by. The trace is empty after it."""
        self.take()
        self.submit(number, **fields)
        runs = [message for message in self.sent() if isinstance(message, RunUnit)]
        assert [number] == [run.instance for run in runs]
        return runs[0]

    def stored(self, number: int) -> Instance:
        """An instance as it was committed."""
        found = self.result(self.store.instance(InstanceId(number)))
        assert found is not None
        return found

    def result(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """What a coroutine answers at once."""
        return result_of(Deferred.fromCoroutine(coroutine))

    def close(self) -> None:
        """Stop; no timer may be left."""
        self.dispatcher.stop()
        assert [] == self.clock.getDelayedCalls()
