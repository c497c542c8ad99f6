# SPDX-License-Identifier: MIT
"""
META: what a package says of itself, in lines of ``key = value`` or in YAML.

``description`` is for people; ``Depends`` (``Dependency`` and ``Dependencies`` too) names other packages;
``requirements`` names what pip should install. Everything is optional. Keys are read in any case. What is
said under other keys is handed on as it is, and what cannot be read is told in words instead of hiding the
package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import msgspec
import yaml

from pydra.cluster.packages.content import name_problem

FILE = "META"

SIZE_LIMIT = 64 * 1024
"""Bytes of a META file."""

VALUES_LIMIT = 1000
"""Single values that the other keys may hold together."""

DEPTH_LIMIT = 8
"""How deep lists and maps in the value of another key may be nested."""

_DEPENDS = ("depends", "dependency", "dependencies")
_REQUIREMENTS = ("requirements", "requires")

_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    r"(?:\[[A-Za-z0-9._-]+(?:,[A-Za-z0-9._-]+)*\])?"
    r"(?:(?:===?|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!_-]+(?:,(?:===?|>=|<=|~=|!=|<|>)[A-Za-z0-9.*+!_-]+)*)?"
)
"""A name, its extras and the versions that will do. No addresses, files, options or markers."""

_REQUIREMENT_LENGTH = 200

_UNREADABLE = (
    yaml.YAMLError,
    RecursionError,
    ArithmeticError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
)
"""What PyYAML raises on a value that is not what its tag says; its own errors are the first only."""

Entry = tuple[object, object]
"""A key and its value, as they stand in the file."""


class Manifest(msgspec.Struct, frozen=True):
    """What META says; ``errors`` are sentences for the author."""

    description: str = ""
    depends: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    """Names with versions, as pip reads them, without spaces."""
    values: Mapping[str, object] = {}
    """
    What stands under all other keys, which are in lower case. In lines it is text; in YAML it may be text,
    a number, a truth value, None, a date, or a list or a map (with keys of text) of these.
    """
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
    requirements: list[str] = []
    values: dict[str, object] = {}
    for key, value in entries:
        name = key.strip().lower() if isinstance(key, str) else ""
        if name == "description":
            if isinstance(value, str):
                description = value.strip()
            elif value is not None:
                errors.append("META: the description is not text.")
        elif name in _DEPENDS:
            depends += _package_names(value, errors)
        elif name in _REQUIREMENTS:
            requirements += _requirements(value, errors)
        elif not name:
            errors.append("META: a key is not text.")
        elif name in values:
            errors.append(f"META: {name:.100} is said twice.")
        else:
            values[name] = value
    return Manifest(
        description,
        tuple(dict.fromkeys(depends)),
        tuple(dict.fromkeys(requirements)),
        _plain_values(values, errors),
        tuple(errors),
    )


def _looks_like_yaml(text: str) -> bool:
    """True unless the first line that says something is ``key = value``."""
    for line in text.splitlines():
        said = line.strip()
        if said and not said.startswith(("#", "---", "[")):
            before, equals, _ = said.partition("=")
            return not equals or ":" in before
    return False


def _lines(text: str, errors: list[str]) -> list[Entry]:
    entries: list[Entry] = []
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
        entries.append((key.strip(), value))
    return entries


def _yaml(text: str, errors: list[str]) -> list[Entry]:
    """The entries of the outermost map, those that have the same key too."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            return []
        if not isinstance(node, yaml.MappingNode):
            errors.append("META: this is no map of keys to values.")
            return []
        return [
            (loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
            for key, value in node.value
        ]
    except _UNREADABLE as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        errors.append(f"META{where}: this is neither key = value nor YAML.")
        return []


def _package_names(value: object, errors: list[str]) -> list[str]:
    """The packages in a value: a text of names between commas or spaces, or a list."""
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    names: list[str] = []
    for one in _texts(value, "the dependencies are no list of names", "a dependency is not a name", errors):
        if name_problem(one) is None:
            names.append(one)
        else:
            errors.append(f"META: {one!r:.100} is no name of a package.")
    return names


def _requirements(value: object, errors: list[str]) -> list[str]:
    """
    The requirements in a value: a list, or a text of them between spaces, or between commas and spaces.

    A text leaves no spaces within one of them; a list may.
    """
    if isinstance(value, str):
        value = [one.strip(",") for one in value.split() if one.strip(",")]
    wanted: list[str] = []
    for one in _texts(value, "the requirements are no list", "a requirement is not text", errors):
        said = re.sub(r"\s+", "", one)
        if is_requirement(said):
            wanted.append(said)
        else:
            errors.append(f"META: {one!r:.100} is no requirement; write it as name, or name==1.2.")
    return wanted


def is_requirement(text: str) -> bool:
    """True for a name with versions, and nothing else that pip would read in another way."""
    return len(text) <= _REQUIREMENT_LENGTH and _REQUIREMENT.fullmatch(text) is not None


def _texts(value: object, no_list: str, no_text: str, errors: list[str]) -> Iterable[str]:
    """The texts in a list; what else there is becomes an error."""
    if value is None:
        return
    if not isinstance(value, list):
        errors.append(f"META: {no_list}.")
        return
    for one in value:
        if isinstance(one, str):
            yield one
        else:
            errors.append(f"META: {no_text}.")


def _plain_values(values: dict[str, object], errors: list[str]) -> dict[str, object]:
    """The values without those that are too deep or too many, or hold keys that are no text."""
    kept: dict[str, object] = {}
    budget = VALUES_LIMIT
    for name, value in values.items():
        budget -= _count(value, DEPTH_LIMIT, budget)
        if budget < 0:
            errors.append(f"META: the value of {name:.100} cannot be used: it is too large or too deep.")
            break
        kept[name] = value
    return kept


def _count(value: object, depth: int, budget: int) -> int:
    """How many single values there are in it; more than the budget if it is not plain."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return budget + 1
        value = list(value.values())
    if not isinstance(value, list):
        small = not isinstance(value, int) or -(2**63) <= value < 2**63
        plain = value is None or isinstance(value, (str, int, float, date))
        return 1 if small and plain else budget + 1
    total = 1
    for one in value:
        if depth == 0 or total > budget:
            return budget + 1
        total += _count(one, depth - 1, budget - total)
    return total
