# SPDX-License-Identifier: MIT
"""
What a daemon and its launcher say to each other, as JSON, one object a packet.

To the launcher: ``launch`` (with two descriptors: the worker's channel and its output pipe), ``fill``
(packages, and bounds if not the usual ones), ``until`` (it is to be ended at this time of the boot-time
clock; the latest word counts), ``kill``. From it: ``launched``, ``failed`` (no sandbox was made), ``filled``,
``unfilled`` (with ``passes`` if this machine is short of something), ``exited`` (no process of it is alive
and its scratch is gone; with the limit that it had reached, in words, and whether its time had passed),
``refused`` (that was no request). A request names things only by number, package and version; it cannot name
a path, a uid or a command.
"""

from __future__ import annotations

import array
import json
import re
import socket
from typing import NamedTuple

PACKET_LIMIT = 16 * 1024
"""Bytes of one packet; the longest request is smaller."""

PACKAGES_LIMIT = 64
"""Packages of one worker."""

LAUNCH, FILL, UNTIL, KILL = "launch", "fill", "until", "kill"

LAUNCHED, FAILED, FILLED, UNFILLED, EXITED, REFUSED = (
    "launched",
    "failed",
    "filled",
    "unfilled",
    "exited",
    "refused",
)

_DESCRIPTORS_LIMIT = 4
"""Descriptors taken from one packet; a request has two."""

_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}|\.site")
"""A package, or the installed requirements of a task, which stand beside its packages."""
_VERSION = re.compile(r"[0-9a-f]{8,128}")
_HIGHEST_NUMBER = 2**53


class RequestFault(Exception):
    """The packet is no request; the text says why, and ``number`` is the worker's if that was told."""

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.number = number


class Request(NamedTuple):
    """
    One request. ``packages``, each a name and a version, and ``bounds`` are given for ``fill`` only,
    ``until`` for ``until``, the rest for ``launch``.
    """

    what: str
    number: int
    packages: tuple[tuple[str, str], ...] = ()
    bounds: object = None
    """What the worker may use, not checked yet; None for the usual."""
    network: bool = False
    """With the host's network."""
    probe: bool = False
    """Not a worker, but the self-tests of the sandbox."""
    until: float = 0.0


def encode(what: str, number: int, **details: object) -> bytes:
    """One packet."""
    return json.dumps({"what": what, "id": number, **details}, separators=(",", ":")).encode()


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and the descriptors that came along, closed at exec (which socket.recv_fds forgets)."""
    room = socket.CMSG_SPACE(_DESCRIPTORS_LIMIT * array.array("i").itemsize)
    packet, ancillary, _, _ = control.recvmsg(PACKET_LIMIT + 1, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, list(descriptors)


def decode_request(packet: bytes) -> Request:
    """The request in a packet; `RequestFault` if it is none, or names what may not be named."""
    if len(packet) > PACKET_LIMIT:
        raise RequestFault("The packet is too large.")
    try:
        read = json.loads(packet)
    except (ValueError, RecursionError):
        raise RequestFault("The packet is not JSON.") from None
    if not isinstance(read, dict):
        raise RequestFault("The packet is not a JSON object.")
    number = read.get("id")
    if type(number) is not int or not 0 < number < _HIGHEST_NUMBER:
        raise RequestFault("The id is not a positive integer.")
    try:
        return _request(read, number)
    except RequestFault as fault:
        raise RequestFault(str(fault), number) from None


def _request(read: dict[str, object], number: int) -> Request:
    what = read.get("what")
    if what == LAUNCH:
        return Request(what, number, network=_flag(read, "network"), probe=_flag(read, "probe"))
    if what == KILL:
        return Request(what, number)
    if what == UNTIL:
        return Request(what, number, until=_time(read.get("at")))
    if what != FILL:
        raise RequestFault("There is no such request.")
    return Request(FILL, number, _packages(read.get("packages")), read.get("bounds"))


def _flag(read: dict[str, object], name: str) -> bool:
    value = read.get(name, False)
    if not isinstance(value, bool):
        raise RequestFault(f"{name} is neither true nor false.")
    return value


def _time(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < _HIGHEST_NUMBER:  # type: ignore[operator]
        raise RequestFault("The time is no number of seconds.")
    return float(value)  # type: ignore[arg-type]


def _packages(listed: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(listed, list) or not 0 < len(listed) <= PACKAGES_LIMIT:
        raise RequestFault(f"The packages are not a list of 1 to {PACKAGES_LIMIT}.")
    found: dict[str, str] = {}
    for one in listed:
        if not isinstance(one, list) or len(one) != 2:
            raise RequestFault("A package is not a name and a version.")
        package, version = one
        if not isinstance(package, str) or not _PACKAGE.fullmatch(package):
            raise RequestFault("The package is not a Python identifier.")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise RequestFault("The version is not a hexadecimal digest.")
        if package in found:
            raise RequestFault("A package is named twice.")
        found[package] = version
    return tuple(found.items())
