# SPDX-License-Identifier: MIT
"""
An uploaded package is unpacked here, inside the sandbox, and told as a plain archive that was checked.

The worker asks for the next piece with WANTED, tells pieces of the archive with PART, and waits for one MORE
after each of both; so nothing piles up on either side.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydra.cluster.packages.archive import Unpacker, pack
from pydra.cluster.packages.upload import Inflater
from pydra.cluster.wire.frames import FAILED, MORE, PART, PART_SIZE, UNPACKED, WANTED
from pydra.errors import PackageRefused
from pydra.model.ids import PackageName

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from typing import NoReturn

    from pydra.cluster.worker.channel import Channel

DIRECTORY = "unpacked"
"""Where it is unpacked, below the working directory."""


def unpack_package(channel: Channel, package: str) -> NoReturn:
    """Answer an UNPACK and end the process."""
    try:
        unpacker = Unpacker(Path(DIRECTORY), PackageName(package), None)
        inflater = Inflater()
        while data := _exchanged(channel, [WANTED]):
            for plain in inflater.feed(data):
                unpacker.write(plain)
        inflater.finish()
        place = unpacker.finish()
        for data in pack(place):
            for start in range(0, len(data), PART_SIZE):
                _exchanged(channel, [PART, data[start : start + PART_SIZE]])
        channel.send([UNPACKED, place.name])
    except PackageRefused as fault:
        channel.send([FAILED, fault.code, str(fault), ""])
    except OSError as fault:
        channel.send([FAILED, "sandbox", f"The package cannot be unpacked: {fault.strerror}.", ""])
    os._exit(0)


def _exchanged(channel: Channel, frame: list[object]) -> bytes:
    """Send a frame; the bytes of the MORE that answers it."""
    channel.send(frame)
    answer = channel.receive()
    if answer is None or answer[0] != MORE:
        os._exit(1)
    return bytes(answer[1])  # type: ignore[call-overload, no-any-return]  # from the daemon that made this process
