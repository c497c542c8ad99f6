# SPDX-License-Identifier: MIT
"""
Planted bugs: each patch in ``planted/`` is applied to a copy of the product, in which seeds must then fail.

A simulation that finds nothing in a product that is known to be wrong is no test of one that is thought to be
right.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).parent / "planted"
SEEDS = 40


class Found(msgspec.Struct, frozen=True):
    """What came of a planted bug; ``seeds`` is how many were needed, 0 if it was not found."""

    patch: str
    seeds: int
    took_s: float
    told: str


def look_for(patch: Path) -> Found:
    """Apply a patch to a copy, and run seeds until one fails."""
    with tempfile.TemporaryDirectory(prefix="pydra-planted-") as copied:
        copy = Path(copied)
        for tree in ("pydra", "tests"):
            ignored = shutil.ignore_patterns("__pycache__", "web", "integration")
            shutil.copytree(ROOT / tree, copy / tree, ignore=ignored)
        applied = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(patch)],
            cwd=copy,
            check=False,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": copied},
        )
        if applied.returncode:
            return Found(patch.stem, 0, 0.0, "it does not apply any more")
        begun = time.monotonic()
        command = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS), "--until-broken"]
        done = subprocess.run(
            [*command, "--jobs", "1"],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": copied},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        took_s = time.monotonic() - begun
    lines = done.stdout.splitlines()
    seeds = sum(line.startswith("seed ") for line in lines)
    if done.returncode == 0:
        return Found(patch.stem, 0, took_s, f"nothing was broken in {SEEDS} seeds")
    told = next((line.strip() for line in lines if "BROKEN" in line), lines[-1] if lines else "it crashed")
    return Found(patch.stem, seeds + ("BROKEN" not in told), took_s, told.removeprefix("BROKEN: "))


def look_for_all(names: list[str]) -> Iterator[Found]:
    """All planted bugs, or those of these names; as many at a time as there are cores."""
    patches = sorted(path for path in PATCHES.glob("*.patch") if not names or path.stem in names)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        yield from threads.map(look_for, patches)
