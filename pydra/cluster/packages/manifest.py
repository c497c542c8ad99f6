# SPDX-License-Identifier: MIT
"""
META: what a package says of itself, in lines of ``key = value`` or in YAML.

``description`` is for people; ``Depends`` (``Dependency`` and ``Dependencies`` too) names other packages.
Everything is optional, unknown keys are left alone, and what cannot be read is told in words instead of
hiding the package.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from pydra.cluster.packages.content import name_problem

FILE = "META"

SIZE_LIMIT = 64 * 1024
"""Bytes of a META file."""

_DEPENDS = ("depends", "dependency", "dependencies")


class Manifest(msgspec.Struct, frozen=True):
    """What META says; ``errors`` are sentences for the author."""

    description: str = ""
    depends: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the package in ``directory``; an empty one if it has none."""
    try:
        with (directory / FILE).open("rb") as source:
            data = source.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return Manifest()
    except OSError as fault:
        return Manifest(errors=(f"META cannot be read: {fault.strerror}.",))
    if len(data) > SIZE_LIMIT:
        return Manifest(errors=(f"META is larger than {SIZE_LIMIT // 1024} KiB.",))
    try:
        return parse_manifest(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Manifest(errors=("META is not UTF-8.",))


def parse_manifest(text: str) -> Manifest:
    """The manifest in a text, whatever the text is."""
    errors: list[str] = []
    entries = _yaml(text, errors) if _looks_like_yaml(text) else _lines(text, errors)
    description = ""
    depends: list[str] = []
    for key, value in entries.items():
        name = key.strip().lower() if isinstance(key, str) else ""
        if name == "description":
            if isinstance(value, str):
                description = value.strip()
            elif value is not None:
                errors.append("META: the description is not text.")
        elif name in _DEPENDS:
            depends += [one for one in _names(value, errors) if one not in depends]
    return Manifest(description, tuple(depends), tuple(errors))


def _looks_like_yaml(text: str) -> bool:
    """True unless the first line that says something is ``key = value``."""
    for line in text.splitlines():
        said = line.strip()
        if said and not said.startswith(("#", "---", "[")):
            before, equals, _ = said.partition("=")
            return not equals or ":" in before
    return False


def _lines(text: str, errors: list[str]) -> dict[object, object]:
    entries: dict[object, object] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        if not said or said.startswith(("#", "---", "[")):
            continue
        key, equals, value = said.partition("=")
        if not equals:
            errors.append(f"META, line {number}: this is not key = value.")
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        entries[key.strip()] = value
    return entries


def _yaml(text: str, errors: list[str]) -> dict[object, object]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        errors.append(f"META{where}: this is neither key = value nor YAML.")
        return {}
    if found is None:
        return {}
    if not isinstance(found, dict):
        errors.append("META: this is no map of keys to values.")
        return {}
    return found


def _names(value: object, errors: list[str]) -> list[str]:
    """The packages in a value: a text of names between commas or spaces, or a list."""
    if value is None:
        return []
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, list):
        errors.append("META: the dependencies are no list of names.")
        return []
    names: list[str] = []
    for one in value:
        if isinstance(one, str) and name_problem(one) is None:
            names.append(one)
        else:
            errors.append(
                f"META: {one!r:.100} is no name of a package."
                if isinstance(one, str)
                else "META: a dependency is not a name."
            )
    return names
