# SPDX-License-Identifier: MIT
"""The launcher's end of the socket, played by a test: it sees the requests and says the answers."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Callable
from typing import Any

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox.priming import NOTHING, Budget
from pydra.cluster.sandbox.site_limits import SiteLimits
from pydra.cluster.sandbox.warm_pool import WarmPool
from pydra.cluster.wire.frames import READY, FrameReader, encode
from tests.support.turning import TurningClock


class Worker:
    """A worker played by a test: its end of channel and output."""

    def __init__(self, channel: int, output: int) -> None:
        self.channel = socket.socket(fileno=channel)
        self.channel.setblocking(False)
        self.output = output
        self.reader = FrameReader()

    def say(self, *frame: object) -> None:
        """Send a frame."""
        self.channel.sendall(encode(list(frame)))

    def heard(self) -> list[list[object]]:
        """The frames that it was sent."""
        frames: list[list[object]] = []
        while True:
            try:
                data = self.channel.recv(65536)
            except BlockingIOError:
                return frames
            if not data:
                return frames
            frames += self.reader.feed(data)

    def close(self) -> None:
        """Close both ends."""
        self.channel.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


class Listener:
    """Keeps what a worker's listener is told, in order."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def frame_received(self, frame: list[object]) -> None:
        """Keep it."""
        self.told.append(frame)

    def output_received(self, data: bytes) -> None:
        """Keep it."""
        self.told.append(data)

    def exited(self, ending: WorkerExit) -> None:
        """Keep it."""
        self.told.append(ending)


class ScriptedLauncher:
    """A pool with a launcher that does only what the test says."""

    def __init__(self, size: int, limits: SiteLimits | None = None, primed: Budget = NOTHING) -> None:
        ours, self.control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        self.clock = TurningClock()
        self.lost: Callable[[], None] = lambda: None
        self.pool = WarmPool(self.clock, ours, size, limits, self._lost, primed)
        self.on_request: Callable[[dict[str, Any]], None] = lambda request: None
        """Told each request, whole."""
        self.workers: dict[int, Worker] = {}
        self.seen: list[tuple[str, int]] = []

    def _lost(self) -> None:
        self.lost()

    def turn(self) -> list[tuple[str, int]]:
        """Let everything that can happen happen; the requests since the last time, as (what, id)."""
        self.clock.turn()
        while self._request():
            self.clock.turn()
        seen, self.seen = self.seen, []
        return seen

    def _request(self) -> bool:
        try:
            packet, ancillary, _, _ = self.control.recvmsg(65536, 1024, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, ConnectionError):
            return False
        if not packet:
            return False
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        request: dict[str, Any] = json.loads(packet)
        if request["what"] == "launch":
            self.workers[request["id"]] = Worker(*descriptors)
        self.on_request(request)
        self.seen.append((request["what"], request["id"]))
        return True

    def answer(self, what: str, number: int, **details: object) -> None:
        """Say an answer and let it be heard."""
        self.control.send(json.dumps({"what": what, "id": number, **details}).encode())
        self.clock.turn()

    def ready(self, *numbers: int) -> None:
        """These workers say READY."""
        for number in numbers:
            self.workers[number].say(READY)
        self.clock.turn()

    def exit(self, number: int, status: int = 137, limit: str = "") -> None:
        """A worker is gone."""
        self.workers.pop(number).close()
        self.answer("exited", number, status=status, limit=limit)

    def close(self) -> None:
        """Leave no descriptor and no timer behind."""
        self.control.close()
        self.clock.turn()
        for worker in self.workers.values():
            worker.close()
        assert [] == self.clock.readers
        assert [] == self.clock.writers
        assert [] == self.clock.getDelayedCalls()
