# SPDX-License-Identifier: MIT
"""The delivery of log lines without a link and without a thread, on a clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.node.held_log import HeldLog
from pydra.cluster.node.log_delivery import LogDelivery
from pydra.cluster.wire.log_records import unpack_lines
from pydra.cluster.wire.messages import ToMaster, UnitLog
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine
from tests.support.pumps import result_of

FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)
ONE = InstanceId(1)
SEAL = b"\x0a" * 16


class DeliveryBench:
    """
    A delivery; ``sent`` lists what was sent while ``is_linked``.

    While ``is_slow``, calls of the thread wait for ``work``; while ``fault`` is set, they fail.
    """

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.directory = directory / "task_logs"
        self.sent: list[UnitLog] = []
        self.is_linked = True
        self.is_slow = False
        self.fault: OSError | None = None
        self.calls: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.start()

    def start(self) -> None:
        """A daemon begins."""
        self.delivery = LogDelivery(self.clock, self.directory, self.in_thread, self.tell)
        result_of(Deferred.fromCoroutine(self.delivery.load()))

    def restart(self) -> None:
        """The daemon is killed, and another one begins."""
        self.delivery.halt()
        self.start()

    def tell(self, message: ToMaster) -> bool:
        """The link to the master."""
        assert isinstance(message, UnitLog)
        if self.is_linked:
            self.sent.append(message)
        return self.is_linked

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The thread for files."""
        if self.is_slow:
            waiting: Deferred[None] = Deferred()
            self.calls.append((waiting, function, arguments))
            await waiting
        if self.fault is not None:
            raise self.fault
        return function(*arguments)

    def work(self) -> None:
        """The thread does what waits."""
        while self.calls:
            self.calls.pop(0)[0].callback(None)

    def open(self, attempt: Attempt = FIRST) -> HeldLog:
        """A log."""
        return self.delivery.open(attempt, ONE, SEAL)

    def keep(self, log: HeldLog, *texts: str) -> bool:
        """Lines come."""
        return self.delivery.keep(log, [LogLine(5.0, "INFO", "log", text) for text in texts])

    def take(self) -> list[tuple[int, list[str]]]:
        """What was sent since the last time: first line and texts of each record."""
        sent, self.sent = self.sent, []
        return [
            (message.record.first, [line.text for line in unpack_lines(message.record.lines)])
            for message in sent
        ]

    def stored(self, lines: int, attempt: Attempt = FIRST) -> None:
        """The master acknowledges."""
        self.delivery.stored(attempt, lines, is_wanted=True)

    def files(self) -> list[str]:
        """The names of all files."""
        return sorted(path.name for path in self.directory.iterdir())
