# SPDX-License-Identifier: MIT
"""
Looks at a package before it is deployed, without importing it: rules for files, META, syntax, names.

What it finds keeps some or all of the package from working (an error), or is probably not meant (a warning).
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pydra.cluster.packages.content import find_files, name_problem
from pydra.cluster.packages.limits import KEYS, limits_of
from pydra.cluster.packages.manifest import FILE as MANIFEST
from pydra.cluster.packages.manifest import Manifest, read_manifest
from pydra.errors import PackageRefused

SOURCE_LIMIT = 4 * 1024 * 1024
"""Bytes of a source file that is looked at; a larger one is not code that somebody wrote."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found; ``line`` is 0 where there is none."""

    file: str
    line: int
    message: str
    is_error: bool = True

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {'error' if self.is_error else 'warning'}: {self.message}"


def lint(directory: Path, name: str = "") -> list[Finding]:
    """
    What is wrong with the package in ``directory``, in the order of its files.

    ``name`` is the name that the package will have, by default that of the directory.
    """
    name = name or directory.resolve().name
    findings = [Finding(".", 0, problem)] if (problem := name_problem(name)) else []
    try:
        files = [state.file.path for state in find_files(directory)]
    except PackageRefused as fault:
        return [*findings, Finding(".", 0, str(fault))]
    manifest = read_manifest(directory)
    findings += _of_manifest(manifest, name)
    for path in files:
        if path.endswith(".py"):
            findings += _of_source(directory, path)
    if not any("/" not in path and path.endswith(".py") for path in files):
        findings.append(Finding(".", 0, "There is no file of Python at its root, so it has no tasks.", False))
    return findings


def _of_manifest(manifest: Manifest, name: str) -> Iterator[Finding]:
    errors = list(manifest.errors)
    limits_of(manifest.values, errors)
    for error in errors:
        yield Finding(MANIFEST, 0, error.removeprefix(f"{MANIFEST}: "))
    if name in manifest.depends:
        yield Finding(MANIFEST, 0, "The package depends on itself.")
    for key in sorted(manifest.values.keys() - KEYS):
        yield Finding(MANIFEST, 0, f"The key {key[:100]!r} means nothing to Pydra.", False)
    for requirement in manifest.requirements:
        if "==" not in requirement:
            message = f"{requirement} names no version; write name==version, so that all nodes run the same."
            yield Finding(MANIFEST, 0, message, False)


def _of_source(directory: Path, path: str) -> Iterator[Finding]:
    stem = path.rpartition("/")[2].removesuffix(".py")
    at_root = "/" not in path
    if at_root and not stem.isidentifier():
        yield Finding(path, 0, "Its name is no Python identifier, so tasks in it are not found.", False)
    if at_root and stem in sys.stdlib_module_names:
        message = (
            f"'import {stem}' gives Python's own module; this one is only reached by the package's name."
        )
        yield Finding(path, 0, message, False)
    try:
        with (directory / path).open("rb") as source:
            text = source.read(SOURCE_LIMIT + 1)
    except OSError as fault:
        yield Finding(path, 0, f"It cannot be read: {fault.strerror}.")
        return
    if len(text) > SOURCE_LIMIT:
        yield Finding(path, 0, f"It was not looked at: it has more than {SOURCE_LIMIT // 2**20} MiB.", False)
        return
    yield from _of_syntax(path, text)


def _of_syntax(path: str, text: bytes) -> Iterator[Finding]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            compile(ast.parse(text, path), path, "exec", dont_inherit=True)
        except SyntaxError as fault:
            yield Finding(path, fault.lineno or 0, f"{fault.msg}.".replace("..", "."))
        except (ValueError, RecursionError, MemoryError, OverflowError) as fault:
            yield Finding(path, 0, f"Python cannot read it: {fault or type(fault).__name__}.")
    for warning in told:
        yield Finding(path, warning.lineno, f"{warning.message}.".replace("..", "."), False)
