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
            readable, writable, _ = select.select(self.readers, self.writers, [], 0)
            if not readable and not writable:
                return
            for reader in readable:
                if reader in self.readers:
                    reader.doRead()
            for writer in writable:
                if writer in self.writers:
                    writer.doWrite()
        raise AssertionError("the descriptors never come to rest")
