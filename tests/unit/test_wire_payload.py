# SPDX-License-Identifier: MIT
"""Arguments and results as MessagePack."""

from __future__ import annotations

import datetime
import decimal
import math
import subprocess
import sys
import time
import uuid
from enum import IntEnum
from typing import Any

import msgpack
import pytest

from pydra.cluster.wire.payload import pack, pieces, to_json, unpack, unpack_apart
from pydra.errors import WireError


class Colour(IntEnum):
    RED = 1


SAMPLES: list[object] = [
    None,
    True,
    0,
    -1,
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    2**4000,
    1.5,
    math.inf,
    "",
    "grün \0",
    b"\x00\xff",
    [],
    {},
    {"a": {"b": [1, {"c": None}]}},
    {1: "one", None: "none", b"k": 2, 1.5: 3},
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001 - a naive one travels too
    datetime.datetime(1900, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
    datetime.date(1, 1, 1),
    datetime.time(23, 59, 59, 999999),
    decimal.Decimal("1.10"),
    decimal.Decimal("-Infinity"),
    uuid.UUID(int=7),
]


@pytest.mark.parametrize("value", SAMPLES, ids=repr)
def test_values_arrive_as_they_left(value: object) -> None:
    """What can travel arrives equal, and of the same type."""
    arrived = unpack(pack(value))
    assert arrived == value
    assert type(arrived) is type(value)


def test_nan_arrives() -> None:
    """NaN is a number too."""
    arrived = unpack(pack(math.nan))
    assert isinstance(arrived, float)
    assert math.isnan(arrived)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [((1, 2), [1, 2]), ({3}, [3]), (frozenset({4}), [4]), (Colour.RED, 1), (bytearray(b"x"), b"x")],
)
def test_relatives_arrive_plain(value: object, arrives: object) -> None:
    """Tuples and sets arrive as lists, an enum of integers as an integer."""
    assert unpack(pack(value)) == arrives


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), r"^result: a value of type object$"),
        ({"a": [0, 1, 2, object()]}, r"^result\['a'\]\[3\]: a value of type object$"),
        ([[{"k": {1, 2, complex(1, 1)}}]], r"^result\[0\]\[0\]\['k'\]\{\.\.\.\}: a value of type complex$"),
        ({"a": {(1, 2): 3}}, r"^result\['a'\]: a key of type tuple$"),
        ({2**64: 3}, r"^result: a key of type int$"),
        ({"x" * 99: print}, r"^result\['x+\.\.\.\]: a value of type builtin_function_or_method$"),
        (Exception, r"^result: a value of type type$"),
    ],
)
def test_place_of_what_cannot_travel_is_named(value: object, words: str) -> None:
    """A value of another type is refused with its place and its type."""
    with pytest.raises(TypeError, match=words):
        pack(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["\ud800"], r"result\[0\]: text with half"),
        ([2**12288], r"result\[0\]: an integer of 12289 bits"),
        ([decimal.Decimal("1" * 2000)], r"result\[0\]: a Decimal of 2000"),
        ({"\ud800": 1}, r"result: a key that is no valid text"),
    ],
)
def test_values_out_of_bounds_are_named(value: object, words: str) -> None:
    """A value of a good type that cannot travel is refused with its place."""
    with pytest.raises(ValueError, match=words):
        pack(value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_has_a_limit() -> None:
    """64 containers within each other travel, 65 do not, in either direction."""
    assert unpack(pack(nested(64))) == nested(64)
    with pytest.raises(ValueError, match="nested deeper than 64"):
        pack(nested(65))
    with pytest.raises(WireError, match="nested deeper than 64"):
        unpack(msgpack.packb(nested(65)))


def test_value_that_contains_itself_is_refused() -> None:
    """A value that contains itself, many times over, is refused quickly."""
    knot: list[Any] = []
    knot += [knot, knot, {"again": knot}]
    with pytest.raises(ValueError, match="nested deeper"):
        pack(knot)


def test_name_of_the_value() -> None:
    """The place begins with the name that the caller gives."""
    with pytest.raises(TypeError, match=r"^args\['n'\]: "):
        pack({"n": object()}, "args")


def extension(code: int, data: bytes) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(code, data))
    return packed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\x91",
        b"\xa5abc",
        b"\xa1\xff",
        b"\x91" * 2_000 + b"\x01",
        b"\x81\x90\x01",
        b"\x81" + extension(6, b"\1")[:-1],
        b"\x81" + extension(4, b"1") + b"\x01",
        extension(1, b"yesterday"),
        extension(2, b"\xff"),
        extension(3, b""),
        extension(4, b"one"),
        extension(4, b"1" * 1_025),
        extension(5, b"short"),
        extension(6, b"\1" * 1_537),
        extension(7, b"unknown"),
        msgpack.packb(msgpack.Timestamp(2**60)),
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    """What `pack` does not make is a `WireError`."""
    with pytest.raises(WireError):
        unpack(data)


def test_announced_sizes_cost_nothing() -> None:
    """Headers that announce a billion items each are refused at once."""
    began = time.process_time()
    with pytest.raises(WireError):
        unpack(b"\xdd\x3f\xff\xff\xff" * 1_000 + b"\x01" * 1_000_000)
    assert time.process_time() - began < 0.5


def test_size_has_a_limit() -> None:
    """More bytes than the caller allows are refused unread."""
    with pytest.raises(WireError, match="too large"):
        unpack(b"\x01" * 11, limit=10)


@pytest.mark.parametrize(
    ("value", "json"),
    [
        ({"a": [1, 1.5, None, True, "x"]}, {"a": [1, 1.5, None, True, "x"]}),
        (b"\x00\xff", "AP8="),
        (math.nan, "NaN"),
        ([math.inf, -math.inf], ["Infinity", "-Infinity"]),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (
            {7: "a", None: "b", True: "c", 2.5: "d", b"k": "e"},
            {"7": "a", "null": "b", "true": "c", "2.5": "d", "aw==": "e"},
        ),
    ],
)
def test_json_form(value: object, json: object) -> None:
    """Everything that can travel has a form in JSON."""
    assert to_json(value) == json


def test_worker_loads_little() -> None:
    """Importing the module loads neither msgspec nor Twisted, nor decimal or uuid."""
    code = (
        "import sys, pydra.cluster.wire.payload, pydra.cluster.wire.frames;"
        "print([n for n in ('msgspec', 'twisted', 'decimal', 'uuid', 'OpenSSL') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


LONG = bytes(range(256)) * 257
"""Bytes that are not copied to be packed."""

LONG_SAMPLES: list[object] = [
    LONG,
    {"array": LONG},
    {},
    {"array": LONG, "number": 3, "text": "grün", "short": b"x", "none": None},
    {"a": LONG, "b": LONG + b"x", "c": -1.5},
    {"array": LONG, "nested": [1, 2]},
    {"array": LONG, "integer": 2**64},
    {"array": LONG, 7: "seven"},
    [LONG, LONG],
    bytearray(LONG),
    "x" * len(LONG),
]


@pytest.mark.parametrize("value", LONG_SAMPLES, ids=lambda value: type(value).__name__)
def test_pieces_are_what_is_packed(value: object) -> None:
    """The pieces of a value, one after another, are its packed form; an array is one of them itself."""
    found = pieces(value)
    assert pack(value) == b"".join(found)
    if isinstance(value, dict) and value.get("array") is LONG and len(found) > 1:
        assert any(piece is LONG for piece in found)


@pytest.mark.parametrize("value", [LONG, [LONG], {"array": LONG}, b"", b"short", 5, None])
@pytest.mark.parametrize("at", [0, 1, 4, 5, 6, 100])
def test_what_was_read_apart(value: object, at: int) -> None:
    """Wherever it was cut, it is what was packed; long bytes whose header was read apart are not copied."""
    packed = pack(value)
    rest = packed[at:]
    assert value == (found := unpack_apart(packed[:at], rest))
    if value is LONG:
        assert (found is rest) == (at == 5)


@pytest.mark.parametrize("head", [b"", b"\xc6", b"\xc6\x00\x00\x00\x01", b"\xc4", b"\xc6\xff\xff\xff\xff"])
def test_another_head(head: bytes) -> None:
    """Bytes whose header says another length are none."""
    with pytest.raises(WireError):
        unpack_apart(head, LONG)


def test_pieces_tell_what_cannot_travel() -> None:
    """As packing does, with the place of it."""
    with pytest.raises(TypeError, match=r"args\['other'\]"):
        pieces({"array": LONG, "other": object()}, "args")
    with pytest.raises(ValueError, match=r"args\['text'\].*surrogate"):
        pieces({"array": LONG, "text": "\ud800"}, "args")


FLAT = [
    LONG,
    {"array": LONG, "n": 1.5, "t": "x" * 300, "b": bytes(70_000), "i": -7},
    ["a" * 70_000, None, -40],
]


@pytest.mark.parametrize("value", FLAT, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 100])
def test_a_flat_payload_is_complete_or_refused(value: object, cut: int) -> None:
    """One byte too few or too many, in a payload that is looked at without a copy, is found."""
    packed = pack(value)
    if not cut:
        assert value == unpack(packed)
        return
    for damaged in (packed[:-cut], packed + bytes(cut)):
        with pytest.raises(WireError):
            unpack(damaged)


@pytest.mark.parametrize(
    "damage", [b"\x8f", b"\x9f", b"\xde\xff\xff", b"\xdc\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_a_flat_payload_that_announces_too_much(damage: bytes) -> None:
    """A head that promises more than there is gets nothing allocated for it."""
    with pytest.raises(WireError):
        unpack(damage + pack(LONG))
