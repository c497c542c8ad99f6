# SPDX-License-Identifier: MIT
"""Arguments on their way into a worker, in parts, as fast as it reads."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from pydra.cluster.interfaces import WorkerProcess
from pydra.cluster.node.spool import Spool
from pydra.cluster.wire.frames import MORE, PART_SIZE, in_parts

BACKLOG_LIMIT = 8 * 1024 * 1024
"""Bytes that may wait for a worker to read them; more wait in their file."""

LOOK_S = 0.005
"""Seconds after which is looked whether a worker has caught up."""


async def send_arguments(
    clock: IReactorTime, worker: WorkerProcess, data: bytes | Spool, is_ended: Callable[[], bool]
) -> bytes:
    """
    Send all but the last part, which is returned for the RUN itself, once all of them are known to be good.

    `OSError`, and `PydraError` if they are not.
    """
    if isinstance(data, bytes):
        parts, rest = in_parts(MORE, data)
        for part in parts:
            worker.send(part)
        return rest
    async for piece in data.chunks():
        while worker.backlog() > BACKLOG_LIMIT and not is_ended():
            await deferLater(clock, LOOK_S)
        if is_ended():
            break
        view = memoryview(piece)
        for begin in range(0, len(view), PART_SIZE):
            worker.send([MORE, view[begin : begin + PART_SIZE]])
    return b""
