# SPDX-License-Identifier: MIT
"""
An uploaded package on its way into the repository: its bytes go into a sandbox, and its archive comes out.

What comes out is checked once more as it is written, like an archive that another daemon sends: a sandbox
that is not what it was cannot write anything but files of a package.
"""

from __future__ import annotations

from collections import deque
from typing import IO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pydra.cluster.interfaces import InThread, WorkerExit, Workers
from pydra.cluster.packages.archive import Unpacker
from pydra.cluster.packages.repository import Repository
from pydra.cluster.wire import frames
from pydra.errors import LimitExceeded, PackageRefused, PydraError, WireError, WorkerDied
from pydra.model.ids import PackageName, PackageVersion

UNPACK_S = 60.0
"""Seconds that unpacking may take."""

PIECE = 256 * 1024
"""Bytes that a sandbox is given at a time."""

TEXT_LIMIT = 1024

_HELD_LIMIT = 8
"""Frames that may wait here; a worker that follows the protocol sends one at a time."""


class _Frames:
    """The frames of one worker, one after another."""

    def __init__(self) -> None:
        self._held: deque[list[object]] = deque()
        self._fault: PydraError | None = None
        self._waiting: Deferred[None] | None = None

    async def next(self) -> list[object]:
        """The next frame; raises what ended the worker when there are no more."""
        while not self._held:
            if self._fault is not None:
                raise self._fault
            self._waiting = Deferred()
            await self._waiting
        return self._held.popleft()

    def fail(self, fault: PydraError) -> None:
        """No more frames come; the first reason is told."""
        self._fault = self._fault or fault
        self._wake()

    def frame_received(self, frame: list[object]) -> None:
        """Keep it until it is asked for."""
        self._held.append(frame)
        if len(self._held) > _HELD_LIMIT:
            self._held.clear()
            self.fail(WireError("The sandbox broke the protocol."))
        self._wake()

    def output_received(self, data: bytes) -> None:
        """It has nothing to say."""

    def exited(self, ending: WorkerExit) -> None:
        """The worker is gone."""
        self.fail(WorkerDied(f"The sandbox ended while it unpacked the package: {ending.reason}."))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class Unpacking:
    """Unpacks uploaded packages in sandboxes of ``workers``."""

    def __init__(
        self, clock: IReactorTime, workers: Workers, repository: Repository, in_thread: InThread
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._repository = repository
        self._in_thread = in_thread

    async def unpack(self, package: PackageName, packed: IO[bytes]) -> PackageVersion:
        """
        Put the package whose compressed archive is in a file into the repository; its version.

        `PackageRefused` if it is no package that may be uploaded; `WorkerDied`, `LimitExceeded`, `WireError`
        and `SandboxError` if it could not be unpacked.
        """
        unpacker: Unpacker = await self._in_thread(Unpacker, self._repository.root, package, None)
        received = _Frames()
        timer = self._clock.callLater(
            UNPACK_S, received.fail, LimitExceeded(f"Unpacking took longer than {UNPACK_S:g} s.")
        )
        try:
            worker = await self._workers.take(received, None, None)
            try:
                worker.send([frames.UNPACK, package])
                while True:
                    match await received.next():
                        case [frames.WANTED]:
                            worker.send([frames.MORE, await self._in_thread(packed.read, PIECE)])
                        case [frames.PART, bytes() as piece]:
                            await self._in_thread(unpacker.write, piece)
                            worker.send([frames.MORE, b""])
                        case [frames.UNPACKED, str()]:
                            place = await self._in_thread(unpacker.finish)
                            return PackageVersion(place.name)
                        case [frames.FAILED, PackageRefused.code, str() as text, str()]:
                            raise PackageRefused(text[:TEXT_LIMIT])
                        case [frames.FAILED, str(), str() as text, str()]:
                            raise WorkerDied(text[:TEXT_LIMIT])
                        case _:
                            raise WireError("The sandbox broke the protocol.")
            finally:
                worker.kill()
        finally:
            if timer.active():
                timer.cancel()
            await self._in_thread(unpacker.abort)
