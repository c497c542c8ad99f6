# SPDX-License-Identifier: MIT
"""Runs the simulation of ``tests/simulation`` with the Python of ``.venv``; arguments are handed through."""

from __future__ import annotations

import os
import sys

import machine
from machine import ROOT


def main() -> int:
    """Make what it needs, and become it."""
    machine.be_readable()
    python = machine.ensure_venv("[dev]")
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(python, [str(python), "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606 - our own


if __name__ == "__main__":
    sys.exit(main())
