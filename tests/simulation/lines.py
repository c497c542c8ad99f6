# SPDX-License-Identifier: MIT
"""Log lines: each is archived once, in order; of a node that was killed the last ones may be missing."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydra.cluster.wire.log_records import records_in, unpack_lines

SAFE_S = 2.0
"""Seconds after which a line is in a file, whatever happens."""


class Lines:
    """What workers wrote, by the name of the worker, and what a kill may have cost of it."""

    def __init__(self) -> None:
        self._written: dict[str, list[str]] = {}
        self._times: dict[str, list[float]] = {}
        self._safe: dict[str, int] = {}
        """Of workers whose node was killed: how many lines it had in files by then, or in the archive."""

    def write(self, worker: str, now: float) -> str:
        """A line that no worker ever wrote."""
        lines = self._written.setdefault(worker, [])
        lines.append(f"{worker} wrote {len(lines)}")
        self._times.setdefault(worker, []).append(now)
        return lines[-1]

    def node_killed(self, workers: Iterable[str], now: float) -> None:
        """These are all the workers that their node had since its start."""
        for worker in workers:
            self._safe[worker] = bisect(self._times.get(worker, []), now - SAFE_S)

    def faults(self, archive: Path) -> Iterator[str]:
        """What is wrong with the archive of the master."""
        archived = [line for path in sorted(archive.glob("*/*.log")) for line in _own(path)]
        found: dict[str, list[str]] = {}
        for line in archived:
            found.setdefault(line.partition(" ")[0], []).append(line)
        for worker, written in self._written.items():
            there = found.get(worker, [])
            if there != written[: len(there)]:
                yield f"lines of {worker} are archived twice, or in another order: {there[:5]}"
            elif len(there) < self._safe.get(worker, len(written)):
                yield f"of {len(written)} lines of {worker} only {len(there)} are archived"


def _own(path: Path) -> Iterator[str]:
    """The texts of a file of records that workers wrote, not the node."""
    for record, _ in records_in(path.read_bytes()):
        yield from (line.text for line in unpack_lines(record.lines) if " wrote " in line.text)
