# SPDX-License-Identifier: MIT
"""The check of sizes finds what is too long."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "check_sizes.py"


@pytest.fixture(scope="module")
def check() -> Callable[[Path], int]:
    """The check, for any root."""
    main: Callable[[Path], int] = runpy.run_path(str(SCRIPT))["main"]
    return main


def write(root: Path, name: str, text: str) -> None:
    """Put a file below the root."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_what_fits_passes(tmp_path: Path, check: Callable[[Path], int]) -> None:
    """A file of 400 lines with a function of 60 is not too long."""
    write(tmp_path, "pydra/a.py", "def f():\n" + "    pass\n" * 59 + "x = 1\n" * 340)

    assert check(tmp_path) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pydra/a.py", "x = 1\n" * 401),
        ("tests/deep/a.py", "def f():\n" + "    pass\n" * 60),
        ("scripts/program", "#!/usr/bin/env python3\n" + "x = 1\n" * 400),
        ("pydra/a.py", "class C:\n    async def f(self):\n" + "        pass\n" * 60),
    ],
)
def test_what_is_too_long_is_named(
    tmp_path: Path, check: Callable[[Path], int], capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    """One line more fails, in any tree, in a script too, and the file is named."""
    write(tmp_path, name, text)

    assert check(tmp_path) == 1
    assert name in capsys.readouterr().out


def test_nothing_to_check_fails(tmp_path: Path, check: Callable[[Path], int]) -> None:
    """A wrong root is not a good one."""
    assert check(tmp_path) == 1
