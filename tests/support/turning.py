# SPDX-License-Identifier: MIT
"""A reactor without time of its own: descriptors are looked at, and time passes, when a test says so."""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.task import Clock


class TurningClock(Clock):
    """A `Clock` that watches descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.writers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """Watch for reading."""
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """Watch no longer for reading."""
        if reader in self.readers:
            self.readers.remove(reader)

    def addWriter(self, writer: Any) -> None:
        """Watch for writing."""
        if writer not in self.writers:
            self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        """Watch no longer for writing."""
        if writer in self.writers:
            self.writers.remove(writer)

    def turn(self) -> None:
        """Tell every descriptor that has something, until none has; nothing is waited for."""
        for _ in range(1000):
            poll = select.poll()  # select itself knows no descriptor above 1023
            watched = {each.fileno(): each for each in (*self.readers, *self.writers)}
            for number, each in watched.items():
                poll.register(
                    number, select.POLLIN * (each in self.readers) | select.POLLOUT * (each in self.writers)
                )
            ready = [(watched[number], events) for number, events in poll.poll(0)]
            if not ready:
                return
            for each, events in ready:
                if events & ~select.POLLOUT and each in self.readers:
                    each.doRead()
            for each, events in ready:
                if events & ~select.POLLIN and each in self.writers:
                    each.doWrite()
        raise AssertionError("the descriptors never come to rest")
