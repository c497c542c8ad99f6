# SPDX-License-Identifier: MIT
"""What is wrong with a package is found before it is deployed, and nothing of it is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pydra.cluster.packages.lint import SOURCE_LIMIT, Finding, lint


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in which nothing is wrong."""
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "tasks.py").write_text("x = 1\n")
    (directory / "META").write_text("description: mine\ndepends: [base]\nrequirements: [six==1.17]\n")
    return directory


def test_a_good_package(package: Path) -> None:
    """Nothing is found in it, nor in the demo."""
    assert [] == lint(package)
    assert [] == lint(Path(__file__).parents[2] / "examples" / "demo")


@pytest.mark.parametrize(
    ("file", "content", "finding"),
    [
        ("bad.py", b"x = (\n\n", "bad.py:1: error: '(' was never closed."),
        ("bad.py", b"x = 1\ny = '\n", "bad.py:2: error: unterminated string literal"),
        ("lib/bad.py", b"return 1\n", "lib/bad.py:1: error: 'return' outside function."),
        ("bad.py", b"x = '\xff'\n", "bad.py:1: error: "),
        ("bad.py", b"\0", "bad.py: error: "),
        ("bad.py", b"(" * 5_000 + b")" * 5_000, "bad.py:1: error: too many nested parentheses."),
        ("bad.py", b"x = " + b"-" * 100_000 + b"1\n", "bad.py: error: Python cannot read it: "),
        ("bad.py", b"x = 1 is 1\n", 'bad.py:1: warning: "is" with '),
        ("two-words.py", b"", "two-words.py: warning: Its name is no Python identifier"),
        ("json.py", b"", "json.py: warning: 'import json' gives Python's own module"),
        ("META", b"memory: 512\nother: 1\n", "META: warning: The key 'other' means nothing to Pydra."),
        ("META", b"description = x\nnonsense\n", "META: error: META, line 2: this is not key = value."),
        ("META", b"memory = lots\n", "META: error: memory is 'lots'; it must be a size"),
        ("META", b"Depends = mine\n", "META: error: The package depends on itself."),
        ("META", b"requirements = six\n", "META: warning: six names no version"),
        ("large.py", b"#" * (SOURCE_LIMIT + 1), "large.py: warning: It was not looked at"),
        ("a\nb", b"", ".: error: 'a\\nb': the name has a character"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(package: Path, file: str, content: bytes, finding: str) -> None:
    """The file, the line if there is one, and whether it keeps something from working."""
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_bytes(content)
    [found] = lint(package)
    assert str(found).startswith(finding)


def test_what_cannot_be_deployed_at_all(package: Path) -> None:
    """A link, a bad name, no code."""
    assert [
        Finding(".", 0, "The package name 'json' belongs to Python or to Pydra; rename the directory.")
    ] == lint(package, name="json")
    os.symlink("tasks.py", package / "link.py")
    assert "symbolic link" in lint(package)[0].message
    for name in ("link.py", "tasks.py"):
        (package / name).unlink()
    assert "no tasks" in lint(package)[0].message


def test_nothing_is_imported(package: Path) -> None:
    """Not even what runs at import."""
    (package / "tasks.py").write_text(f"open({str(package / 'ran')!r}, 'w')\n")
    assert [] == lint(package)
    assert not (package / "ran").exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """It is told as such."""
    [finding] = lint(tmp_path / "absent")
    assert finding.is_error
