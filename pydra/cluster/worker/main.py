# SPDX-License-Identifier: MIT
"""
The runtime of a worker: it says READY, and then does the one thing that it is sent.

All modules that a run needs are loaded before READY, so that a warm worker starts a task at once; what only a
describe or a validation needs is loaded when it is asked for.
"""

from __future__ import annotations

import os
from time import time  # noqa: TID251 - the worker's clock is made here

from pydra.cluster.wire.frames import DESCRIBE, MORE, PRIME, READY, RUN, SERVE, UNPACK, VALIDATE
from pydra.cluster.wire.payload import SIZE_LIMIT
from pydra.cluster.worker.channel import Channel
from pydra.cluster.worker.runner import Runner

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from typing import NoReturn


def main(channel: int, packages: str) -> NoReturn:
    """
    Serve the daemon at the other end of the descriptor ``channel``, and end the process.

    ``packages`` is the directory below which the package will be mounted.
    """
    line = Channel(channel)
    line.send([READY])
    more = bytearray()
    validations = runner = None
    while (frame := line.receive()) is not None:
        kind = frame[0]
        if kind == MORE:
            more += frame[1]  # type: ignore[arg-type]  # from the daemon that made this process
            if len(more) > SIZE_LIMIT:
                os._exit(2)
        elif kind == RUN:
            (runner or Runner(line, packages, time)).run(frame, more)
        elif kind == SERVE:
            (runner or Runner(line, packages, time)).serve(frame)
        elif kind == PRIME:
            runner = Runner(line, packages, time)
            runner.prime(frame)
        elif kind == DESCRIBE:
            from pydra.cluster.worker.describe import describe_package  # noqa: PLC0415 - a run never needs it

            describe_package(line, packages, frame, time)
        elif kind == UNPACK:
            from pydra.cluster.worker.unpack import unpack_package  # noqa: PLC0415 - a run never needs it

            unpack_package(line, str(frame[1]))
        elif kind == VALIDATE:
            from pydra.cluster.worker.validate import Validations  # noqa: PLC0415 - a run never needs it

            validations = validations or Validations(line, packages)
            validations.validate(frame, bytes(more))
            more.clear()
    os._exit(0)
