# SPDX-License-Identifier: MIT
"""Text of strangers on a terminal: what would steer it is shown, not obeyed; and words for a shell."""

from __future__ import annotations

import os
import shlex
import unicodedata

STEERING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that move, hide or turn text: controls, formats (bidirectional ones too), separators."""


def visible(text: str, keep: str = "") -> str:
    r"""Return the text with each steering character, but for those in ``keep``, written as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in STEERING
        else _written(character)
        for character in text
    )


def shell_word(text: str) -> str:
    r"""Return the text as one word of a shell: quoted if need be, as ``$'\x1b'`` if it cannot be printed."""
    if text.isprintable():
        return shlex.quote(text)
    written = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\'" else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(written)}'"


def _written(character: str) -> str:
    """Return a character as Python would write it."""
    number = ord(character)
    if number < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
