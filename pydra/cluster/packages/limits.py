# SPDX-License-Identifier: MIT
"""
What META says of limits: ``memory`` and ``scratch`` (``512 MiB``, ``2G``; a plain number is MiB),
``processes``, ``cpu`` (cores), ``network`` (true or false) and ``isolation`` (``full``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from pydra.model.package import TaskLimits

SMALLEST_MEMORY = 32 * 1024**2
"""Bytes; an interpreter with less does not get far."""

LARGEST = 1 << 50
"""Bytes above which a size is taken for a mistake."""

_UNITS = {"": 1024**2, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def limits_of(values: Mapping[str, object], errors: list[str]) -> TaskLimits:
    """
    The limits among the values of META (keys in lower case); what is none is told in ``errors``, and is not
    there.
    """
    found: dict[str, object] = {}
    for key, (field, read, allowed) in _READERS.items():
        if key not in values:
            continue
        value = read(values[key])
        if value is None:
            errors.append(f"META: {key} is {_shown(values[key])}; it must be {allowed}.")
        else:
            found[field] = value
    return TaskLimits(**found)  # type: ignore[arg-type]  # each reader gives what its field takes


def size_of(value: object, least: int = 0) -> int | None:
    """The bytes of a size such as ``512 MiB`` or ``2G``, or of a number of MiB; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        return None
    size = int(float(match[1]) * _UNITS[(match[2] or "").upper()])
    return size if least <= size <= LARGEST else None


def _memory(value: object) -> int | None:
    return size_of(value, SMALLEST_MEMORY)


def _scratch(value: object) -> int | None:
    return size_of(value, 1024**2)


def _processes(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) and 1 <= number <= 1_000_000 else None


def _cpus(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0.01 <= number <= 4096 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _network(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else None


def _isolation(value: object) -> str | None:
    return "full" if isinstance(value, str) and value.strip().lower() == "full" else None


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."


_READERS: dict[str, tuple[str, Callable[[object], object], str]] = {
    "memory": ("memory", _memory, "a size such as 512 MiB or 2 GiB, from 32 MiB on"),
    "scratch": ("scratch", _scratch, "a size such as 512 MiB or 2 GiB, from 1 MiB on"),
    "processes": ("processes", _processes, "a number of processes, from 1 on"),
    "cpu": ("cpus", _cpus, "a number of cores, from 0.01 on"),
    "network": ("network", _network, "true or false"),
    "isolation": ("isolation", _isolation, "full"),
}

KEYS = frozenset(_READERS)
"""Keys of META that are limits."""
