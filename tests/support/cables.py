# SPDX-License-Identifier: MIT
"""
A link between a master and a node without a network: messages and streams move when a test says so.

What is sent is encoded and decoded as on the wire, so what could not travel does not travel here either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from pydra.cluster.interfaces import LinkUser
from pydra.cluster.wire.messages import BATCH_LIMIT, batches, decode_to_master, decode_to_node, encode
from pydra.errors import LinkLost, PydraError, RemoteFault, WireError
from tests.support.links import RecordingUser


class CableLink:
    """One end of the control connection; a ``Link``."""

    def __init__(self, cable: Cable, decode: Callable[[bytes], Sequence[Any]], peer: LinkUser) -> None:
        self.closed: str | None = None
        self._cable = cable
        self._decode = decode
        self._peer = peer
        self._queue: deque[bytes] = deque()

    def send(self, message: Any) -> None:
        """It arrives when the cable settles; `WireError` if it is too large."""
        encoded = encode(message)
        if len(encoded) > BATCH_LIMIT:
            raise WireError(f"A message of {len(encoded)} bytes is too large; the limit is {BATCH_LIMIT}.")
        if self.closed is None:
            self._queue.append(encoded)

    def backlog(self) -> int:
        """Bytes that wait for the cable to settle."""
        return sum(map(len, self._queue))

    def close(self, reason: str) -> None:
        """Both ends are down when the cable settles; what was not settled is lost."""
        if self.closed is None:
            self.closed = reason
            self._queue.clear()

    def deliver(self) -> bool:
        """All that waits arrives as one batch; False if nothing waits."""
        if not self._queue or self._cable.is_closing:
            return False
        waiting, self._queue = list(self._queue), deque()
        try:
            for batch in batches(waiting):
                self._peer.messages_received(self._decode(batch))
        except PydraError as fault:
            self.close(f"a message of the peer was refused: {fault}")
        return True


class CableBulk:
    """One end of the bulk connection; a ``Bulk``."""

    def __init__(self, cable: Cable, peer: LinkUser) -> None:
        self.streams: list[tuple[str, str]] = []
        """Kind and detail of each stream that was sent."""
        self._cable = cable
        self._peer = peer
        self._open: dict[int, Deferred[None]] = {}

    async def send(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        """Bring a stream to the peer's sink at once; returns when it is finished."""
        self.streams.append((kind, detail))
        number = len(self.streams)
        carried: Deferred[None] | None = None
        try:
            if not self._cable.is_up:
                raise LinkLost
            ended: Deferred[None] = Deferred()
            self._open[number] = ended
            carried = Deferred.fromCoroutine(self._carry(number, kind, detail, chunks))
            carried.addErrback(lambda fault: ended.errback(fault) if not ended.called else None)
            await ended
        finally:
            self._open.pop(number, None)
            if carried is not None:
                carried.cancel()  # it may wait for a chunk
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def _carry(self, number: int, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        try:
            sink = self._peer.stream_opened(kind, detail)
        except PydraError as fault:
            raise RemoteFault(f"{fault} ({fault.code})") from None
        try:
            async for chunk in chunks:
                if number in self._open:
                    await self._told(sink.write, chunk)
            if number in self._open:
                await self._told(sink.finish)
        except Exception as fault:
            sink.abort(str(fault))
            raise
        if number in self._open:
            self._open[number].callback(None)
        else:
            sink.abort("the connection is lost")

    async def _told(self, step: Callable[..., Any], *arguments: bytes) -> None:
        """What a sink raises is told to the sender."""
        try:
            await step(*arguments)
        except PydraError as fault:
            raise RemoteFault(f"{fault} ({fault.code})") from None
        except Exception:  # noqa: BLE001 - a fault at the peer is its own affair
            raise RemoteFault from None

    def lose(self) -> None:
        """All streams end with `LinkLost`."""
        streams, self._open = self._open, {}
        for ended in streams.values():
            ended.errback(LinkLost())


class Cable:
    """
    Joins two ``LinkUser``: plug in, settle, pull out, and again.

    ``master`` and ``node`` are the links that the users have at those ends.
    """

    def __init__(self, master: LinkUser, node: LinkUser) -> None:
        self._users = (master, node)
        self.is_up = False

    @property
    def is_closing(self) -> bool:
        """One end closed its link."""
        return self.master.closed is not None or self.node.closed is not None

    def plug(self) -> Cable:
        """Both ends are up; what they say at once waits for ``settle``."""
        assert not self.is_up
        master, node = self._users
        self.is_up = True
        self.master = CableLink(self, decode_to_node, node)
        self.node = CableLink(self, decode_to_master, master)
        self.master_bulk, self.node_bulk = CableBulk(self, node), CableBulk(self, master)
        node.link_up(self.node, self.node_bulk)
        master.link_up(self.master, self.master_bulk)
        return self

    def settle(self) -> None:
        """Deliver until nothing waits; a link that was closed is down then."""
        while self.is_up and not self.is_closing and (self.master.deliver() or self.node.deliver()):
            pass
        if self.is_up and self.is_closing:
            self.pull(self.master.closed or self.node.closed or "")

    def pull(self, reason: str = "the cable was pulled") -> None:
        """Both ends are down, and what was under way is lost."""
        if self.is_up:
            self.is_up = False
            for end in (self.master, self.node):
                end.close(reason)
            for bulk in (self.master_bulk, self.node_bulk):
                bulk.lose()
            for user in self._users:
                user.link_down(reason)


class Peer(RecordingUser):
    """A ``RecordingUser`` of which a test takes the messages bit by bit."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def take(self) -> list[Any]:
        """The messages since the last time."""
        fresh = self.messages[self._taken :]
        self._taken += len(fresh)
        return fresh


async def chunked(*pieces: bytes) -> AsyncIterator[bytes]:
    """Pieces as the source of a stream."""
    for piece in pieces:
        yield piece


async def unthreaded(function: Callable[..., Any], *arguments: Any) -> Any:
    """An ``InThread`` that calls at once."""
    return function(*arguments)
