# SPDX-License-Identifier: MIT
"""How long a task had run when it reached a limit, in words."""

from __future__ import annotations

_UNITS = ((86_400, 172_800, "day"), (3600, 7200, "hour"), (60, 120, "minute"), (1, 1, "second"))
"""Seconds of a unit, seconds from which on it is used, and its name."""


def after(words: str, seconds: float) -> str:
    """``memory limit of 256 MiB reached after 63 minutes``."""
    return f"{words.rstrip('.')} after {duration(seconds)}"


def is_reached(words: str) -> bool:
    """True of what was used up in time; what is too large was so from the beginning."""
    return words.endswith(" reached") and " failed: " not in words  # a unit's time is not that of its task


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has at least two, whole ones."""
    for size, least, name in _UNITS:
        if seconds >= least:
            count = int(seconds // size)
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "less than a second"
