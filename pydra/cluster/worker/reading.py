# SPDX-License-Identifier: MIT
"""
Who reads the channel of a hired worker: the main thread while it waits for units, else a thread beside it.

A unit then reaches the main thread without a change of threads. What the daemon sends while a unit runs (the
flag to stop, results that it asked for, its own end) is read by the other thread, which takes its turn when
the main thread was away for a moment: short units never wake it for each.
"""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

AWAY_S = 0.01
"""How long the main thread may be away before the other one reads."""


class Reading:
    """
    ``take`` waits for a frame and carries it out; one thread at a time calls it.

    ``is_served`` tells whether the main thread, which waits, was given something by that: then the thread
    beside it leaves the next frame to it.
    """

    def __init__(self, take: Callable[[], None], is_served: Callable[[], bool]) -> None:
        self._take = take
        self._is_served = is_served
        self._turn = allocate_lock()
        """Held by the one who reads."""
        self._called = allocate_lock()
        self._pause = allocate_lock()
        self._called.acquire()
        self._pause.acquire()
        self._is_called = False

    def start(self) -> None:
        """The main thread has other things to do at first."""
        start_new_thread(self._read_beside, ())
        self.leave()

    # Of the main thread.

    def read_while(self, is_waiting: Callable[[], bool]) -> bool:
        """Read as long as that is true; or answer False, if the other thread reads."""
        if not self._turn.acquire(False):
            return False
        try:
            while is_waiting():
                self._take()
        finally:
            self._turn.release()
        return True

    def leave(self) -> None:
        """Something else begins; if it takes long, the other thread reads meanwhile."""
        if not self._is_called:
            self._is_called = True
            self._called.release()

    def hurry(self) -> None:
        """What begins now waits for something that has to be read."""
        if self._pause.locked():
            self._pause.release()

    # Of the thread beside it.

    def _read_beside(self) -> None:
        try:
            while True:
                self._called.acquire()
                self._pause.acquire(timeout=AWAY_S)
                self._is_called = False
                if self._turn.acquire(False):
                    self._take()
                    while not self._is_served():
                        self._take()
                    self._turn.release()
        finally:
            os._exit(1)
