# SPDX-License-Identifier: MIT
"""What the launcher says to its daemon: in order, and never waiting for it."""

from __future__ import annotations

import selectors
import socket
from collections import deque

from pydra.cluster.sandbox.launcher import messages

_LIMIT = 1024
"""Answers waiting for the daemon above which it is not read."""


class Answers:
    """Sends what the socket takes, and the rest when the selector says that it can be written to."""

    def __init__(self, control: socket.socket, selector: selectors.BaseSelector) -> None:
        self._control = control
        self._selector = selector
        self._waiting: deque[bytes] = deque()
        self._is_closed = False
        selector.register(control, selectors.EVENT_READ)

    def put(self, what: str, number: int, **details: str | int) -> None:
        """Say this."""
        if not self._is_closed:
            self._waiting.append(messages.encode(what, number, **details))
            self.flush()

    def flush(self) -> None:
        """Send what can be sent, and have the daemon read unless too much is left."""
        while self._waiting:
            try:
                self._control.send(self._waiting[0])
            except BlockingIOError:
                break
            except OSError:
                self._waiting.clear()  # the daemon is gone, which reading will tell
                break
            self._waiting.popleft()
        events = selectors.EVENT_WRITE if self._waiting else 0
        if len(self._waiting) < _LIMIT:
            events |= selectors.EVENT_READ
        if events != self._selector.get_key(self._control).events:
            self._selector.modify(self._control, events)

    def close(self) -> None:
        """The daemon is gone: nobody hears what is said from now on."""
        self._is_closed = True
        self._waiting.clear()
        self._selector.unregister(self._control)
        self._control.close()
