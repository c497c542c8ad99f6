# SPDX-License-Identifier: MIT
"""
Length-prefixed frames between node (or master) and worker, over one inherited socketpair.

A frame is four bytes of length, big-endian, and a MessagePack array whose first item is one of the numbers
below. The worker says ``READY`` once; then it is sent exactly one of ``RUN`` or ``SERVE`` (``PRIME`` may come
before it), ``DESCRIBE``, ``UNPACK``, or any number of ``VALIDATE``. Payloads above one frame come as ``PART``
frames that belong to the answer after them.

The worker loads this module, so it imports nothing but the C part of msgpack.
"""

from __future__ import annotations

import msgpack

from pydra.errors import WireError

FRAME_LIMIT = 1024 * 1024
"""Bytes of a frame after its length; a longer announcement is refused from the header alone."""

PART_SIZE = 512 * 1024
"""Bytes of payload in one ``PART``."""

ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of a whole payload in parts; the arguments and the result of a RUN have the limit of any payload."""

COLUMN_LIMIT = 16 * 1024
"""Items of one array or map; the longest are of the units that a task waits for, or of files: 10,000."""

CONTAINERS_LIMIT = 16 * 1024
"""Arrays and maps in one frame: each costs far more than its byte. Thousands of failures are as many."""

# To the worker.
RUN = 1
"""
[RUN, attempt: str, instance: int, task_key: str, package: str, args: bytes, worker_key: str,
dependencies: list of str]; the last two are optional. Dependencies are packages that are mounted too, in the
order in which they are looked into.
"""
STOP = 2
"""[STOP]: set the stop flag."""
DESCRIBE = 3
"""
[DESCRIBE, package: str, version: str, dependencies: list of str, files: list of str]; the last two are
optional. Without files, all of them are looked at.
"""
VALIDATE = 4
"""
[VALIDATE, request: int, package: str, task_key: str, args: bytes, dependencies: list of str]; the last is
optional.
"""
MORE = 5
"""[MORE, bytes]: a part of the arguments of the next RUN or VALIDATE; or the answer to a WANTED or a PART."""
UNPACK = 6
"""[UNPACK, package: str]: unpack an uploaded package, whose bytes follow when they are wanted."""
PRIME = 7
"""
[PRIME, package: str, module: str, dependencies: list of str]: import a module of a package that is mounted,
ahead of the RUN that may follow, which is of the same package. It is answered by ``PRIMED``.
"""
SERVE = 8
"""
[SERVE, worker: str, instance: int, task_key: str, package: str, worker_key: str, dependencies: list of str]:
instead of RUN, load the task and then run the units that follow.
"""
UNITS = 9
"""
[UNITS, batch: str, branch: str, indexes: list of int, args: list of bytes]: run them in order, after those
before; arguments that are larger than a part come alone (the one unit of a UNITS), in MOREs before it. Each
UNITS has a name of its own in ``batch``, which its DONEs repeat.
"""
RESULTS = 10
"""
[RESULTS, branch: str, indexes: list of int, results: list of bytes, failures: {position: [code, message,
traceback]}]: what came of units that were asked for, recorded. A result that is larger than a part comes
alone, in MOREs before it.
"""

# From the worker.
READY = 16
"""
[READY]: the runtime is loaded; a package may be mounted and work sent. Said again after a SERVE: the task is
loaded, so the time of the first unit counts from now.
"""
PROGRESS = 17
"""[PROGRESS, percent: int, message: str | None]"""
LOG = 18
"""
[LOG, [[time: float, level: str, stream: str, text: str], ...], branch: str, index: int]; the last two are of
a unit's lines only.
"""
PART = 19
"""[PART, bytes]: a part of the payload of the next answer."""
RESULT = 20
"""[RESULT, bytes]: the (rest of the) result; the unit is complete."""
FAILED = 21
"""[FAILED, code: str, message: str, traceback: str]"""
STOPPED = 22
"""[STOPPED]: the task ended after its stop flag was set, by whomever; there is no result."""
DESCRIBED = 23
"""[DESCRIBED, bytes]: the (rest of the) MessagePack of a ``PackageDescription``."""
VALIDATED = 24
"""[VALIDATED, request: int, valid: bool, bytes]: the cleaned arguments, or a map of field to messages."""
WANTED = 25
"""[WANTED]: the next bytes of the uploaded package, in a MORE; an empty one means that there are no more."""
UNPACKED = 26
"""[UNPACKED, version: str]: the archive of the package went before, in PARTs, each answered by a MORE."""
PRIMED = 27
"""[PRIMED, fault: str, memory: int]: the module is imported (or why not, in words); the bytes of it all."""
ASK = 28
"""
[ASK, branch: str, indexes: list of int, args: list of bytes, digests: bytes, time_limit: float, guarantee:
int]: the running task wants these units run; arguments that are larger than a part come alone, in PARTs
before it. The last, a ``Guarantee``, is optional.
"""
FORGET = 29
"""[FORGET, branch: str]: no more results of these are wanted."""
DONE = 30
"""
[DONE, batch: str, start: int, results: list of bytes, failures: {position: [code, message, traceback]},
busy_s: float]: results of a batch from position ``start`` on, in its order; the positions of failures count
from ``start``. A result that is larger than a part comes alone (the one of a DONE), in PARTs before it.
"""
LONG = 31
"""
[LONG, size: int]: the result of the RUN, whose PARTs follow, has so many bytes, which are above ANSWER_LIMIT.
After it the channel may not be read for a while, until there is room for them.
"""


def encode(frame: list[object]) -> bytes:
    """A frame with its length in front; `WireError` if it is above the limit."""
    if len(frame) == 2:
        kind, data = frame
        if isinstance(kind, int) and isinstance(data, bytes | memoryview) and len(data) > _LONG:
            return _encode_long(kind, data)
    body: bytes = msgpack.packb(frame, use_bin_type=True)
    if len(body) > FRAME_LIMIT:
        raise WireError(f"A frame of {len(body)} bytes is too large; the limit is {FRAME_LIMIT}.")
    return len(body).to_bytes(4, "big") + body


def _encode_long(kind: int, data: bytes | memoryview) -> bytes:
    """A MORE or a PART, of which each byte is copied once."""
    size = _LONG_HEAD + len(data)
    if size > FRAME_LIMIT:
        raise WireError(f"A frame of {size} bytes is too large; the limit is {FRAME_LIMIT}.")
    head = size.to_bytes(4, "big") + bytes((0x92, kind, 0xC6)) + len(data).to_bytes(4, "big")
    return b"".join((head, data))


_LONG, _LONG_HEAD = 64 * 1024, 7
"""Bytes that are rather not copied than packed, and what stands before them in their frame."""


def in_parts(kind: int, data: bytes) -> tuple[list[list[object]], bytes]:
    """What goes ahead of a frame with a long payload, in PARTs or MOREs, and the rest, which goes in it."""
    ahead: list[list[object]] = []
    start = 0
    while len(data) - start > PART_SIZE:
        ahead.append([kind, data[start : start + PART_SIZE]])
        start += PART_SIZE
    return ahead, data[start:] if start else data


class FrameReader:
    """Takes bytes as they come and gives whole frames; it never holds more than one frame and one read."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes | memoryview) -> list[list[object]]:
        """The frames that ``data`` completes; `WireError` on anything that is not a frame."""
        held = self._held
        held += data
        frames: list[list[object]] = []
        start = 0
        while len(held) - start >= 4:
            size = int.from_bytes(held[start : start + 4], "big")
            if size > self._limit:
                raise WireError(f"A frame of {size} bytes was announced; the limit is {self._limit}.")
            if len(held) - start - 4 < size:
                break
            with memoryview(held) as whole, whole[start + 4 : start + 4 + size] as body:
                frames.append(_decode(body))
            start += 4 + size
        del held[:start]
        return frames


def _map(pairs: list[tuple[object, object]]) -> dict[object, object]:
    """A map by text or number: others could be chosen so that a dict of them takes minutes to build."""
    if not all(type(key) is int or type(key) is str for key, _ in pairs):
        raise ValueError("A map of a frame has other keys.")
    return dict(pairs)


def _decode(body: memoryview) -> list[object]:
    left = CONTAINERS_LIMIT

    def counted(items: list[object]) -> list[object]:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("A frame has too many arrays and maps.")
        return items

    def counted_map(pairs: list[tuple[object, object]]) -> dict[object, object]:
        return _map(counted(pairs))  # type: ignore[arg-type]  # what comes is what goes

    try:
        frame = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=False,
            list_hook=counted,
            object_pairs_hook=counted_map,
            ext_hook=_no_extension,
            max_array_len=COLUMN_LIMIT,
            max_map_len=COLUMN_LIMIT,
            max_ext_len=0,
        )
    except Exception as fault:  # noqa: BLE001 - msgpack raises a dozen kinds, and hostile bytes find them all
        raise WireError(f"This is no frame: {type(fault).__name__}") from None
    if not isinstance(frame, list) or not frame or not isinstance(frame[0], int):
        raise WireError("A frame is an array that begins with a number.")
    return frame


def _no_extension(code: int, data: bytes) -> object:
    """Payloads may have values of these types, frames have none."""
    raise ValueError("A frame has a value of an extension type.")
