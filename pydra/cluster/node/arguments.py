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

READ_SIZE = 4 * PART_SIZE


async def send_arguments(
    clock: IReactorTime, worker: WorkerProcess, data: bytes | Spool, is_ended: Callable[[], bool]
) -> bytes:
    """Send all but the last part, which is returned for the RUN itself. `OSError`."""
    if isinstance(data, bytes):
        parts, rest = in_parts(MORE, data)
        for part in parts:
            worker.send(part)
        return rest
    start = 0
    while start < data.size and not is_ended():
        if worker.backlog() > BACKLOG_LIMIT:
            await deferLater(clock, LOOK_S)
            continue
        piece = memoryview(await data.read(start, READ_SIZE))
        if not piece:
            raise OSError("The file of the arguments is shorter than it was.")
        for begin in range(0, len(piece), PART_SIZE):
            worker.send([MORE, piece[begin : begin + PART_SIZE]])
        start += len(piece)
    return b""
