# SPDX-License-Identifier: MIT
"""
Arguments and results as MessagePack: what JSON has, and bytes, date, time, datetime, Decimal, UUID, integers
of up to 8,192 bits. A tuple or set arrives as a list. Nothing that is unpacked can run code.

Keys of a dict are text, bytes, numbers of up to 64 bits, booleans or None: others could be chosen so that a
dict of them takes minutes to build.

The worker loads this module, so it imports little.
"""

from __future__ import annotations

import binascii
import datetime
import math
import sys
from collections.abc import Callable, Iterable

import msgpack

from pydra.cluster.wire.flat import is_flat
from pydra.errors import WireError

DEPTH_LIMIT = 64
"""Containers within containers."""

SIZE_LIMIT = 1024 * 1024 * 1024
"""Bytes of one payload."""

_EXTENSION_LIMIT = 1024
"""Bytes of one Decimal and so on: parsing them takes more than linear time."""

_INTEGER_LIMIT = 1536
"""Bytes of one integer: 3,699 digits, below the 4,300 that Python is willing to read and write."""

_DATETIME, _DATE, _TIME, _DECIMAL, _UUID, _INTEGER = range(1, 7)
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_TEXT = frozenset({str})
_SHORT = 1024
"""Bytes of a payload that announces nothing large, whatever it announces."""

_LONG = 64 * 1024
"""Bytes that are rather not copied than packed by the function for everything."""

_CONTAINERS = (dict, list, tuple, set, frozenset)
_KEYS = (str, bytes, int, float, type(None))


def pack(value: object, name: str = "result") -> bytes:
    """
    The MessagePack of a value.

    `TypeError` or `ValueError` names the place of what cannot travel, as in ``result['a'][3]``; ``name`` is
    what the value itself is called there.
    """
    if _is_plain(value):
        try:
            plain: bytes = msgpack.packb(value)
        except (ValueError, OverflowError):
            pass  # a long integer, or text that is none
        else:
            return plain
    problem = _structure_problem(value)
    if problem is None:
        try:
            packed: bytes = msgpack.packb(value, default=_extension, use_bin_type=True)
        except (TypeError, ValueError, OverflowError):
            pass
        else:
            return packed
    if problem == "depth":
        raise ValueError(f"{name}: nested deeper than {DEPTH_LIMIT} levels")
    raise _located(value, name)


def pieces(value: object, name: str = "result") -> list[bytes]:
    """What `pack` makes, in pieces that follow one another: long bytes are not copied to be packed."""
    if _is_long(value):
        assert isinstance(value, bytes)
        return [_bytes_header(value), value]
    if type(value) is not dict or not any(map(_is_long, value.values())) or not _is_plain(value):
        return [pack(value, name)]
    packer = msgpack.Packer(autoreset=False)
    found: list[bytes] = []
    try:
        packer.pack_map_header(len(value))
        for key, item in value.items():
            packer.pack(key)
            if _is_long(item):
                found += (packer.bytes() + _bytes_header(item), item)
                packer.reset()
            else:
                packer.pack(item)
    except (ValueError, OverflowError):
        return [pack(value, name)]  # a long integer, or text that is none
    return [*found, packer.bytes()]


def _is_long(value: object) -> bool:
    """Bytes that are rather not copied, and not too long for a payload."""
    return type(value) is bytes and _LONG < len(value) <= SIZE_LIMIT


def _bytes_header(value: bytes) -> bytes:
    return b"\xc6" + len(value).to_bytes(4, "big")


def unpack(data: bytes | bytearray, limit: int = SIZE_LIMIT) -> object:
    """The value that was packed; `WireError` on anything that `pack` does not make."""
    if len(data) > limit:
        raise WireError(f"A payload of {len(data)} bytes is too large; the limit is {limit}.")
    if len(data) <= _SHORT:
        try:
            short: object = msgpack.unpackb(data, ext_hook=_restored, timestamp=3)
        except Exception:  # noqa: BLE001, S110 - below it is looked at with care
            pass
        else:
            # Each level takes a byte.
            if len(data) <= DEPTH_LIMIT or _structure_problem(short) is None:
                return short
    try:
        if len(data) <= _LONG or not is_flat(data):
            _check_complete(data)
        value: object = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=_mapping,
            ext_hook=_restored,
            timestamp=3,
        )
    except WireError:
        raise
    except Exception as fault:  # noqa: BLE001 - hostile bytes find every kind that five parsers raise
        raise WireError(f"This is no payload: {type(fault).__name__}.") from None
    if _structure_problem(value) is not None:
        raise WireError(f"A payload is nested deeper than {DEPTH_LIMIT} levels.")
    return value


def unpack_apart(head: bytes, rest: bytes) -> object:
    """What `unpack` makes of both together: if they are long bytes behind their header, without a copy."""
    if _is_long(rest) and head == _bytes_header(rest):
        return rest
    return unpack(head + rest)


def to_json(value: object) -> object:
    """
    The value as JSON has it.

    Bytes become base64, dates and times ISO 8601, Decimal and UUID text, NaN and infinity text, and keys
    text; if two keys become the same, the later one stays.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _number_text(value)
    if isinstance(value, bytes | bytearray):
        return binascii.b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, dict):
        return {_key_text(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return key
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(to_json(key))


def _number_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _is_plain(value: object) -> bool:
    """One plain value, or a dict or list of such: most arguments and results, so this looks at C's speed."""
    kind = type(value)
    if kind is dict:
        return _TEXT.issuperset(map(type, value)) and _PLAIN.issuperset(map(type, value.values()))  # type: ignore[call-overload, attr-defined]  # mypy does not narrow by this
    if kind is list:
        return _PLAIN.issuperset(map(type, value))  # type: ignore[call-overload]  # as above
    return kind in _PLAIN


def _structure_problem(value: object) -> str | None:
    """
    Why the containers of a value cannot travel, if so; leaves are not looked at.

    Level by level, each container once a level: a value that contains itself ends at the depth limit.
    """
    level: list[object] = [value]
    for _ in range(DEPTH_LIMIT):
        found: dict[int, object] = {}
        for container in level:
            items: Iterable[object]
            if isinstance(container, dict):
                if any(type(key) is not str and not _is_key(key) for key in container):
                    return "key"
                items = container.values()
            elif isinstance(container, _CONTAINERS):
                items = container
            else:
                continue
            for item in items:
                if isinstance(item, _CONTAINERS):
                    found[id(item)] = item
        if not found:
            return None
        level = list(found.values())
    return "depth"


def _is_key(key: object) -> bool:
    if isinstance(key, int):
        return -(2**63) <= key < 2**64
    return isinstance(key, _KEYS)


def _extension(value: object) -> object:
    """What msgpack does not know by itself, in a form that it does."""
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, int):
        return _extended_integer(value)
    if isinstance(value, datetime.datetime):
        return msgpack.ExtType(_DATETIME, value.isoformat().encode())
    if isinstance(value, datetime.date):
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    if isinstance(value, datetime.time):
        return msgpack.ExtType(_TIME, value.isoformat().encode())
    # Whoever has a Decimal or a UUID has loaded its module; others need not.
    decimal, uuid = sys.modules.get("decimal"), sys.modules.get("uuid")
    if decimal is not None and isinstance(value, decimal.Decimal):
        text = str(value).encode()
        if len(text) > _EXTENSION_LIMIT:
            raise ValueError(f"a Decimal of {len(text)} characters; the limit is {_EXTENSION_LIMIT}")
        return msgpack.ExtType(_DECIMAL, text)
    if uuid is not None and isinstance(value, uuid.UUID):
        return msgpack.ExtType(_UUID, value.bytes)
    raise TypeError(f"a value of type {type(value).__name__}")


def _extended_integer(value: int) -> object:
    size = value.bit_length() // 8 + 1
    if size > _INTEGER_LIMIT:
        raise ValueError(f"an integer of {value.bit_length()} bits; the limit is {_INTEGER_LIMIT * 8 - 1}")
    return msgpack.ExtType(_INTEGER, value.to_bytes(size, "big", signed=True))


def _decimal(data: bytes) -> object:
    import decimal  # noqa: PLC0415 - the worker loads this module, and few results hold a Decimal

    return decimal.Decimal(data.decode("ascii"))


def _uuid(data: bytes) -> object:
    import uuid  # noqa: PLC0415 - as above

    return uuid.UUID(bytes=data)


def _integer(data: bytes) -> object:
    return int.from_bytes(data, "big", signed=True)


_RESTORE: dict[int, Callable[[bytes], object]] = {
    _DATETIME: lambda data: datetime.datetime.fromisoformat(data.decode("ascii")),
    _DATE: lambda data: datetime.date.fromisoformat(data.decode("ascii")),
    _TIME: lambda data: datetime.time.fromisoformat(data.decode("ascii")),
    _DECIMAL: _decimal,
    _UUID: _uuid,
    _INTEGER: _integer,
}


def _restored(code: int, data: bytes) -> object:
    restore = _RESTORE.get(code)
    if restore is None:
        raise WireError(f"A payload holds an unknown type ({code}).")
    if len(data) > (_INTEGER_LIMIT if code == _INTEGER else _EXTENSION_LIMIT):
        raise WireError("A payload holds a number that is too long.")
    return restore(data)


def _mapping(pairs: list[tuple[object, object]]) -> dict[object, object]:
    for key, _ in pairs:
        if type(key) is not str and not _is_key(key):
            raise WireError("A payload has a key that is neither text nor a number.")
    return dict(pairs)


def _check_complete(data: bytes | bytearray) -> None:
    """
    Every announced item is there, and nothing after them.

    Without this, a few hundred bytes of nested headers could announce, and make the parser allocate,
    gigabytes.
    """
    reader = msgpack.Unpacker(max_buffer_size=max(len(data), 1), strict_map_key=False)
    reader.feed(data)
    reader.skip()
    if reader.tell() != len(data):
        raise WireError("Bytes follow a payload.")


def _located(value: object, place: str, depth: int = 0) -> Exception:
    """What is wrong with a value that could not be packed, and where; it is slow, and needed once."""
    if depth > DEPTH_LIMIT:
        return ValueError(f"{place.partition('[')[0]}: nested deeper than {DEPTH_LIMIT} levels")
    items: Iterable[tuple[str, object]] = ()
    if isinstance(value, dict):
        for key in value:
            if not _is_key(key):
                return TypeError(f"{place}: a key of type {type(key).__name__}")
            if _alone(key, place) is not None:
                return ValueError(f"{place}: a key that is no valid text")
        items = ((f"{place}[{_short(key)}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        items = ((f"{place}{{...}}", item) for item in value)
    else:
        return _alone(value, place) or TypeError(f"{place}: it cannot be packed")
    for inner, item in items:
        if isinstance(item, _CONTAINERS):
            if _unpackable(item):
                return _located(item, inner, depth + 1)
        elif (fault := _alone(item, inner)) is not None:
            return fault
    return ValueError(f"{place}: it is too large to be packed")


def _unpackable(value: object) -> bool:
    if _structure_problem(value) is not None:
        return True
    try:
        msgpack.packb(value, default=_extension, use_bin_type=True)
    except (TypeError, ValueError, OverflowError):
        return True
    return False


def _alone(value: object, place: str) -> Exception | None:
    """What is wrong with a value that is no container."""
    try:
        msgpack.packb(value, default=_extension, use_bin_type=True)
    except UnicodeEncodeError:
        return ValueError(f"{place}: text with half of a surrogate pair")
    except TypeError:
        return TypeError(f"{place}: a value of type {type(value).__name__}")
    except (ValueError, OverflowError) as fault:
        return ValueError(f"{place}: {fault}")
    return None


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 40 else f"{text[:37]}..."
