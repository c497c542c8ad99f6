# SPDX-License-Identifier: MIT
"""Which packages a package needs: all of them in order, or a sentence that says why it cannot have them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import msgspec

from pydra.model.ids import PackageName

DEPENDENCIES_LIMIT = 60
"""Packages that one package may depend on, directly or not."""


class Resolved(msgspec.Struct, frozen=True):
    """What a package depends on, the nearest first; nothing, if there is a ``problem``."""

    dependencies: tuple[PackageName, ...] = ()
    problem: str = ""


def resolve(
    package: PackageName,
    depends: Mapping[PackageName, Iterable[str]],
    unusable: Mapping[PackageName, str] = {},
) -> Resolved:
    """
    The dependencies of one package.

    ``depends`` holds, for each package that there is, what it names; ``unusable`` a sentence for each that is
    there and cannot be used.
    """
    found: dict[PackageName, PackageName] = {}
    """Each package that is reached, and the one that named it first."""
    waiting = deque([package])
    while waiting:
        current = waiting.popleft()
        for name in map(PackageName, depends[current]):
            if name in found:
                continue
            found[name] = current
            if name not in depends:
                return Resolved(problem=_missing(package, name, found, unusable))
            if name != package:
                waiting.append(name)
    if cycle := _cycle(package, depends):
        return Resolved(problem=cycle)
    if len(found) > DEPENDENCIES_LIMIT:
        return Resolved(problem=f"It depends on {len(found)} packages; the limit is {DEPENDENCIES_LIMIT}.")
    return Resolved(tuple(found))


def _missing(
    package: PackageName,
    name: PackageName,
    named_by: Mapping[PackageName, PackageName],
    unusable: Mapping[PackageName, str],
) -> str:
    way = [name]
    while way[-1] != package:
        way.append(named_by[way[-1]])
    way.reverse()
    why = f"{name} cannot be used: {unusable[name]}" if name in unusable else f"there is no package {name}."
    return f"{_chain(way)}, and {why}"


def _cycle(package: PackageName, depends: Mapping[PackageName, Iterable[str]]) -> str:
    """The first cycle that is reached from the package, in words; empty if there is none."""
    reached: dict[PackageName, list[PackageName]] = {}
    waiting = [package]
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached[current] = [PackageName(name) for name in depends[current]]
            waiting += reached[current]
    try:
        TopologicalSorter(reached).prepare()
    except CycleError as fault:
        # It lists each before what depends on it, and the first again as the last.
        return f"Packages depend on each other: {_chain(list(reversed(fault.args[1])))}."
    return ""


def _chain(names: list[PackageName]) -> str:
    return ", ".join(f"{one} depends on {other}" for one, other in pairwise(names))
