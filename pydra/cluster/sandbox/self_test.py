# SPDX-License-Identifier: MIT
"""
What a probe runs in place of a worker: whether the sandbox around it holds what it promises.

Its answer on the channel is a JSON object: the name of each test, and what is wrong, empty if nothing is.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NEW_NAMESPACES = {"user": 0x10000000, "mount": 0x00020000, "network": 0x40000000}
_VARIABLES = {"HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PWD", "TZ"}
_HOST_PLACES = ("/etc/shadow", "/root", "/home", "/run", "/sys", "/var", "/boot", "/mnt", "/srv")
_OWN_PROCESSES = 3
_DESCRIPTORS = 256
_MEMORY_FILES = 64 * 1024 * 1024


def main(channel: int, packages: str) -> None:
    """Run the tests and answer on the descriptor ``channel``."""
    found = {}
    for name, test in _TESTS.items():
        try:
            found[name] = test(channel, packages)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is told
            found[name] = f"{type(fault).__name__}: {fault}"
    os.write(channel, json.dumps(found).encode() + b"\n")


def _files(channel: int, packages: str) -> str:
    seen = [path for path in _HOST_PLACES if os.path.lexists(path)]
    return f"{', '.join(seen)} can be seen" if seen else ""


def _processes(channel: int, packages: str) -> str:
    count = sum(name.isdigit() for name in os.listdir("/proc"))
    return f"{count} processes can be seen" if count > _OWN_PROCESSES else ""


def _environment(channel: int, packages: str) -> str:
    more = sorted(set(os.environ) - _VARIABLES)
    return f"{', '.join(more)} can be seen" if more else ""


def _descriptors(channel: int, packages: str) -> str:
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    more = sorted({int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, channel, listing})
    # Listing opens one of its own, which is closed by now.
    more = [number for number in more if os.path.lexists(f"/proc/self/fd/{number}")]
    os.close(listing)
    return f"the descriptors {more} are open" if more else ""


def _network(channel: int, packages: str) -> str:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except PermissionError:
            continue
        return f"a socket of {family.name} can be made"
    with open("/proc/net/dev") as opened:
        devices = [line.partition(":")[0].strip() for line in opened if ":" in line]
    return f"the network devices {devices} can be seen" if devices not in ([], ["lo"]) else ""


def _status() -> dict[str, str]:
    with open("/proc/self/status") as opened:
        parts = [line.partition(":") for line in opened]
    return {name: value.strip() for name, _, value in parts}


def _filter(channel: int, packages: str) -> str:
    return "" if _status().get("Seccomp") == "2" else "there is no filter of system calls"


def _privileges(channel: int, packages: str) -> str:
    status = _status()
    if status.get("NoNewPrivs") != "1":
        return "new privileges can be gained"
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    held = [name for name in names if int(status.get(name, "0"), 16)]
    return f"there are capabilities ({', '.join(held)})" if held else ""


def _namespaces(channel: int, packages: str) -> str:
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    made = [name for name, flag in _NEW_NAMESPACES.items() if unshare(flag) == 0]
    return f"a new {made[0]} namespace can be made" if made else ""


def _read_only(channel: int, packages: str) -> str:
    for directory in ("/", "/dev", "/etc", "/usr", "/proc", packages):
        try:
            os.close(os.open(f"{directory}/pydra-probe", os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError:
            continue
        return f"{directory} can be written"
    return ""


def _own(channel: int, packages: str) -> str:
    if os.getuid() == 0 or os.getgid() == 0:
        return "it runs as root"
    with open("probe", "w") as opened:
        opened.write("x")
    os.unlink("probe")
    return ""


def _memory_files(channel: int, packages: str) -> str:
    for directory in ("/tmp", "/dev/shm"):  # noqa: S108 - inside
        status = os.statvfs(directory)
        if not 0 < status.f_blocks * status.f_frsize <= _MEMORY_FILES:
            return f"{directory} has no size"
    return ""


def _limits(channel: int, packages: str) -> str:
    unlimited = [
        name
        for name, most in (("CORE", 0), ("NOFILE", _DESCRIPTORS), ("FSIZE", 1 << 60))
        if not 0 <= resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] <= most
    ]
    return f"there is no limit of {', '.join(unlimited)}" if unlimited else ""


_TESTS: dict[str, Callable[[int, str], str]] = {
    "files": _files,
    "processes": _processes,
    "environment": _environment,
    "descriptors": _descriptors,
    "network": _network,
    "filter": _filter,
    "privileges": _privileges,
    "namespaces": _namespaces,
    "read-only": _read_only,
    "own": _own,
    "memory files": _memory_files,
    "limits": _limits,
}
