# SPDX-License-Identifier: MIT
"""
What the client of a session and the master say to each other, as MessagePack arrays in binary messages.

The first item of an array is the number of the message, the others are its fields, in order; those with a
default may be left out at the end, and a reader ignores items after those it knows. Units are columns: one
list of indexes, one of arguments or results. See ``docs/reference/session.md``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from pydra.errors import WireError
from pydra.model.unit import OUTSTANDING_BYTES, OUTSTANDING_LIMIT

SUBPROTOCOL: Final = "pydra.session.1"
"""What is named in ``Sec-WebSocket-Protocol``; another number would be another protocol."""

LARGEST_INDEX: Final = 2**53 - 1

Index = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_INDEX)]
"""Of a unit; the client chooses it, and never twice in a session."""

Instance = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Open(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Begin a session for units of a task; a request key that was used before means the session of then."""

    task: str
    request_key: str = ""
    options: dict[str, Any] = {}
    """Of any JSON type; ``unit_time_limit`` is in seconds, the others are those of a submission."""


class Attach(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Go on with a session; these units are still waited for."""

    instance: Instance
    indexes: list[Index] = []


class Units(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """
    Run these units: their indexes, or the first one of a row, and the MessagePack of the arguments of each.

    A unit that is known with the same arguments is not run again.
    """

    indexes: Index | list[Index]
    args: list[bytes]


class Close(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The session is over: what did not run never does, and the instance is complete."""


class Opened(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The session goes on here; of the units that an ``Attach`` waits for, ``missing`` never came."""

    instance: int
    units: int = OUTSTANDING_LIMIT
    """How many may be outstanding: sent, and their results not received."""
    bytes: int = OUTSTANDING_BYTES
    """And of how many bytes of arguments."""
    missing: list[int] = []


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """The units of a message are on the disk; ``indexes`` as they were in it, without those refused."""

    indexes: int | list[int]
    count: int


class Results(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """
    What came of units: the MessagePack of each result, on the disk already.

    The unit at a position in ``failures`` failed: code, message, traceback.
    """

    indexes: list[int]
    results: list[bytes]
    failures: dict[int, tuple[str, str, str]] = {}


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """Something is not done: a code of ``pydra.errors``, a sentence, and the units that it is about."""

    code: str
    message: str
    indexes: list[int] = []


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The instance is final, with this integer of ``Status``; the socket is closed after this."""

    status: int
    complete: int
    failed: int
    queued: int
    code: str = ""
    message: str = ""


ToSession = Open | Attach | Units | Close
ToClient = Opened | Stored | Results | Refused | Ended

_encoder = msgspec.msgpack.Encoder()
_to_session = msgspec.msgpack.Decoder(ToSession)
_to_client = msgspec.msgpack.Decoder(ToClient)


def encode(message: ToSession | ToClient) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode_to_session(data: bytes) -> ToSession:
    """What a client sent; `WireError` if it is not that."""
    message: ToSession = _decoded(_to_session, data)
    return message


def decode_to_client(data: bytes) -> ToClient:
    """What a master sent; `WireError` if it is not that."""
    message: ToClient = _decoded(_to_client, data)
    return message


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:  # of a union, which has no type
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise WireError(f"This is no message of a session: {fault}") from None
