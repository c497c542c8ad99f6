# SPDX-License-Identifier: MIT
"""Exceptions in words."""

from __future__ import annotations

import sys

import pytest

from pydra.cluster.tasks import failure
from pydra.cluster.tasks.container import SubtaskFailed
from pydra.cluster.tasks.failure import failure_of
from pydra.cluster.tasks.unit_failure import (
    DatasourceFailed,
    UnitFailed,
    UnitFailure,
    datasource_failure,
    item_in_words,
)
from pydra.model import instance


def test_limits() -> None:
    """What a worker tells is not cut again by those who hand it on."""
    assert (failure.MESSAGE_LIMIT, failure.TRACEBACK_LIMIT) == (
        instance.MESSAGE_LIMIT,
        instance.TRACEBACK_LIMIT,
    )


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


TOLD = 'Traceback (most recent call last):\n  File "task.py", line 7, in work\nValueError: no\n'


def test_the_traceback_of_a_failed_unit_is_what_is_told() -> None:
    """None of our own classes and frames around it, in a container either."""
    fault = UnitFailed(UnitFailure("3/Sub:7", 7, "failed", "ValueError: no", TOLD, "7"))
    assert failure_of(fault).message == "Unit 3/Sub:7 (item 7) failed: ValueError: no"
    assert failure_of(fault).traceback == TOLD
    outer = SubtaskFailed("Subtask A failed")
    outer.__cause__ = fault
    assert failure_of(outer).traceback == TOLD


def test_a_failure_without_a_cause_has_no_traceback() -> None:
    """A unit that lost its worker, and an item that cannot be sent, have no line of the author to show."""
    lost = UnitFailure("3/Sub:7", 7, "limit", "memory limit reached", "")
    assert failure_of(UnitFailed(lost)).traceback == ""
    assert failure_of(DatasourceFailed("Item 2 of the datasource cannot be sent")).traceback == ""


def test_a_failed_datasource_shows_its_own_traceback() -> None:
    """It ends with the author's exception."""
    try:
        try:
            raise KeyError("gone")
        except KeyError as fault:
            raise datasource_failure("The datasource failed at item 2", fault) from fault
    except DatasourceFailed as fault:
        told = failure_of(fault).traceback
    assert told.endswith("KeyError: 'gone'\n")
    assert "DatasourceFailed" not in told


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (7, "7"),
        ("a\nb", r"'a\nb'"),
        (None, ""),
        ({"name": "x", "n": [1, 2]}, "{'n': [1, 2], 'name': 'x'}"),
    ],
)
def test_an_item_in_words(item: object, words: str) -> None:
    """As Python writes it, on one line; nothing of None."""
    assert item_in_words(item) == words


@pytest.mark.parametrize("item", ["x" * 10**6, b"x" * 10**6, list(range(10**5)), 10**4000, Unspeakable()])
def test_a_large_item_is_cut(item: object) -> None:
    """Sixty characters are enough to know it, and no item keeps its failure from being told."""
    assert 0 < len(item_in_words(item)) <= 60
