# SPDX-License-Identifier: MIT
"""The tasks of the guide and of the examples run without a cluster, as both say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.tasks import Task

ROOT = Path(__file__).parents[2]


def tasks_in(source: str) -> dict[str, Any]:
    """What a program defines."""
    found: dict[str, Any] = {"__name__": "read"}
    exec(compile(source, "read", "exec"), found)
    return found


@pytest.fixture(scope="module")
def guide() -> dict[str, Any]:
    page = (ROOT / "docs/guide/tasks.md").read_text()
    return tasks_in("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))


def test_the_parallel_task_of_the_guide(guide: dict[str, Any], tmp_path: Path) -> None:
    """It counts what can be read, and tells what cannot."""
    for number in range(3):
        (tmp_path / f"{number}.py").write_text("line\n" * number)
    (tmp_path / "bad.py").write_bytes(b"\xff")
    task = guide["AllLines"]()
    assert isinstance(task, Task)
    task.unit_retry_delay = 0  # type: ignore[attr-defined]
    result = task.start({"pattern": str(tmp_path / "*.py")})
    assert result["lines"] == 3
    (unreadable,) = result["unreadable"]
    assert "UnicodeDecodeError" in unreadable


def test_the_container_of_the_guide(guide: dict[str, Any]) -> None:
    """Its two counts are in the order of the children."""
    assert guide["Report"]().start() == [11, 2]
    assert guide["Report"]().start({"name": "you"}) == [9, 2]


@pytest.mark.parametrize(("below", "primes"), [(2, 0), (3, 1), (100, 25), (50_000, 5133)])
def test_the_primes_of_the_demo(below: int, primes: int) -> None:
    """The pieces make the whole."""
    demo = tasks_in((ROOT / "examples/demo/primes.py").read_text())
    assert demo["PrimesTask"]().start({"below": below})["primes"] == primes
