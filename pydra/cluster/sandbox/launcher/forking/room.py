# SPDX-License-Identifier: MIT
"""
The mount namespace of the zygote, built once: what each sandbox then needs of its own is six mounts.

It holds two rooms. The outer one is where the zygote lives; everything in it has the name that it has in a
sandbox, so the interpreter that is started there finds its modules by the names that workers will see. The
inner one, at ``INNER``, is what a sandbox gets as its root. Beside them are the scratch of all sandboxes and
the host's ``/proc`` (the kernel wants to see one before it gives out another); a sandbox leaves both behind.
"""

from __future__ import annotations

import os

from pydra.cluster.sandbox.launcher.forking import kernel
from pydra.cluster.sandbox.launcher.policy import PACKAGES, WORK, Room

INNER, SCRATCH = "/sandbox", "/scratch"
_OLD = "/old"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}
_PLACES = ("/proc", "/tmp", "/dev/shm", "/dev/pts", PACKAGES, WORK)  # noqa: S108 - inside
"""Where a sandbox mounts what is its own."""


def build(room: Room, scratch: str) -> None:
    """
    Move this process into the zygote's mount namespace, with the outer room as its root. `OSError`.

    Without privileges it is in a new user namespace too, which keeps its uid.
    """
    sources = [(os.path.realpath(source), target) for source, target in room.binds]
    scratch = os.path.realpath(scratch)
    uid, gid = os.geteuid(), os.getegid()
    if uid:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        kernel.map_ids(uid, gid, -1)
    else:
        kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(b"none", b"/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    _memory("/tmp")  # noqa: S108 - covered in this namespace alone, to stand on while the root is exchanged
    os.mkdir(f"/tmp{_OLD}", 0o755)  # noqa: S108
    kernel.pivot_root(b"/tmp", f"/tmp{_OLD}".encode())  # noqa: S108
    os.chdir("/")
    os.mkdir(INNER, 0o755)
    _memory(INNER)
    for top in ("", INNER):
        _furnish(top, sources, room)
    _devices()
    for place in _PLACES:
        os.makedirs(INNER + place, 0o755, exist_ok=True)
    _bind("/proc", "/proc", read_only=None)
    _bind(scratch, SCRATCH, read_only=False)
    kernel.protect(f"{INNER}/dev".encode(), below=False)
    kernel.protect(INNER.encode(), below=False)
    kernel.detach(_OLD.encode())
    os.rmdir(_OLD)
    kernel.protect(b"/", below=False)


def _furnish(top: str, sources: list[tuple[str, str]], room: Room) -> None:
    for source, target in sources:
        _bind(source, top + target, read_only=True)
    for link in room.links:
        os.symlink(link.target, top + link.path)


def _devices() -> None:
    os.mkdir(f"{INNER}/dev", 0o755)
    _memory(f"{INNER}/dev")
    for name in _DEVICES:
        with open(f"{INNER}/dev/{name}", "x"):
            pass
        target = f"{INNER}/dev/{name}".encode()
        kernel.mount(f"{_OLD}/dev/{name}".encode(), target, None, kernel.MS_BIND)
        kernel.protect(target, read_only=False, devices=True)
    for name, linked in _DEVICE_LINKS.items():
        os.symlink(linked, f"{INNER}/dev/{name}")


def _memory(path: str) -> None:
    kernel.mount(b"tmpfs", path.encode(), b"tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, b"mode=0755,size=1m")


def _bind(source: str, target: str, *, read_only: bool | None) -> None:
    """Bind a directory of the old root, with what is mounted below it; None changes nothing about it."""
    os.makedirs(target, 0o755, exist_ok=True)
    kernel.mount(os.fsencode(_OLD + source), os.fsencode(target), None, kernel.MS_BIND | kernel.MS_REC)
    if read_only is not None:
        kernel.protect(os.fsencode(target), read_only=read_only)
