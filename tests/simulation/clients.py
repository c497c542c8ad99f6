# SPDX-License-Identifier: MIT
"""Clients of sessions, which come back whenever they or the master were away."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from pydra.cluster.controller.session_messages import (
    Attach,
    Close,
    Ended,
    Open,
    Opened,
    Refused,
    Results,
    Stored,
    Units,
    decode_to_client,
    encode,
)
from pydra.model.ids import InstanceId
from pydra.model.status import Status
from tests.simulation.works import STEP

if TYPE_CHECKING:
    from tests.simulation.cluster import SimulatedCluster
    from tests.simulation.daemons import SimulatedMaster

WINDOW = 12
"""Units that a client has outstanding."""


HALF_OPEN, UNNOTICED_S = 0.3, 20.0
"""How often a master learns later that a client is gone, and how much; it may be back before that."""


class Wire:
    """A ``Socket``; ``hear`` is called a little later with each message."""

    address = "192.0.2.7"
    has_room = True

    def __init__(self, client: SimulatedClient, master: SimulatedMaster) -> None:
        self._client = client
        self._master = master
        self.is_closed = False
        self.speaker: Any = None

    def send(self, message: bytes | str) -> None:
        """The master says something."""
        assert isinstance(message, bytes)
        if self._client.is_answered() and not self.is_closed:
            self._client.come_later(self, decode_to_client(message))

    def pause(self, paused: bool) -> None:
        """What the client says waits in the speaker."""

    def close(self, code: int, reason: str = "") -> None:
        """The master ends it, after what it said."""
        if not self.is_closed:
            self._client.come_later(self, None)
            self.is_closed = True
            self.speaker.lost()

    def lose(self) -> None:
        """The master, if it is still there, learns that nobody is at the other end."""
        if not self.is_closed:
            self.is_closed = True
            if not self._master.is_dead:
                self.speaker.lost()

    def say(self, message: Any) -> None:
        """The client says something."""
        if not self.is_closed:
            self.speaker.received(encode(message))


class SimulatedClient:
    """Feeds the units of one session and takes their results, each once."""

    def __init__(self, cluster: SimulatedCluster, number: int, units: int) -> None:
        self._cluster = cluster
        self._random: Random = cluster.random
        self.name = f"client-of-a-session-{number}"
        self.units = units
        self.instance = 0
        self._next = 0
        self.waiting: set[int] = set()
        self._received: set[int] = set()
        self._wire: Wire | None = None
        self._is_open = False
        self._latest = 0.0
        """When the latest of what is under way to it arrives."""
        self.ended: Ended | None = None

    def is_answered(self) -> bool:
        """The master lives to say something."""
        master = self._cluster.master
        master.passed("answers a client")
        return not master.is_dead

    def connect(self) -> None:
        """Be there, if it is not and the master is."""
        if self._wire is not None or self.ended is not None or self._cluster.master.is_dead:
            return
        wire = self._wire = Wire(self, self._cluster.master)
        wire.speaker = self._cluster.master.sessions.connect(wire)
        if self.instance:
            wire.say(Attach(self.instance, sorted(self.waiting)))
        else:
            wire.say(Open(STEP, self.name))

    def leave(self, away_s: float) -> None:
        """Be gone for a while, and lose what is under way."""
        wire, self._wire, self._is_open = self._wire, None, False
        if wire is not None and self._random.random() < HALF_OPEN:
            self._cluster.clock.callLater(self._random.uniform(0.0, UNNOTICED_S), wire.lose)
        elif wire is not None:
            wire.lose()
        self._cluster.clock.callLater(away_s, self.connect)

    def come_later(self, wire: Wire, message: Any) -> None:
        """What the master says arrives after a while, in order; None is the end."""
        now = self._cluster.clock.seconds()
        self._latest = max(self._latest, now + self._random.uniform(0.0, self._cluster.plan.latency))
        self._cluster.clock.callLater(self._latest - now, self._hear, wire, message)

    def _hear(self, wire: Wire, message: Any) -> None:
        if wire is not self._wire:
            return
        self._cluster.trail.note(self.name, message)
        match message:
            case None:
                self.leave(self._random.uniform(0.1, 2.0))
            case Opened(instance, missing=missing):
                self.instance = instance
                self._is_open = True
                self._send(missing)
                self._go_on()
            case Results(indexes, results, failures):
                self._results(indexes, results, failures)
                self._go_on()
            case Ended():
                self._end(message)
            case Refused(code, text):
                if self._is_open:
                    self._cluster.faults.append(f"{self.name} was refused: {code}: {text}")
                self.leave(1.0)
            case Stored():
                pass

    def _results(self, indexes: list[int], results: list[bytes], failures: dict[int, Any]) -> None:
        stored = self._cluster.store._units.some(InstanceId(self.instance), STEP, indexes)
        rows = {row.index: row for row in stored}
        for position, index in enumerate(indexes):
            if index not in self.waiting:
                again = "again" if index in self._received else "unasked"
                self._cluster.faults.append(f"{self.name} was told of {index} {again}")
            self.waiting.discard(index)
            self._received.add(index)
            row, status = rows.get(index), Status.FAILED if position in failures else Status.COMPLETE
            if row is None or row.status is not status:
                self._cluster.faults.append(f"{self.name} was told of {index} before it was stored")
            elif row.result is not None and not row.result.sha256 and row.result.inline != results[position]:
                self._cluster.faults.append(f"{self.name} was told another result of {index} than is stored")

    def _go_on(self) -> None:
        if not self._is_open:
            return
        first, self._next = (
            self._next,
            max(self._next, min(self.units, self._next + WINDOW - len(self.waiting))),
        )
        self._send(list(range(first, self._next)))
        if not self.waiting and self._next == self.units and self._wire is not None:
            self._wire.say(Close())

    def _send(self, indexes: list[int]) -> None:
        works = self._cluster.works
        self.waiting.update(indexes)
        if indexes and self._wire is not None:
            args = [works.args(self.instance, STEP, index) for index in indexes]
            self._wire.say(Units(indexes, args))

    def _end(self, ended: Ended) -> None:
        self.ended = ended
        self._wire = None
        if ended.status == int(Status.COMPLETE) and (self.waiting or self._next < self.units):
            self._cluster.faults.append(
                f"{self.name} waits for {sorted(self.waiting)[:5]}, and its session is complete"
            )
