# SPDX-License-Identifier: MIT
"""Runs a filter of system calls as the kernel would: what it answers to one call, without making it."""

from __future__ import annotations

import struct

ALLOW, KILL = "allow", "kill"


def answer(program: bytes, audit: int, number: int, *arguments: int) -> str | int:
    """``allow``, ``kill``, or the errno that the caller gets."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    seen = struct.pack("<iIQ6Q", number, audit, 0, *padded)
    lines = list(struct.iter_unpack("<HBBI", program))
    at, held = 0, 0
    while True:
        code, then, otherwise, value = lines[at]
        at += 1
        if code == 0x20:
            held = struct.unpack_from("<I", seen, value)[0]
        elif code == 0x54:
            held &= value
        elif code == 0x05:
            at += value
        elif code == 0x15:
            at += then if held == value else otherwise
        elif code == 0x35:
            at += then if held >= value else otherwise
        elif code == 0x45:
            at += then if held & value else otherwise
        else:
            assert code == 0x06
            if value == 0x7FFF0000:
                return ALLOW
            return KILL if value == 0x80000000 else value & 0xFFFF
