# SPDX-License-Identifier: MIT
"""Text of strangers on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydra.cli.escape import STEERING, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, \u00e4\u4e2d", "plain text, \u00e4\u4e2d"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_steers_is_shown(text: str, shown: str) -> None:
    """Control, format and bidirectional characters are written as codes; other text stays."""
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_steers_remains(text: str) -> None:
    """Whatever goes in, no steering character comes out but those kept."""
    assert not {unicodedata.category(character) for character in visible(text)} & STEERING
    assert visible(text, keep="\n").count("\n") == text.count("\n")
