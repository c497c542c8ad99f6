# SPDX-License-Identifier: MIT
"""Exceptions in words."""

from __future__ import annotations

import sys

import pytest

from pydra.cluster.tasks.failure import failure_of


def test_a_traceback_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words stay: a task that has all descriptors in use can import nothing more."""
    monkeypatch.setitem(sys.modules, "traceback", None)
    told = failure_of(OSError(24, "Too many open files"))
    assert ("failed", "OSError: [Errno 24] Too many open files", "") == (
        told.code,
        told.message,
        told.traceback,
    )


def test_words_that_cannot_be_told() -> None:
    """Its class is told, as a failure like others, so it is the same on a cluster and without one."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    told = failure_of(Silent())
    assert ("failed", "Silent") == (told.code, told.message)
