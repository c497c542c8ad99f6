# SPDX-License-Identifier: MIT
"""
The filter of system calls: a deny list, as the program that the kernel runs before each call of a worker.

``program`` builds the bytes, from values alone. bubblewrap reads them from a descriptor; a forked worker puts
them on itself (``forking.kernel.Filter``).

Denied calls answer EPERM, except those whose arguments a filter cannot see (clone3, io_uring): they answer
ENOSYS, so that libraries use older ones. A call of a foreign architecture ends the process.
"""

from __future__ import annotations

import errno
import os
import struct

from pydra.cluster.sandbox.launcher.system_calls import ARCHITECTURES, DENIED, LOOKED_AT, NUMBERS, UNKNOWN

_LOAD, _AND = 0x20, 0x54
_JUMP, _EQUAL, _AT_LEAST, _ANY_BIT = 0x05, 0x15, 0x35, 0x45
_RETURN = 0x06

_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where the kernel puts them; an argument has eight bytes, the lower half first."""

_NAMESPACES = 0x02000000 | 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""Flags of clone: cgroup, mount, uts, ipc, user, pid and network namespace."""

_TIME_NAMESPACE = 0x80
"""A flag of unshare alone; in clone it is a part of the signal."""

_TERMINAL_INPUT, _TERMINAL_CONSOLE = 0x5412, 0x541C
"""TIOCSTI and TIOCLINUX."""

_UNIX, _INET, _INET6 = 1, 2, 10
_STREAM, _DATAGRAM, _KIND_MASK = 1, 2, 0xF
_PROTOCOLS = (0, 6, 17)
"""Of internet sockets: the usual one, TCP, UDP."""


class NoFilter(Exception):
    """There is no filter for this machine; the text says why."""


class _Assembler:
    """Instructions with jumps to labels that come later."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, str, str]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, value: int, then: str = "", otherwise: str = "") -> None:
        """One instruction; an empty label is the next instruction."""
        self._lines.append((code, value, then, otherwise))

    def label(self, name: str) -> None:
        """The next instruction can be jumped to by this name."""
        self._labels[name] = len(self._lines)

    def assemble(self) -> bytes:
        """The program. A jump of a comparison reaches 255 instructions."""
        made = []
        for at, (code, value, then, otherwise) in enumerate(self._lines):
            steps = [self._labels[name] - at - 1 if name else 0 for name in (then, otherwise)]
            if code == _JUMP:
                value, steps = steps[0], [0, 0]
            made.append(struct.pack("<HBBI", code, *steps, value))
        return b"".join(made)


def program(inet: bool, machine: str = "") -> bytes:
    """
    The filter for ``machine`` (by default this one); with ``inet``, TCP and UDP sockets are allowed.

    `NoFilter` for an architecture that is not known here.
    """
    machine = machine or os.uname().machine
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise NoFilter(f"There is no filter of system calls for {machine}.")
    made = _Assembler()
    made.add(_LOAD, _ARCHITECTURE)
    made.add(_EQUAL, architecture.audit, "", "kill")
    made.add(_LOAD, _NUMBER)
    if architecture.foreign_bit:
        made.add(_AT_LEAST, architecture.foreign_bit, "kill", "")
    for names, label in ((UNKNOWN, "unknown"), (DENIED, "denied")):
        for name in names:
            number = NUMBERS[name][architecture.column]
            if number is not None:
                made.add(_EQUAL, number, label, "")
    for name in LOOKED_AT:
        number = NUMBERS[name][architecture.column]
        assert number is not None
        made.add(_EQUAL, number, name, "")
    made.add(_JUMP, 0, "allowed")
    _look_at_arguments(made, inet)
    for label, answer in (
        ("denied", _ERROR | errno.EPERM),
        ("unknown", _ERROR | errno.ENOSYS),
        ("kill", _KILL),
        ("allowed", _ALLOW),
    ):
        made.label(label)
        made.add(_RETURN, answer)
    return made.assemble()


def _look_at_arguments(made: _Assembler, inet: bool) -> None:
    """The kernel reads the lower half of these arguments alone, and so does this."""

    def argument(index: int) -> None:
        made.add(_LOAD, _ARGUMENTS + 8 * index)

    made.label("clone")
    argument(0)
    made.add(_ANY_BIT, _NAMESPACES, "denied", "allowed")
    made.label("unshare")
    argument(0)
    made.add(_ANY_BIT, _NAMESPACES | _TIME_NAMESPACE, "denied", "allowed")
    made.label("ioctl")
    argument(1)
    made.add(_EQUAL, _TERMINAL_INPUT, "denied", "")
    made.add(_EQUAL, _TERMINAL_CONSOLE, "denied", "allowed")
    made.label("socketpair")
    argument(0)
    made.add(_EQUAL, _UNIX, "allowed", "denied")
    made.label("socket")
    argument(0)
    if not inet:
        made.add(_EQUAL, _UNIX, "allowed", "denied")
        return
    made.add(_EQUAL, _UNIX, "allowed", "")
    made.add(_EQUAL, _INET, "internet", "")
    made.add(_EQUAL, _INET6, "internet", "denied")
    made.label("internet")
    argument(1)
    made.add(_AND, _KIND_MASK)
    made.add(_EQUAL, _STREAM, "protocol", "")
    made.add(_EQUAL, _DATAGRAM, "protocol", "denied")
    made.label("protocol")
    argument(2)
    for protocol in _PROTOCOLS[:-1]:
        made.add(_EQUAL, protocol, "allowed", "")
    made.add(_EQUAL, _PROTOCOLS[-1], "allowed", "denied")


def as_descriptor(built: bytes) -> int:
    """A descriptor to read the filter from once, which bubblewrap does; the caller closes it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writing, built)  # far less than a pipe holds
    finally:
        os.close(writing)
    return reading
