# SPDX-License-Identifier: MIT
"""A datasource may be written in several ways, and is read only when items are wanted."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

import pytest

from pydra.cluster.tasks.datasource import each, unpack, validated


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def twice(items: list[int]) -> list[int]:
    return [2 * item for item in items]


@pytest.mark.parametrize(
    ("datasource", "items"),
    [
        (None, [None]),
        (5, [5]),
        (0, [0]),
        (False, [False]),
        ("abc", ["a", "b", "c"]),
        ("", []),
        ([], []),
        ((), []),
        ([0, "", None], [0, "", None]),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, ["a", "b"]),
        (b"ab", [97, 98]),
        (range(3), [0, 1, 2]),
        (lambda: [1, 2], [1, 2]),
        (lambda: 7, [7]),
        (lambda: None, [None]),
        ((range, 3), [0, 1, 2]),
        ((len, "abc"), [3]),
        ((twice, (twice, [1, 2])), [4, 8]),
        ((map, str.upper, (iter, "ab")), ["A", "B"]),
        ((list, (1, 2)), [1, 2]),
        (Colour, [Colour.RED, Colour.BLUE]),
    ],
)
def test_a_datasource_gives_its_items(datasource: object, items: list[object]) -> None:
    """Nothing, a single thing, an iterable, a callable, and a tuple of a callable and its arguments."""
    assert items == list(unpack(datasource)[0])


@pytest.mark.parametrize(
    ("datasource", "length"),
    [
        (range(5), 5),
        ([], 0),
        (None, 1),
        (3, 1),
        ("ab", 2),
        ((range, 4), 4),
        (iter([1, 2]), None),
        ((map, str, [1]), None),
        (range(10**30), None),
    ],
)
def test_the_length_is_told_if_it_is_known(datasource: object, length: int | None) -> None:
    """What has none, or one beyond all measure, tells none."""
    assert length == unpack(datasource)[1]


def test_a_generator_is_read_lazily() -> None:
    """No item is made before it is drawn."""
    made: list[int] = []

    def numbers() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    items, length = unpack(numbers())
    assert (made, length) == ([], None)
    assert (next(items), next(items)) == (0, 1)
    assert made == [0, 1]


@pytest.mark.parametrize("datasource", [None, 5, "ab", range(3), [1]])
def test_a_validated_datasource_is_one_already(datasource: object) -> None:
    """To validate twice changes nothing."""
    once = validated(datasource)
    assert once == (each, datasource)
    assert validated(once) is once


def test_a_callable_alone_is_a_tuple_without_arguments() -> None:
    """It need not be put in one by hand."""
    call: Callable[[], int] = lambda: 1  # noqa: E731 - a name for the same object
    assert validated(call) == (call,)


def test_what_a_datasource_raises_is_not_taken_for_its_end() -> None:
    """A StopIteration out of a callable, and a failing iteration, are failures."""

    def stops() -> object:
        raise StopIteration

    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise TypeError("not today")

    with pytest.raises(StopIteration):
        unpack(stops)
    with pytest.raises(TypeError, match="not today"):
        unpack(Broken())
