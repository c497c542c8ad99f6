# SPDX-License-Identifier: MIT
"""
Looking whether a packed payload is complete, by its heads alone: nothing of it is copied or unpacked.

The worker loads this module, so it imports nothing.
"""

from __future__ import annotations

_FLAT_LIMIT = 1024
"""Items of a container whose headers are looked at one by one."""

_SINGLE = frozenset((0xC0, 0xC2, 0xC3))
"""None, False, True."""

_FIXED = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
"""Numbers, and the bytes that each takes."""

_COUNTED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes and texts, and the bytes that say how long they are."""


def is_flat(data: bytes | bytearray) -> bool:
    """
    Whether it is one plain value, or a short container of such, of which all is there and nothing after it.

    False says nothing: what is nested, or long, is not looked at.
    """
    first = data[0]
    if 0x80 <= first <= 0x8F:
        at, count = 1, 2 * (first & 15)
    elif 0x90 <= first <= 0x9F:
        at, count = 1, first & 15
    elif first in (0xDC, 0xDE):
        at, count = 3, int.from_bytes(data[1:3], "big") * (2 if first == 0xDE else 1)
    else:
        at, count = 0, 1
    if count > _FLAT_LIMIT:
        return False
    for _ in range(count):
        if at >= len(data):
            return False
        first = data[at]
        if first < 0x80 or first >= 0xE0 or first in _SINGLE:
            at += 1
        elif 0xA0 <= first <= 0xBF:
            at += 1 + (first & 31)
        elif first in _FIXED:
            at += _FIXED[first]
        elif first in _COUNTED:
            width = _COUNTED[first]
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")
        else:
            return False
    return at == len(data)
