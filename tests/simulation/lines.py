# SPDX-License-Identifier: MIT
"""Log lines: each is archived once, in order; of a node that was killed the last ones may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydra.cluster.wire.log_records import records_in, unpack_lines


class Lines:
    """What workers wrote, by the name of the worker, and what a kill may have cost of it."""

    def __init__(self) -> None:
        self._written: dict[str, list[str]] = {}
        self._safe: dict[str, int] = {}
        """Of workers whose node was killed: how many lines were in its files."""

    def write(self, worker: str) -> str:
        """A line that no worker ever wrote."""
        lines = self._written.setdefault(worker, [])
        lines.append(f"{worker} wrote {len(lines)}")
        return lines[-1]

    def node_killed(self, files: Path, workers: list[str]) -> None:
        """These workers ended with their node, which has these files."""
        self._safe |= dict.fromkeys(workers, 0)
        for path in files.iterdir():
            self._safe[path.name.partition("-")[0]] = len(list(_own(path)))

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
