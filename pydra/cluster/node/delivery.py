# SPDX-License-Identifier: MIT
"""
What attempts of this node tell the master: in order for each attempt, large parts before what names them.

Nothing is kept here: whoever sends keeps what matters, and sends it again on a new link. A link that is far
behind is given more only when it has caught up, so that even a gigabyte does not break it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import Bulk, Link
from pydra.cluster.node.ahead import Ahead
from pydra.cluster.wire.messages import ToMaster
from pydra.errors import LinkLost, RemoteFault
from pydra.model.ids import Attempt

BACKLOG_LIMIT = 16 * 1024 * 1024
"""Bytes that may wait in a link."""

LOOK_S = 0.02
"""Seconds after which is looked whether a link has caught up."""

BLOB_CHUNK = 64 * 1024


Spoilt = Callable[[str], bool]
"""
Told why a blob cannot be read, which it never can then; whoever sent the message that names it has something
else to tell. False if that is for a new link.
"""


class NotNeeded(Exception):
    """Nobody needs this blob any more."""


@attrs.define(eq=False)
class Blob:
    """
    Something too large to travel inline; ``chunks`` begins to read it, each time anew.

    It may have gone ``ahead``.
    """

    digest: str
    chunks: Callable[[], AsyncIterator[bytes]]
    ahead: Ahead | None = None
    is_sound: bool = False
    """It was read once more, after the master had refused it, and is what was written."""


class _Waiting(NamedTuple):
    source: Attempt
    message: ToMaster
    blobs: Sequence[Blob]
    spoilt: Spoilt | None


class Delivery:
    """Sends on the link that is open, if one is."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._link: Link | None = None
        self._bulk: Bulk | None = None
        self._waiting: deque[_Waiting] = deque()
        """What the link has no room for."""
        self._chains: dict[Attempt, deque[_Waiting]] = {}
        """What waits for a blob that is under way, by source."""
        self._look: IDelayedCall | None = None
        self._ahead: Ahead | None = None
        """Of one at a time: it takes as long as its worker, and the master takes no second one."""

    def open(self, link: Link, bulk: Bulk) -> None:
        """There is a master that takes what is sent from now on."""
        self._link, self._bulk = link, bulk

    def close(self) -> None:
        """There is none any more; what was not sent is dropped."""
        self._link = self._bulk = None
        self._waiting.clear()
        self._chains.clear()
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._look = None

    def send(
        self, source: Attempt, message: ToMaster, blobs: Sequence[Blob] = (), spoilt: Spoilt | None = None
    ) -> bool:
        """Send after all that the same source sent before; False, and nothing is done, without a link."""
        if self._link is None:
            return False
        waiting = _Waiting(source, message, blobs, spoilt)
        if self._waiting or self._link.backlog() > BACKLOG_LIMIT:
            self._waiting.append(waiting)
            self._look_later()
        else:
            self._send(waiting)
        return True

    def send_ahead(self, chunks: AsyncIterator[bytes]) -> Ahead | None:
        """Send a blob while it comes, if there is a link and no other goes ahead."""
        if self._link is None or self._bulk is None or (self._ahead is not None and not self._ahead.is_over):
            return None
        self._ahead = Ahead(self._link, self._bulk, chunks)
        return self._ahead

    def _send(self, waiting: _Waiting) -> None:
        source = waiting.source
        chain = self._chains.get(source)
        if chain is not None:
            chain.append(waiting)
        elif waiting.blobs:
            self._chains[source] = chain = deque([waiting])
            drained = Deferred.fromCoroutine(self._drain(source, chain))
            drained.addErrback(self._failed)
        elif self._link is not None:
            self._link.send(waiting.message)

    def _look_later(self) -> None:
        if self._look is None:
            self._look = self._clock.callLater(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        while self._waiting and self._link is not None:
            if self._link.backlog() > BACKLOG_LIMIT:
                self._look_later()
                return
            self._send(self._waiting.popleft())

    async def _drain(self, source: Attempt, chain: deque[_Waiting]) -> None:
        """Send one after the other what one source sent; ends with the link."""
        link, bulk = self._link, self._bulk
        if link is None or bulk is None:
            return
        while chain:
            _, message, blobs, spoilt = chain[0]
            try:
                for blob in blobs:
                    await _bring(link, bulk, blob, may_be_spoilt=spoilt is not None)
                    if self._link is not link:
                        return
                link.send(message)
            except LinkLost:
                return
            except NotNeeded:
                pass  # so what names it is not needed either
            except OSError as fault:
                if self._link is not link:
                    return
                if spoilt is None or not spoilt(str(fault)):
                    link.close("a blob could not be read")
                    return
            except RemoteFault as fault:
                # The master cannot take it now (its disk may be full): the next link brings it again.
                self.log.warn("The master refused a blob: {fault}", fault=str(fault))
                link.close("a blob was refused")
                return
            if self._link is not link:
                return
            chain.popleft()
        del self._chains[source]

    def _failed(self, fault: object) -> None:
        self.log.error("What was to be told could not be sent: {fault}", fault=fault)
        if self._link is not None:
            self._link.close("a blob could not be read")


async def _bring(link: Link, bulk: Bulk, blob: Blob, *, may_be_spoilt: bool) -> None:
    """Have the master take a blob; `OSError` if it is not there any more as it was written."""
    if blob.ahead is not None and await blob.ahead.came_over(link):
        return
    try:
        await bulk.send("blob", blob.digest, blob.chunks())
    except RemoteFault:
        if blob.is_sound or not may_be_spoilt:
            raise  # each link tries again: while the master's disk is full, reading would be all that is done
        digest = hashlib.sha256()
        async for piece in blob.chunks():
            digest.update(piece)
        if digest.hexdigest() != blob.digest:
            raise OSError("it is not what was written") from None
        blob.is_sound = True
        raise


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """Bytes in memory as the source of a stream."""
    for start in range(0, len(data), BLOB_CHUNK):
        yield data[start : start + BLOB_CHUNK]
