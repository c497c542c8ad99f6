# SPDX-License-Identifier: MIT
"""Columns of units, cut into messages that may travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

GROUP_LIMIT = 320 * 1024
"""Bytes of one message, about; with one thing that is larger than the rest together it may have more."""


def groups(sizes: Sequence[int], each: int) -> Iterator[tuple[int, int]]:
    """The first and the last but one of each group, by the bytes that a unit takes, and each besides."""
    if sum(sizes) + each * len(sizes) <= GROUP_LIMIT:
        if sizes:
            yield 0, len(sizes)
        return
    start = total = 0
    for place, size in enumerate(sizes):
        total += size + each
        if total > GROUP_LIMIT and place > start:
            yield start, place
            start, total = place, size + each
    yield start, len(sizes)
