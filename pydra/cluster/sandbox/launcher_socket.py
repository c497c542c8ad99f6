# SPDX-License-Identifier: MIT
"""
The daemon's end of the launcher's socket: packets out, with descriptors, and packets in; nothing blocks.
"""

from __future__ import annotations

import errno
import json
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from pydra.cluster.sandbox.descriptors import Descriptor, Reactor
from pydra.cluster.sandbox.launcher import messages
from pydra.cluster.sandbox.launcher.bounds import Bounds

_PACKETS_A_TURN = 64

_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
AGAIN_S = 0.05
"""After a send for which the kernel had no room, of its memory or of descriptors under way."""

Answer = dict[str, Any]
"""An answer of the launcher: JSON, hence Any. The launcher is trusted."""


class LauncherSocket:
    """
    Sends requests in order, and tells the answers one by one to ``answered``.

    ``lost`` is called once when the launcher is gone, unless we closed the socket.
    """

    def __init__(
        self,
        reactor: Reactor,
        launcher: socket.socket,
        answered: Callable[[Answer], None],
        lost: Callable[[], None],
    ) -> None:
        launcher.setblocking(False)
        self._launcher = launcher
        self._reactor = reactor
        self._again: IDelayedCall | None = None
        self._descriptor = Descriptor(reactor, launcher.fileno(), self._receive, self._flush, self._gone)
        self._answered = answered
        self._lost = lost
        self._waiting: deque[tuple[bytes, tuple[socket.socket | int, ...]]] = deque()
        self._closed = False

    def open(self) -> None:
        """Begin to take answers."""
        self._descriptor.read(True)

    def launch(self, number: int, channel: socket.socket, output: int, *, network: bool = False) -> None:
        """Ask for a worker with this channel and output; both are the launcher's from now on."""
        wanted = {"network": True} if network else {}
        self._request(messages.encode(messages.LAUNCH, number, **wanted), channel, output)

    def fill(self, number: int, packages: Sequence[tuple[str, str]], bounds: Bounds | None = None) -> None:
        """Ask for packages, by names and versions, to be put into a worker, and for what it may use."""
        wanted = {"bounds": bounds} if bounds is not None else {}
        self._request(messages.encode(messages.FILL, number, packages=packages, **wanted))

    def live_until(self, number: int, at: float) -> None:
        """Have a worker ended at this time of the boot-time clock; the latest word counts."""
        self._request(messages.encode(messages.UNTIL, number, at=at))

    def kill(self, number: int) -> None:
        """Ask for the end of a worker."""
        self._request(messages.encode(messages.KILL, number))

    def close(self) -> None:
        """Close the socket, which ends the launcher and everything that it started."""
        if self._closed:
            return
        self._closed = True
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._descriptor.forget()
        self._launcher.close()
        while self._waiting:
            _close(self._waiting.popleft()[1])

    def _request(self, packet: bytes, *passed: socket.socket | int) -> None:
        if self._closed:
            _close(passed)
            return
        self._waiting.append((packet, passed))
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            packet, passed = self._waiting[0]
            numbers = [item if isinstance(item, int) else item.fileno() for item in passed]
            try:
                socket.send_fds(self._launcher, [packet], numbers)
            except BlockingIOError:
                break
            except OSError as fault:
                self._descriptor.write(False)
                is_waiting = self._again is not None and self._again.active()
                if fault.errno not in _GONE and not is_waiting:  # else it is gone, which reading tells
                    self._again = self._reactor.callLater(AGAIN_S, self._flush)
                return
            self._waiting.popleft()
            _close(passed)
        self._descriptor.write(bool(self._waiting))

    def _receive(self) -> None:
        for _ in range(_PACKETS_A_TURN):
            if self._closed:
                return
            try:
                packet = self._launcher.recv(messages.PACKET_LIMIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._gone()
                return
            self._answered(json.loads(packet))

    def _gone(self) -> None:
        if not self._closed:
            self.close()
            self._lost()


def _close(passed: tuple[socket.socket | int, ...]) -> None:
    for item in passed:
        socket.close(item if isinstance(item, int) else item.detach())
