# SPDX-License-Identifier: MIT
"""
What a sandbox must look like from inside, looked at once per zygote, before it is trusted with workers.

Each line is a promise of the policy. If one does not hold on this machine, bubblewrap makes the sandboxes.
"""

from __future__ import annotations

import os
import resource

from pydra.cluster.sandbox.launcher import policy
from pydra.cluster.sandbox.launcher.forking import kernel

TYPE_CHECKING = False  # typing's own is not needed here, and every worker would carry it
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

_FILTERED = 2
_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
_TOP = {
    "bin",
    "data",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "opt",
    "proc",
    "sbin",
    "task",
    "tmp",
    "usr",
}
_WRITABLE = {"/proc", "/tmp", "/dev/pts", "/dev/shm", policy.WORK}  # noqa: S108 - inside
_NO_DEVICES = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts"}


class Probe:
    """Knows what is outside, so that it can tell that it is not there."""

    def __init__(self, limits: list[tuple[int, int]]) -> None:
        self._limits = limits
        self._outside = _namespaces()

    def look(self) -> NoReturn:
        """End with 0, or say on descriptor 2 what is not as it must be."""
        faults = [*self._identity(), *self._place(), *self._mounts(), *self._closed()]
        os.write(2, "; ".join(faults).encode(errors="replace"))
        os._exit(1 if faults else 0)

    def _identity(self) -> Iterator[str]:
        if (os.getuid(), os.getgid(), os.geteuid(), os.getegid()) != (policy.UID,) * 4:
            yield "the uid is not that of a worker"
        if os.getpid() != 2 or os.getsid(0) != 1 or os.getppid() != 1:
            yield "the worker is not pid 2, below pid 1 and in its session"
        with open("/proc/self/status") as opened:
            status = dict(line.split(":", 1) for line in opened)
        if any(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
            yield "there are capabilities"
        if int(status["NoNewPrivs"]) != 1:
            yield "new privileges can be had"
        if int(status["Seccomp"]) != _FILTERED:
            yield "there is no filter of system calls"
        for kind, value in self._limits:
            if max(resource.getrlimit(kind)) > value:
                yield f"limit {kind} is not lowered"

    def _place(self) -> Iterator[str]:
        inside = _namespaces()
        yield from (
            f"the {name} namespace is not new" for name in inside if inside[name] == self._outside[name]
        )
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
        if len(processes) != 2:
            yield "other processes can be seen"
        if os.uname().nodename != policy.HOST_NAME:
            yield "the host has another name"
        if os.getcwd() != policy.WORK:
            yield "the working directory is another one"
        if unknown := set(os.listdir("/")) - _TOP:
            yield f"there is {sorted(unknown)} at the root"
        with open("/proc/self/net/dev") as opened:
            if [line.split(":")[0].strip() for line in opened.readlines()[2:]] != ["lo"]:
                yield "there are network interfaces"

    def _mounts(self) -> Iterator[str]:
        seen = set()
        with open("/proc/self/mountinfo") as opened:
            for line in opened:
                target, flags = line.split()[4], line.split()[5].split(",")
                seen.add(target)
                if "rw" in flags and target not in _WRITABLE and target not in _NO_DEVICES:
                    yield f"{target} can be written"
                if "nosuid" not in flags:
                    yield f"{target} has set-uid programs"
                if "nodev" not in flags and target not in _NO_DEVICES:
                    yield f"{target} has devices"
        yield from (f"{name} is not mounted" for name in _WRITABLE - seen)

    def _closed(self) -> Iterator[str]:
        open_now = [int(name) for name in os.listdir("/proc/self/fd")]
        if [number for number in open_now if number > policy.CHANNEL and _is_open(number)]:
            yield "there are more descriptors"
        for flags, name in ((kernel.CLONE_NEWUSER, "user"), (kernel.CLONE_NEWNS, "mount")):
            try:
                kernel.unshare(flags)
            except OSError:
                continue
            yield f"a {name} namespace can be made"


def _namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES}


def _is_open(number: int) -> bool:
    """True unless it was the one that the list of descriptors was read from."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
