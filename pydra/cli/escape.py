# SPDX-License-Identifier: MIT
"""Text of strangers on a terminal: what would steer it is shown, not obeyed."""

from __future__ import annotations

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


def _written(character: str) -> str:
    """Return a character as Python would write it."""
    number = ord(character)
    if number < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
