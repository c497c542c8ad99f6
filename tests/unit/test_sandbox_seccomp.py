# SPDX-License-Identifier: MIT
"""What the filter of system calls answers, on each architecture."""

from __future__ import annotations

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from pydra.cluster.sandbox.launcher import seccomp
from pydra.cluster.sandbox.launcher.system_calls import ARCHITECTURES, DENIED, NUMBERS, UNKNOWN
from tests.support.filter_machine import ALLOW, KILL, answer

MACHINES = sorted(ARCHITECTURES)
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
NEW_USER, NEW_TIME, THREAD = 0x10000000, 0x80, 0x003D0F00
UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK = 1, 2, 10, 16, 17, 38, 40
STREAM, DATAGRAM, RAW = 1, 2, 3


class Filter:
    """One build, asked by name."""

    def __init__(self, inet: bool, machine: str) -> None:
        self.program = seccomp.program(inet, machine)
        self.architecture = ARCHITECTURES[machine]

    def ask(self, name: str, *arguments: int) -> str | int:
        """What it answers to a call."""
        number = NUMBERS[name][self.architecture.column]
        assert number is not None
        return answer(self.program, self.architecture.audit, number, *arguments)


@pytest.fixture(params=MACHINES)
def closed(request: pytest.FixtureRequest) -> Filter:
    """The build without internet sockets."""
    return Filter(False, request.param)


@pytest.fixture(params=MACHINES)
def inet(request: pytest.FixtureRequest) -> Filter:
    """The build with them."""
    return Filter(True, request.param)


@pytest.mark.parametrize("name", DENIED)
def test_denied_calls_are_not_permitted(closed: Filter, name: str) -> None:
    """Whatever their arguments."""
    if NUMBERS[name][closed.architecture.column] is not None:
        assert errno.EPERM == closed.ask(name)


@pytest.mark.parametrize("name", UNKNOWN)
def test_calls_with_hidden_arguments_do_not_exist(closed: Filter, name: str) -> None:
    """Libraries then use older ones."""
    assert errno.ENOSYS == closed.ask(name)


@pytest.mark.parametrize("number", [0, 1, 57, 59, 220 + 1, 231])
def test_ordinary_calls_are_allowed(closed: Filter, number: int) -> None:
    """Reading, writing, executing, ending."""
    assert ALLOW == answer(closed.program, closed.architecture.audit, number)


@pytest.mark.parametrize("flag", [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)])
def test_new_namespaces_are_denied(closed: Filter, flag: int) -> None:
    """By each flag of clone and unshare, among other flags too."""
    assert errno.EPERM == closed.ask("clone", flag | 17)
    assert errno.EPERM == closed.ask("unshare", flag | 0x400)


def test_threads_and_processes_are_allowed(closed: Filter) -> None:
    """What is no namespace; the bit of time namespaces is a part of the signal in clone."""
    assert [ALLOW] * 3 == [closed.ask("clone", flags) for flags in (17, THREAD, NEW_TIME)]
    assert ALLOW == closed.ask("unshare", 0x400)
    assert errno.EPERM == closed.ask("unshare", NEW_TIME)


@pytest.mark.parametrize("command", [0x5412, 0x541C, 0x5412 | 1 << 32])
def test_typing_into_a_terminal_is_denied(closed: Filter, command: int) -> None:
    """TIOCSTI and TIOCLINUX; the kernel looks at the lower half of the argument alone."""
    assert errno.EPERM == closed.ask("ioctl", 0, command)
    assert ALLOW == closed.ask("ioctl", 0, 0x5413)


@pytest.mark.parametrize("family", [INET, INET6, NETLINK, PACKET, ALG, VSOCK, 0, 99, INET | 1 << 32])
def test_only_unix_sockets_without_network(closed: Filter, family: int) -> None:
    """Every other family is denied."""
    assert errno.EPERM == closed.ask("socket", family, STREAM)
    assert ALLOW == closed.ask("socket", UNIX, STREAM)


@pytest.mark.parametrize("family", [INET, INET6])
@pytest.mark.parametrize(
    ("kind", "protocol", "expected"),
    [
        (STREAM, 0, ALLOW),
        (STREAM, 6, ALLOW),
        (DATAGRAM | 0o2000000 | 0o4000, 17, ALLOW),
        (RAW, 1, errno.EPERM),
        (RAW | 0o2000000, 255, errno.EPERM),
        (DATAGRAM, 1, errno.EPERM),
        (STREAM, 262, errno.EPERM),
        (5, 132, errno.EPERM),
    ],
)
def test_tcp_and_udp_with_network(
    inet: Filter, family: int, kind: int, protocol: int, expected: object
) -> None:
    """Neither raw sockets nor rare protocols."""
    assert expected == inet.ask("socket", family, kind, protocol)


@pytest.mark.parametrize("family", [NETLINK, PACKET, ALG, VSOCK, 0, 99])
def test_other_families_stay_denied_with_network(inet: Filter, family: int) -> None:
    """The network is TCP and UDP."""
    assert errno.EPERM == inet.ask("socket", family, STREAM)
    assert ALLOW == inet.ask("socket", UNIX, STREAM)


def test_pairs_are_unix_sockets(closed: Filter, inet: Filter) -> None:
    """In both builds."""
    for one in (closed, inet):
        assert ALLOW == one.ask("socketpair", UNIX, STREAM)
        assert errno.EPERM == one.ask("socketpair", 30, STREAM)


def test_foreign_calls_end_the_process(closed: Filter) -> None:
    """Those of another architecture, and those of x32."""
    assert KILL == answer(closed.program, 0x40000003, 1)
    if closed.architecture.foreign_bit:
        assert KILL == answer(closed.program, closed.architecture.audit, closed.architecture.foreign_bit | 39)


def test_an_unknown_machine_has_no_filter() -> None:
    """No filter, no sandbox."""
    with pytest.raises(seccomp.NoFilter, match="mips64"):
        seccomp.program(False, "mips64")


def test_this_machine_is_the_default() -> None:
    """Nothing has to be named."""
    machine = platform.machine()
    if machine in ARCHITECTURES:
        assert seccomp.program(True, machine) == seccomp.program(True)


@pytest.mark.parametrize("machine", MACHINES)
def test_jumps_stay_within_the_program(machine: str) -> None:
    """The kernel would refuse it otherwise, or run into the wrong place."""
    for inet in (False, True):
        lines = list(struct.iter_unpack("<HBBI", seccomp.program(inet, machine)))
        for at, (_, then, otherwise, _) in enumerate(lines):
            assert at + 1 + max(then, otherwise) <= len(lines)
        assert 0x06 == lines[-1][0]


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    """As its headers have them, where they are installed."""
    if not HEADERS[machine].exists():
        pytest.skip("the headers of the kernel are not installed")
    text = HEADERS[machine].read_text()
    known = {name: int(number) for name, number in re.findall(r"__NR(?:3264)?_(\w+)\s+(\d+)", text)}
    column = ARCHITECTURES[machine].column
    for name, numbers in NUMBERS.items():
        if name in known:
            assert known[name] == numbers[column], name


def test_a_descriptor_of_it_can_be_read_once() -> None:
    """Which is what bubblewrap does."""
    import os

    built = seccomp.program(False, "x86_64")
    descriptor = seccomp.as_descriptor(built)
    try:
        assert (built, b"") == (os.read(descriptor, 65536), os.read(descriptor, 1))
    finally:
        os.close(descriptor)
