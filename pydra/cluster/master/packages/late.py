# SPDX-License-Identifier: MIT
"""Packages whose description took too long: they are described again, for the machine may have been busy."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from pydra.model.ids import PackageName, PackageVersion
from pydra.model.package import PackageDescription

FIRST_S = 15.0
"""Seconds until the first time; each further pause is twice as long."""

TIMES = 5
"""How often a version is described again, at most."""


class _Late(msgspec.Struct, frozen=True):
    """A version that took too long, how often it did, and when it is asked again."""

    version: PackageVersion
    times: int
    again: float


class LatePackages:
    """Knows when which package is to be described again."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._known: dict[PackageName, _Late] = {}

    def described(self, description: PackageDescription) -> None:
        """A package was described, in time or late."""
        before = self._known.pop(description.package, None)
        if description.late:
            times = before.times if before is not None and before.version == description.version else 0
            pause_s = FIRST_S * 2**times if times < TIMES else math.inf
            again = self._seconds() + pause_s
            self._known[description.package] = _Late(description.version, times + 1, again)

    def forget(self, package: PackageName) -> None:
        """It is gone."""
        self._known.pop(package, None)

    def due(self) -> list[PackageName]:
        """The packages for which it is time."""
        now = self._seconds()
        return [package for package, late in self._known.items() if late.again <= now]
