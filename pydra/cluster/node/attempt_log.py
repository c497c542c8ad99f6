# SPDX-License-Identifier: MIT
"""The log of one attempt; in that of a hired worker, lines may be of a unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from pydra.cluster.node.held_log import HeldLog
from pydra.cluster.node.log_delivery import LogDelivery
from pydra.cluster.node.task_log import TaskLog
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import LogLine


class AttemptLog(TaskLog):
    """Its lines go to the delivery; nothing is held before the first."""

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        logs: LogDelivery,
        limit: int,
        attempt: Attempt,
        instance: InstanceId,
        seal: bytes,
    ) -> None:
        super().__init__(clock, wall_clock, self._hand_on, self._end, limit)
        self._logs = logs
        self._names = attempt, instance, seal
        self._held: HeldLog | None = None
        self._unit: tuple[str | None, int | None] = None, None

    def unit_lines(self, rows: object, branch: str, index: int) -> None:
        """Lines of a LOG frame that belong to a unit."""
        self._begin_unit(branch, index)
        super().lines(rows)

    def lines(self, rows: object) -> None:
        """Lines of a LOG frame that are of no unit."""
        self._begin_unit(None, None)
        super().lines(rows)

    def output(self, data: bytes) -> None:
        """Bytes that processes of the worker wrote; whose unit they are of is not known."""
        self._begin_unit(None, None)
        super().output(data)

    def _begin_unit(self, branch: str | None, index: int | None) -> None:
        """What is written from now on is of this unit; a group of lines is of one alone."""
        if self._unit != (branch, index):
            self.flush()
            self._unit = branch, index

    def _hand_on(self, lines: Sequence[LogLine]) -> bool:
        if self._held is None:
            self._held = self._logs.open(*self._names)
        return self._logs.keep(self._held, lines, *self._unit)

    def _end(self) -> None:
        if self._held is not None:
            self._logs.end(self._held)
