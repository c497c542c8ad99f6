# SPDX-License-Identifier: MIT
"""
JSON from outside, read strictly: what other readers would take in different ways is refused in words.

Refused: nesting beyond 64, NaN and infinities, numbers beyond a double, whole numbers beyond 400 digits, a
name that occurs twice in an object, halves of surrogate pairs, and anything that is not UTF-8.
"""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

import msgspec

from pydra.errors import RequestError

DEPTH_LIMIT: Final = 64
"""Objects and lists inside each other."""

DIGITS_LIMIT: Final = 400
"""Digits of a whole number."""


def loads(data: bytes) -> object:
    """The value of JSON text; `RequestError` says why it is refused."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise RequestError(f"The JSON is not UTF-8 (byte {fault.start}).") from None
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as fault:
        raise RequestError(f"The JSON cannot be read: {fault.msg} (character {fault.pos}).") from None
    except RecursionError:
        raise RequestError(f"The JSON is nested deeper than {DEPTH_LIMIT}.") from None
    # Both are seen from the text in most cases, so that a large list is not walked through.
    if text.count("[") + text.count("{") > DEPTH_LIMIT or "\\u" in text:
        _check(value)
    return value


def dumps(value: object) -> bytes:
    """JSON of what a command returned; TypeError or ValueError if it has none."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # A text with half of a surrogate pair, such as a broken file name, has JSON only as an escape.
        return json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False).encode("ascii")


def _check(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        below: list[object] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                for name in item:
                    _check_text(name)
                below += item.values()
        if not below:
            return
        level = below
    if any(isinstance(item, (list, dict)) for item in level):
        raise RequestError(f"The JSON is nested deeper than {DEPTH_LIMIT}.")
    for item in level:
        if isinstance(item, str):
            _check_text(item)


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise RequestError("The JSON has half of a surrogate pair in a text.") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RequestError("The JSON has an object in which a name occurs twice.")
    return found


def _whole(digits: str) -> int:
    if len(digits) > DIGITS_LIMIT:
        raise RequestError(f"The JSON has a whole number of more than {DIGITS_LIMIT} digits.")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RequestError("The JSON has a number that is too large.")
    return number


def _refuse(name: str) -> NoReturn:
    raise RequestError(f"The JSON has {name}, which is no JSON.")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_finite, parse_constant=_refuse
)
