# SPDX-License-Identifier: MIT
"""JSON that could be read in two ways, or that could hurt, is refused in words."""

from __future__ import annotations

import pytest

from pydra.cluster.controller.web import strict_json
from pydra.errors import RequestError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 65 + b"]" * 65, "deeper"),
        (b"[" * 100_000, "deeper"),
        (b'{"a":' * 100_000, "deeper"),
        (b"[" * 64 + b'{"a":1}' + b"]" * 64, "deeper"),
        (b"[NaN]", "NaN"),
        (b"Infinity", "Infinity"),
        (b"-Infinity", "-Infinity"),
        (b"1e999", "too large"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b"1" * 401, "digits"),
        (b"-" + b"1" * 401, "digits"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b"\xff", "UTF-8"),
        (b"", "cannot be read"),
        (b"{}x", "cannot be read"),
        (b"\xef\xbb\xbf{}", "cannot be read"),
        (b'"a\nb"', "cannot be read"),
        (b"{'a': 1}", "cannot be read"),
    ],
)
def test_dangerous_json_is_refused(text: bytes, words: str) -> None:
    """Each kind of bad JSON is a RequestError that says what is wrong."""
    with pytest.raises(RequestError, match=words):
        strict_json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[" * 64 + b"]" * 64, None),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a": "[[[{{{"}', {"a": "[[[{{{"}),
        (b"[-1.5e3, true, null, 0]", [-1500.0, True, None, 0]),
        (b"1" * 400, int("1" * 400)),
    ],
)
def test_good_json_is_read(text: bytes, value: object) -> None:
    """What is within the limits is read as it is."""
    read = strict_json.loads(text)

    assert value is None or value == read


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1: (2, None)}, b'{"1":[2,null]}'),
        ({"n": 2**70}, b'{"n":1180591620717411303424}'),
        ("\ud800", b'"\\ud800"'),
        ([b"x", 2**70], b'["eA==",1180591620717411303424]'),
    ],
)
def test_results_become_json(value: object, text: bytes) -> None:
    """Ids as names, large numbers and broken text all have JSON."""
    assert text == strict_json.dumps(value)


def test_what_has_no_json_is_a_fault() -> None:
    """An object that is no JSON is the command's fault and is not guessed at."""
    with pytest.raises(TypeError):
        strict_json.dumps(object())
