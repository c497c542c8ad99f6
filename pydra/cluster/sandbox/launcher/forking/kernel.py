# SPDX-License-Identifier: MIT
"""System calls that Python has no function for; each raises `OSError` with the call's name."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
ALL_NAMESPACES = (
    CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
)
"""User, mounts, processes, network, IPC, host name and control groups."""

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4

_PR_SET_SECCOMP, _FILTER_MODE = 22, 2
_MNT_DETACH = 2
_MOUNT_SETATTR = 442  # the same number on every architecture that matters
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_READ_ONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.pivot_root.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_libc.sethostname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_libc.capset.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_libc.syscall.restype = ctypes.c_long
_python = ctypes.PyDLL(None, use_errno=True)
"""Keeps the interpreter's lock during a call."""
_python.syscall.restype = ctypes.c_long

_CLONE3 = 435  # of all architectures, as the other one
_CLONE_PARENT = 0x8000
_APART = (ctypes.c_uint64 * 8)(ALL_NAMESPACES | _CLONE_PARENT)

_NO_CAPABILITIES = (ctypes.c_uint32 * 6)()
_CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    if _libc.unshare(flags):
        _raise("unshare")


def fork_into_namespaces() -> int:
    """
    Fork into new namespaces of all kinds, as one more child of our parent; its pid, 0 in itself. `OSError`.

    Neither Python nor the C library hear of it. So the caller has one thread, and what was forked may fork
    again, which they hear of, but not run what others wrote.
    """
    size = ctypes.c_size_t(ctypes.sizeof(_APART))
    pid: int = _python.syscall(ctypes.c_long(_CLONE3), _APART, size)
    if pid < 0:
        _raise("clone3")
    return pid


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    """Mount."""
    if _libc.mount(source, target, kind, flags, data):
        _raise("mount", target)


def detach(target: bytes) -> None:
    """Unmount, with everything below, also while it is in use."""
    if _libc.umount2(target, _MNT_DETACH):
        _raise("umount2", target)


def pivot_root(new: bytes, old: bytes) -> None:
    """Make ``new`` the root; the old one is at ``old`` afterwards."""
    if _libc.pivot_root(new, old):
        _raise("pivot_root", new)


def protect(target: bytes, *, read_only: bool = True, devices: bool = False, below: bool = True) -> None:
    """No set-uid programs and no devices on a mount (and those ``below``), and nothing to be written."""
    wanted = _ATTR_NOSUID | (0 if devices else _ATTR_NODEV) | (_ATTR_READ_ONLY if read_only else 0)
    attributes = (ctypes.c_uint64 * 4)(wanted, 0, 0, 0)
    flags = _AT_RECURSIVE if below else 0
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    if _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(target),
        ctypes.c_uint(flags),
        ctypes.byref(attributes),
        size,
    ):
        _raise("mount_setattr", target)


def set_host_name(name: bytes) -> None:
    """Name the machine, in the namespace that we are in."""
    if _libc.sethostname(name, len(name)):
        _raise("sethostname")


def prctl(option: int, value: int, value_2: int = 0) -> None:
    """Set something about this process."""
    if _libc.prctl(option, value, value_2, 0, 0):
        _raise("prctl")


def drop_capabilities(last: int) -> None:
    """Have no capability, and be unable to get any up to the number ``last``; no_new_privs on top of it."""
    for number in range(last + 1):
        prctl(PR_CAPBSET_DROP, number)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    if _libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES):
        _raise("capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)


class Filter:
    """A filter of system calls, ready to be applied: a fork copies no memory for it."""

    def __init__(self, program: bytes) -> None:
        self._program = program
        self._told = _Program(len(program) // 8, program)
        self._address = ctypes.addressof(self._told)

    def apply(self) -> None:
        """Put it on this process and all that it starts, for good; it needs no_new_privs."""
        prctl(_PR_SET_SECCOMP, _FILTER_MODE, self._address)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def map_ids(uid: int, gid: int, inside: int) -> None:
    """
    Be ``inside`` (-1: stay who we are) in the user namespace just made by ``uid``; no other id is mapped.
    """
    write(b"/proc/self/setgroups", b"deny")
    write(b"/proc/self/uid_map", b"%d %d 1" % (inside if inside >= 0 else uid, uid))
    write(b"/proc/self/gid_map", b"%d %d 1" % (inside if inside >= 0 else gid, gid))


def write(path: bytes, data: bytes) -> None:
    """Write a file of the kernel's."""
    opened = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(opened, data)
    finally:
        os.close(opened)


def _raise(call: str, target: bytes = b"") -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{call} {os.fsdecode(target)}: {os.strerror(number)}".replace(" :", ":"))
