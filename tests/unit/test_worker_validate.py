# SPDX-License-Identifier: MIT
"""A validator worker puts arguments through a form, as often as it is asked."""

from __future__ import annotations

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import VALIDATED
from tests.support.runtimes import Runtime


def validated(name: str, args: object) -> tuple[bool, object]:
    with Runtime() as runtime:
        runtime.frame()
        runtime.validate(5, f"formed.formed_tasks.{name}", args)
        return taken(runtime, 5)


def taken(runtime: Runtime, request: int) -> tuple[bool, object]:
    kind, number, valid, data = runtime.answer()
    assert (kind, number) == (VALIDATED, request)
    assert isinstance(data, bytes)
    return bool(valid), payload.unpack(data)


@pytest.mark.parametrize(
    ("name", "args", "valid", "answer"),
    [
        ("Cleaning", {"start": "3", "end": "4"}, True, {"start": 3, "end": 4}),
        ("Cleaning", {"start": "4", "end": 3}, False, {"__all__": ["The end is before the start."]}),
        (
            "Cleaning",
            {"start": "abc"},
            False,
            {"start": ["Enter a whole number."], "end": ["This field is required."]},
        ),
        ("Addressed", {"address": "x"}, False, {"address": ["Enter a valid email address."]}),
        ("Addressed", {"address": "a@b.org"}, True, {"address": "a@b.org"}),
        (
            "Addressed",
            {"address": "a@b.org", "foo": 1},
            False,
            {"foo": ["This task takes no argument of this name."]},
        ),
        ("Crashing", {"name": "x"}, False, {"__all__": ["The form failed: ZeroDivisionError: oh"]}),
        ("Liking", {"good": 1}, True, {"good": 1}),
        ("Liking", {}, False, {"good": ["Be good."]}),
        ("Misnamed", {}, False, {"__all__": ["There is no form 'NoForm' in formed.formed_tasks."]}),
        ("Absent", {}, False, {"__all__": ["There is no class 'Absent' in formed.formed_tasks."]}),
    ],
)
def test_arguments_are_cleaned_or_refused_in_words(
    name: str, args: dict[str, object], valid: bool, answer: object
) -> None:
    """The answer has the cleaned arguments, or messages by field."""
    assert (valid, answer) == validated(name, args)


def test_one_worker_validates_many_times() -> None:
    """A failure does not disturb the next validation."""
    with Runtime() as runtime:
        runtime.frame()
        for request, args in enumerate([{"start": 1, "end": 2}, {}, {"start": 2, "end": 3}]):
            runtime.validate(request, "formed.formed_tasks.Cleaning", args)
        assert [taken(runtime, request)[0] for request in range(3)] == [True, False, True]
