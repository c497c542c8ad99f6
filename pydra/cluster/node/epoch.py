# SPDX-License-Identifier: MIT
"""The highest epoch of a master that this node has seen, over all its starts."""

from __future__ import annotations

from pathlib import Path


class EpochFile:
    """
    Refuses masters of the past.

    The file is written when a master starts anew, not on the way of any work.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._highest = int(path.read_text())
        except (FileNotFoundError, ValueError):
            self._highest = 0

    def accept(self, epoch: int) -> bool:
        """True if no higher epoch was seen; a higher one is remembered before this returns."""
        if epoch > self._highest:
            new = self._path.with_suffix(".new")
            new.write_text(str(epoch))
            new.replace(self._path)
            self._highest = epoch
        return epoch == self._highest
