# SPDX-License-Identifier: MIT
"""The page on the controller API is what the code says."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pydra.cluster.controller.functions import FUNCTIONS

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


def test_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has every function and was written after the last change; else: python scripts/api_reference.py."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    written = importlib.import_module("api_reference")

    page = written.page()
    assert page == written.PAGE.read_text(encoding="utf-8"), "run: python scripts/api_reference.py"
    assert all(f"## {name}" in page for name in FUNCTIONS)
