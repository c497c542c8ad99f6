# SPDX-License-Identifier: MIT
"""How figures are printed."""

from __future__ import annotations


def show(name: str, figure: float, unit: str, ratio: float | None = None, aim: str = "") -> None:
    """One row."""
    beside = f"{ratio:8.2f} x pool" if ratio is not None else " " * 15
    print(f"{name:56} {figure:10.2f} {unit:6} {beside}  {aim}")
