# SPDX-License-Identifier: MIT
"""A link that takes time, stalls, loses one direction, and breaks, as the plan and the nemesis say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import LinkUser
from pydra.cluster.wire.link import ANSWER_TIMEOUT_S
from pydra.cluster.wire.messages import (
    MasterHello,
    NodeHello,
    UnitResults,
    UnitsAsked,
    batches,
    decode_to_master,
    decode_to_node,
)
from pydra.errors import PydraError, RemoteFault
from tests.simulation.steps import Steps
from tests.support.cables import Cable, CableBulk, CableLink

LATEST_S = 60.0
"""After so long a message is repeated at the latest."""

LAST_WORDS = 0.5
"""How often what a daemon sent last still arrives after its end."""

ONCE = (MasterHello, NodeHello, UnitsAsked, UnitResults)
"""What is not repeated: a link has one greeting, and who asks again for a unit wants another answer."""


class Daemon(Protocol):
    """Who has an end of a cable."""

    is_dead: bool
    link_user: LinkUser
    number: int
    """`MASTER`, or that of the node."""
    stands_until: float
    """It does nothing before."""


class Port:
    """Where a node is dialled: a newer link replaces the older one."""

    def __init__(self) -> None:
        self.cable: SlowCable | None = None

    def take(self, cable: SlowCable) -> None:
        """This one is plugged in."""
        if self.cable is not None and self.cable is not cable:
            self.cable.replaced()
        self.cable = cable


class SlowLink(CableLink):
    """One end: what it sends is under way for a while, in order."""

    def __init__(
        self, cable: SlowCable, decode: Callable[[bytes], Sequence[Any]], own: Daemon, peer: Daemon
    ) -> None:
        super().__init__(cable, decode, peer.link_user)
        self._slow = cable
        self._own = own
        self._other = peer
        self.silent_until = 0.0
        """Until then nothing arrives; if that is long, the link is given up."""
        self.repeats_until = 0.0
        """Until then each message is sent once more, later."""
        self._is_due = False

    def send(self, message: Any) -> None:
        """It arrives later, if the link lasts."""
        clock, name = self._slow.clock, type(message).__name__
        self._slow.passed(self._own, f"sends {name}")
        if self._own.is_dead:
            return
        self._put(message)
        if self.repeats_until > clock.seconds() and not isinstance(message, ONCE):
            clock.callLater(self._slow.random.uniform(0.0, LATEST_S), self._put, message)
        self._slow.passed(self._own, f"sent {name}")

    def _put(self, message: Any) -> None:
        super().send(message)
        self._arrive_later()

    def deliver(self) -> bool:
        """All that waits arrives; False if nothing waits."""
        if not self._queue or self._cable.is_closing:
            return False
        self.speak()
        return True

    def speak(self) -> None:
        """All that was sent arrives, whatever became of the sender."""
        waiting = list(self._queue)
        self._queue.clear()
        try:
            for batch in batches(waiting):
                for message in self._decode(batch):
                    self._hear(message)
        except PydraError as fault:
            self.close(f"a message of the peer was refused: {fault}")

    def _hear(self, message: Any) -> None:
        name = type(message).__name__
        self._slow.passed(self._other, f"hears {name}")
        if not self._other.is_dead and self._slow.is_up and not self._slow.has_closed(self._other):
            self._peer.messages_received([message])
            self._slow.passed(self._other, f"heard {name}")

    def close(self, reason: str) -> None:
        """The link ends soon."""
        was_open = self.closed is None
        super().close(reason)
        if was_open and not self._own.is_dead:
            self._slow.end_later(reason)

    def fall_silent(self, reason: str) -> None:
        """The link ends here, and the other end does not know."""
        super().close(reason)

    def _arrive_later(self) -> None:
        if not self._is_due and self._queue:
            self._is_due = True
            clock = self._slow.clock
            wait_s = max(self._slow.delay(), self.silent_until - clock.seconds())
            clock.callLater(wait_s, self._arrive)
            if wait_s > ANSWER_TIMEOUT_S:
                clock.callLater(ANSWER_TIMEOUT_S, self.close, "the peer did not answer")

    def _arrive(self) -> None:
        self._is_due = False
        if self.closed is not None:
            return
        if self.silent_until > self._slow.clock.seconds():
            self._arrive_later()
            return
        self.deliver()
        self._arrive_later()


class SlowBulk(CableBulk):
    """One end of the bulk connection, whose chunks take a while."""

    def __init__(self, cable: SlowCable, own: Daemon, peer: Daemon) -> None:
        super().__init__(cable, peer.link_user)
        self._slow = cable
        self._own = own
        self._other = peer

    async def send(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        """Bring a stream to the peer."""
        self._slow.passed(self._own, "begins a stream")
        await super().send(kind, detail, chunks)
        self._slow.passed(self._own, "ended a stream")

    async def _carry(self, number: int, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        if self._own.is_dead or self._slow.is_closing:
            await Deferred()
        await self._peer_goes()
        await super()._carry(number, kind, detail, chunks)

    async def _told(self, step: Callable[..., Any], *arguments: bytes) -> None:
        await self._pass(self._slow.delay())
        await self._peer_goes()
        if not self._open or self._slow.is_closing or self._own.is_dead:
            raise RemoteFault("The connection is lost.")
        await super()._told(step, *arguments)

    async def _peer_goes(self) -> None:
        while (wait_s := self._other.stands_until - self._slow.clock.seconds()) > 0:
            await self._pass(wait_s)

    async def _pass(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred()
        self._slow.clock.callLater(seconds, waiting.callback, None)
        await waiting


class SlowCable(Cable):
    """Joins two daemons by links that need the clock; plugged in again by itself after it broke."""

    master: SlowLink
    node: SlowLink

    def __init__(
        self,
        clock: Clock,
        random: Random,
        latency: float,
        daemons: tuple[Daemon, Daemon],
        port: Port,
        steps: Steps,
    ) -> None:
        super().__init__(daemons[0].link_user, daemons[1].link_user)
        self.clock = clock
        self.random = random
        self._daemons = daemons
        self._latency = latency
        self._port = port
        self._steps = steps
        self.cut_until = 0.0
        self.is_scrapped = False
        self._told: LinkUser | None = None
        """Who knows already that a link is down whose other end does not."""

    def passed(self, daemon: Daemon, doing: str) -> None:
        """A daemon does something at its end."""
        if not daemon.is_dead:
            self._steps.passed(daemon.number, doing)

    def has_closed(self, daemon: Daemon) -> bool:
        """This end of the link is closed."""
        return (self.master if daemon is self._daemons[0] else self.node).closed is not None

    def delay(self) -> float:
        """How long the next batch is under way."""
        return self.random.uniform(0.0, self._latency)

    def plug(self) -> SlowCable:
        """Both ends are up."""
        assert not self.is_up
        self._port.take(self)
        master, node = self._daemons
        self.is_up, self._told = True, None
        self.master = SlowLink(self, decode_to_node, master, node)
        self.node = SlowLink(self, decode_to_master, node, master)
        self.master_bulk, self.node_bulk = SlowBulk(self, master, node), SlowBulk(self, node, master)
        node.link_user.link_up(self.node, self.node_bulk)
        master.link_user.link_up(self.master, self.master_bulk)
        return self

    def plug_later(self) -> None:
        """The master dials until it gets through."""
        if self.is_scrapped or (self.is_up and self._told is not self._users[0]):
            return
        wait_s = self.cut_until - self.clock.seconds()
        if wait_s <= 0:
            self.pull("a newer connection of the master replaced it")
            self.plug()
        else:
            self.clock.callLater(wait_s, self.plug_later)

    def pull(self, reason: str = "the cable was pulled") -> None:
        """Both ends are down, and what was under way is lost."""
        if self.is_up:
            self.is_up = False
            for end in (self.master, self.node):
                end.fall_silent(reason)
            for bulk in (self.master_bulk, self.node_bulk):
                bulk.lose()
            for user in self._users:
                if user is not self._told:
                    user.link_down(reason)

    def half_open(self, seconds: float, *, is_known_to_master: bool) -> None:
        """One end is down; the other learns of it later, and may hear meanwhile what was sent before."""
        if not self.is_up or self.is_closing:
            return
        link, bulk = (self.master, self.master_bulk) if is_known_to_master else (self.node, self.node_bulk)
        links = (self.master, self.node)
        words = list(link._queue)
        link.fall_silent("the peer did not answer")
        self._told = self._users[0 if is_known_to_master else 1]
        bulk.lose()
        self._told.link_down("the peer did not answer")
        if self.random.random() < LAST_WORDS:
            link._queue.extend(words)
            self.clock.callLater(self.random.uniform(0.0, seconds), self._late, link)
        self.clock.callLater(seconds, self._end, "the peer was silent", links)
        if is_known_to_master:
            self.clock.callLater(self.random.uniform(0.1, 2.0), self.plug_later)

    def _late(self, link: SlowLink) -> None:
        if self.is_up and link in (self.master, self.node):
            link.speak()

    def end_later(self, reason: str) -> None:
        """One end closed: the other learns of it."""
        self.clock.callLater(0, self._end, reason, (self.master, self.node))

    def _end(self, reason: str, ends: tuple[SlowLink, SlowLink]) -> None:
        if self.is_up and ends == (self.master, self.node):
            self.pull(reason)
            self._dial_again()

    def _dial_again(self) -> None:
        self.clock.callLater(self.random.uniform(0.1, 2.0), self.plug_later)

    def replaced(self) -> None:
        """Another master dialled its node."""
        if self.is_up:
            self.pull("a newer connection of the master replaced it")
            self._dial_again()

    def break_for(self, seconds: float) -> None:
        """No connection for a while."""
        self.cut_until = max(self.cut_until, self.clock.seconds() + seconds)
        if self.is_up:
            self.pull("the cable was cut")
        self.clock.callLater(seconds, self.plug_later)

    def scrap(self, reason: str) -> None:
        """It is no more: one of its ends was killed."""
        self.is_scrapped = True
        if self.is_up and not self.is_closing and self.random.random() < LAST_WORDS:
            for link in (self.master, self.node):
                if link._own.is_dead and link.silent_until <= self.clock.seconds():
                    link.speak()
        self.pull(reason)
