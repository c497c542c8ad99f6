# SPDX-License-Identifier: MIT
"""Reading a file one piece ahead of what is being sent of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from twisted.internet.defer import Deferred

Read = Callable[[], Awaitable[bytes]]


async def read_ahead(read: Read) -> AsyncIterator[bytes]:
    """What ``read`` gives until it gives nothing; it is called again while the piece before is being used."""
    coming = Deferred.fromCoroutine(_called(read))
    try:
        while piece := await coming:
            coming = Deferred.fromCoroutine(_called(read))
            yield piece
    finally:
        coming.addErrback(lambda _: None)  # nobody waits for it any more


async def _called(read: Read) -> bytes:
    return await read()
