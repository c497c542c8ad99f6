# SPDX-License-Identifier: MIT
"""An answer that is sent in pieces, as fast as the caller reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pydra.cluster.controller.web.request import ControllerRequest

_STALLED_S: Final = 60.0
"""Seconds for which a caller may read nothing; then the connection is closed."""


@implementer(IPushProducer)
class Download:
    """
    Answers one request with ``size`` bytes; they must come from ``chunks``.

    What ``chunks`` raises ends the connection before the last piece is sent, so the caller never takes half
    an answer, or a damaged one, for the whole.
    """

    def __init__(self, request: ControllerRequest, size: int, chunks: AsyncIterator[bytes]) -> None:
        self._request = request
        self._size = size
        self._chunks = chunks
        self._room: Deferred[None] | None = None
        self._is_blocked = False

    async def send(self) -> None:
        """Send all of it; ends early if the caller goes away."""
        request = self._request
        is_whole = False
        try:
            request.begin(self._size)
            request.registerProducer(self, True)
            left, held = self._size, b""
            if request.method != b"HEAD":
                async for chunk in self._chunks:
                    await self._send(held)
                    held = chunk
                    left -= len(chunk)
                await self._send(held)
            is_whole = not left or request.method == b"HEAD"
        finally:
            if not request.is_gone:
                request.unregisterProducer()
                if is_whole:
                    request.finish()
                else:
                    request.caller.abort()
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()

    async def _send(self, data: bytes) -> None:
        if not data or self._request.is_gone:
            return
        self._request.caller.write(data)
        if self._is_blocked:
            self._room = Deferred()
            self._room.addTimeout(_STALLED_S, self._request.caller.factory.clock)
            await self._room

    # What the transport asks.

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's
        """The caller does not read as fast."""
        self._is_blocked = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's
        """There is room again."""
        self._is_blocked = False
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's
        """The caller is gone."""
        self.resumeProducing()
