# SPDX-License-Identifier: MIT
"""Parallel tasks whose results are easily foretold."""

from __future__ import annotations

from typing import Any

from pydra.cluster.tasks import ParallelTask, Task


class Double(Task):
    """Fails for what it is told to fail for."""

    def __init__(self, bad: object = None) -> None:
        self.bad = bad

    def work(self, data: Any) -> Any:  # type: ignore[override]
        if data == self.bad:
            raise ValueError(f"{data} is bad")
        return data * 2


class Doubles(ParallelTask):
    """Doubles each item, and returns all that it was told."""

    datasource: Any = range(5)

    def __init__(self, bad: object = None) -> None:
        self.set_subtask(Double, bad)
        self.found: dict[Any, Any] = {}

    def work_unit_complete(self, data: Any, results: Any) -> None:
        self.found[data] = results

    def work_complete(self) -> Any:
        return self.found


class Echo(Task):
    def work(self, data: object = None) -> object:  # type: ignore[override]
        return data


class Echoes(ParallelTask):
    """Returns what each unit returned, in order."""

    def __init__(self) -> None:
        self.set_subtask(Echo)
        self.found: list[Any] = []

    def work_unit_complete(self, data: Any, results: Any) -> None:
        self.found.append(results)

    def work_complete(self) -> Any:
        return self.found


def echoes(datasource: Any) -> Echoes:
    made = Echoes()
    made.datasource = datasource
    return made
