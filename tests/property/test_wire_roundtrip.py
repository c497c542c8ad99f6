# SPDX-License-Identifier: MIT
"""What travels arrives as it left, however it is cut."""

from __future__ import annotations

import datetime
import decimal
import math
import typing
from typing import Any
from unittest import mock

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.wire import frames, messages, payload
from pydra.cluster.wire.broker import BananaGuard
from pydra.cluster.wire.payload import pack, to_json, unpack
from pydra.cluster.wire.stream_frames import Kind, StreamFrameReader, encode
from pydra.errors import WireError

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)

KEYS = TEXTS | st.binary(max_size=10) | st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.none()

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**12287) + 1, 2**12287 - 1)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.binary(max_size=30)
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False, min_value=-(10**50), max_value=10**50, places=3)
    | st.uuids()
)

VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_payloads_arrive(value: object) -> None:
    """A value that `pack` takes is what `unpack` gives, and has a form in JSON."""
    assert unpack(pack(value)) == value
    msgspec.json.encode(to_json(value))


@given(st.floats())
def test_floats_arrive(value: float) -> None:
    """Every float arrives, NaN too."""
    arrived = unpack(pack([value]))
    assert isinstance(arrived, list)
    assert arrived[0] == value or math.isnan(arrived[0])


@given(st.decimals().filter(lambda value: len(str(value)) <= 1_024))
def test_decimals_arrive(value: decimal.Decimal) -> None:
    """Every Decimal arrives, digit by digit."""
    assert str(unpack(pack(value))) == str(value)


def fitting(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type, as they may stand in a message: integers have 64 bits, floats are numbers."""
    plain: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False),
        bool: st.booleans(),
        str: TEXTS,
        bytes: st.binary(max_size=99),
        type(None): st.none(),
    }
    kind = getattr(kind, "__supertype__", kind)
    if typing.get_origin(kind) is typing.Annotated:
        return bounded(*typing.get_args(kind))
    if kind in plain:
        return plain[kind]
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[-1] is not ...:
        return st.tuples(*map(fitting, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return st.lists(fitting(typing.get_args(kind)[0]), max_size=4).map(tuple)
    if typing.get_origin(kind) is list:
        return st.lists(fitting(typing.get_args(kind)[0]), max_size=4)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(*map(fitting, typing.get_args(kind)), max_size=4)
    if typing.get_args(kind):
        return st.one_of([fitting(part) for part in typing.get_args(kind)])
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{field: fitting(hints[field]) for field in kind.__struct_fields__})


def bounded(kind: Any, meta: msgspec.Meta) -> st.SearchStrategy[Any]:
    """Values of a type that is written with bounds."""
    if meta.pattern is not None:
        return st.from_regex(meta.pattern, fullmatch=True)
    if meta.ge is not None and kind is int:
        return st.integers(int(meta.ge), int(meta.le or 0))
    if meta.ge is not None:
        return st.floats(meta.ge, meta.le)
    return fitting(kind)


def any_of(*kinds: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of([fitting(kind) for kind in kinds]), min_size=1, max_size=20)


@given(
    any_of(*typing.get_args(messages.ToNode)),
    st.integers(100, 10_000),
)
def test_messages_to_nodes_arrive(sent: list[Any], spare: int) -> None:
    """Messages arrive as they left and in order, however few a batch holds."""
    encoded = [messages.encode(message) for message in sent]
    batches = messages.batches(encoded, max(map(len, encoded)) + spare)
    assert [message for batch in batches for message in messages.decode_to_node(batch)] == sent


@given(
    any_of(*typing.get_args(messages.ToMaster)),
    st.integers(100, 10_000),
)
def test_messages_to_masters_arrive(sent: list[Any], spare: int) -> None:
    """The same in the other direction."""
    encoded = [messages.encode(message) for message in sent]
    batches = messages.batches(encoded, max(map(len, encoded)) + spare)
    assert [message for batch in batches for message in messages.decode_to_master(batch)] == sent


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


FRAMES = st.lists(
    st.lists(
        st.integers(0, 30)
        | TEXTS
        | st.binary(max_size=50)
        | st.dictionaries(st.integers(0, 99) | TEXTS, TEXTS, max_size=3),
        max_size=5,
    ).map(lambda rest: [16, *rest]),
    max_size=6,
)
PLACES = st.lists(st.integers(0, 100_000), max_size=10)


@given(FRAMES, PLACES)
def test_worker_frames_may_be_cut_anywhere(sent: list[list[object]], places: list[int]) -> None:
    """Frames of a worker are the same however their bytes arrive."""
    reader = frames.FrameReader()
    pieces = cut(b"".join(frames.encode(frame) for frame in sent), places)
    assert [frame for piece in pieces for frame in reader.feed(piece)] == sent


@given(
    st.lists(st.tuples(st.just(Kind.DATA), st.integers(0, 2**32 - 1), st.binary(max_size=99)), max_size=6),
    PLACES,
)
def test_stream_frames_may_be_cut_anywhere(sent: list[tuple[Kind, int, bytes]], places: list[int]) -> None:
    """Frames of the bulk connection are the same however their bytes arrive."""
    reader = StreamFrameReader()
    pieces = cut(b"".join(encode(*frame) for frame in sent), places)
    assert [frame for piece in pieces for frame in reader.feed(piece)] == sent


@given(st.lists(st.binary(max_size=200), max_size=5), PLACES)
def test_guard_passes_calls_cut_anywhere(batches: list[bytes], places: list[int]) -> None:
    """The guard passes every call of ours however its bytes arrive."""
    from twisted.spread.banana import encode as banana  # noqa: TID251 - what the guard reads

    calls = [
        banana([b"message", number, b"root", b"batch", 1, [b"tuple", batch], [b"dictionary"]])
        for number, batch in enumerate(batches)
    ]
    guard = BananaGuard()
    for piece in cut(b"".join(calls), places):
        guard.feed(piece)


FLAT = st.dictionaries(TEXTS, LEAVES, max_size=4) | st.lists(LEAVES, max_size=4) | LEAVES


@given(FLAT, st.integers(0, 200), st.binary(max_size=6), st.integers(0, 8))
def test_a_short_look_finds_what_a_long_one_finds(value: object, at: int, put: bytes, taken: int) -> None:
    """Whether a payload is looked at with or without a copy, the same ones are taken, as the same values."""
    packed = pack(value)
    damaged = packed[:at] + put + packed[at + taken :]

    def seen(long: int) -> object:
        with mock.patch.multiple(payload, _LONG=long, _SHORT=-1):
            try:
                return repr(unpack(damaged))
            except WireError:
                return WireError

    assert seen(2**40) == seen(0)
