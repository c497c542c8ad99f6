# SPDX-License-Identifier: MIT
"""A link that takes time, stalls, loses one direction, and breaks, as the plan and the nemesis say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.task import Clock

from pydra.cluster.interfaces import LinkUser
from pydra.cluster.wire.link import ANSWER_TIMEOUT_S
from pydra.cluster.wire.messages import decode_to_master, decode_to_node
from tests.support.cables import Cable, CableBulk, CableLink


class SlowLink(CableLink):
    """One end: what it sends is under way for a while, in order."""

    def __init__(self, cable: SlowCable, decode: Callable[[bytes], Sequence[Any]], peer: LinkUser) -> None:
        super().__init__(cable, decode, peer)
        self._slow = cable
        self.silent_until = 0.0
        """Until then nothing arrives; if that is long, the link is given up."""
        self._is_due = False

    def send(self, message: Any) -> None:
        """It arrives later, if the link lasts."""
        super().send(message)
        self._arrive_later()

    def close(self, reason: str) -> None:
        """The link ends soon."""
        was_open = self.closed is None
        super().close(reason)
        if was_open:
            self._slow.end_later(reason)

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


class SlowCable(Cable):
    """Joins two users by links that need the clock; plugged in again by itself after it broke."""

    def __init__(
        self, clock: Clock, random: Random, latency: float, master: LinkUser, node: LinkUser
    ) -> None:
        super().__init__(master, node)
        self.clock = clock
        self._random = random
        self._latency = latency
        self.cut_until = 0.0
        self.is_scrapped = False

    def delay(self) -> float:
        """How long the next batch is under way."""
        return self._random.uniform(0.0, self._latency)

    def plug(self) -> SlowCable:
        """Both ends are up."""
        assert not self.is_up
        master, node = self._users
        self.is_up = True
        self.master = SlowLink(self, decode_to_node, node)
        self.node = SlowLink(self, decode_to_master, master)
        self.master_bulk, self.node_bulk = CableBulk(self, node), CableBulk(self, master)
        node.link_up(self.node, self.node_bulk)
        master.link_up(self.master, self.master_bulk)
        return self

    def plug_later(self) -> None:
        """The master dials until it gets through."""
        if self.is_scrapped or self.is_up:
            return
        wait_s = self.cut_until - self.clock.seconds()
        if wait_s <= 0:
            self.plug()
        else:
            self.clock.callLater(wait_s, self.plug_later)

    def end_later(self, reason: str) -> None:
        """One end closed: the other learns of it."""
        self.clock.callLater(0, self._end, reason, (self.master, self.node))

    def _end(self, reason: str, ends: tuple[SlowLink, SlowLink]) -> None:
        if self.is_up and ends == (self.master, self.node):
            self.pull(reason)
            self.clock.callLater(self._random.uniform(0.1, 2.0), self.plug_later)

    def break_for(self, seconds: float) -> None:
        """No connection for a while."""
        self.cut_until = max(self.cut_until, self.clock.seconds() + seconds)
        if self.is_up:
            self.pull("the cable was cut")
        self.clock.callLater(seconds, self.plug_later)

    def scrap(self, reason: str) -> None:
        """It is no more: one of its ends was killed."""
        self.is_scrapped = True
        self.pull(reason)
