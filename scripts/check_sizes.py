# SPDX-License-Identifier: MIT
"""Fails on files of more than 400 lines and on functions of more than 60, and names them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ("pydra", "scripts", "tests", "benchmarks", "examples")
FILE_LINES = 400
FUNCTION_LINES = 60


def sources(root: Path) -> Iterator[Path]:
    """Give every Python file of the trees; a script is one by its first line."""
    for tree in TREES:
        for path in sorted((root / tree).rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            if path.suffix == ".py" or (not path.suffix and _is_script(path)):
                yield path


def _is_script(path: Path) -> bool:
    """Return True if a file without a suffix is a Python program."""
    with path.open("rb") as opened:
        line = opened.readline(100)
    return line.startswith(b"#!") and b"python" in line


def faults(path: Path, shown: Path) -> Iterator[str]:
    """Give what is too long in a file, as sentences."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{shown}: {lines} lines, more than {FILE_LINES}"
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{shown}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES}"


def main(root: Path = ROOT) -> int:
    """Check everything; return 1 if anything is too long, or if there was nothing to check."""
    checked = 0
    found: list[str] = []
    for path in sources(root):
        checked += 1
        found += faults(path, path.relative_to(root))
    for fault in found:
        sys.stdout.write(f"{fault}\n")
    if checked == 0:
        sys.stdout.write(f"No Python files below {root}.\n")
    return 1 if found or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
