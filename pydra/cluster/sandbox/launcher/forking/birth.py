# SPDX-License-Identifier: MIT
"""
How a fork of the zygote becomes a worker in a sandbox.

Two processes. The *first* one, pid 1 inside, is forked into new namespaces that belong to the slot uid; it is
a child of the launcher, as the zygote is. It becomes the slot uid in all respects, makes the root, gives up
every privilege, waits for the launcher's word, and then only waits for the worker; the *worker* is its child,
since signals to a pid 1 are not what a task expects.

Its network is a new one with nothing in it. Not even its loopback interface is raised, which takes 0.3 ms:
the filter lets nobody make a socket that could use it.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import resource
import signal

from pydra.cluster.sandbox.launcher import policy
from pydra.cluster.sandbox.launcher.forking import kernel
from pydra.cluster.sandbox.launcher.forking.room import INNER, SCRATCH
from pydra.cluster.sandbox.launcher.rlimits import NICENESS

TYPE_CHECKING = False  # typing's own is not needed here, and every worker would carry it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

CONTROL, WORD = 4, 5
"""Descriptors of a process being born: the zygote's socket, and what the launcher's word comes from."""

FAILED = 126
"""Exit status of what could not become a worker."""

_LAST_CAPABILITY = "/proc/sys/kernel/cap_last_cap"
_USER_NAMESPACES = b"/proc/sys/user/max_user_namespaces"
_ROOT = INNER.encode()
_MEMORY = f"mode=1777,size={policy.MEMORY_FILES}".encode()
_CLOSED = kernel.MS_NOSUID | kernel.MS_NODEV


class Birth:
    """Makes workers; everything that is the same for all is prepared here, before any fork."""

    def __init__(self, limits: list[tuple[int, int]], filter_: bytes, work: Callable[[], NoReturn]) -> None:
        self._limits = [(kind, _lowered(kind, value)) for kind, value in limits]
        self._filter = kernel.Filter(filter_)
        self._work = work
        with open(_LAST_CAPABILITY) as opened:
            self._last_capability = int(opened.read())
        self._ids = os.geteuid(), os.getegid()

    def bear(self, number: int, uid: int, files: dict[int, int]) -> int:
        """
        In the zygote: start the first process of a sandbox; its pid. `OSError`.

        ``files`` maps its descriptors to ours. What fails in that process it tells on its descriptor 2.
        """
        owner = (uid, uid) if uid else self._ids
        pid = -1
        try:
            if uid:
                os.setgroups([])
                os.setegid(uid)
                os.seteuid(uid)  # to whom we are now, the namespaces will belong
            pid = kernel.fork_into_namespaces()
        finally:
            if uid and pid:
                os.seteuid(self._ids[0])
                os.setegid(self._ids[1])
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # which a change of ids ends
        if pid:
            return pid
        try:
            _take_files(files)
            self._become(*owner)
            self._first(number)
        except BaseException as fault:  # noqa: BLE001 - nothing may return into the zygote's loop
            os.write(2, told(fault))
        finally:
            os._exit(FAILED)

    def _become(self, outer_uid: int, outer_gid: int) -> None:
        """Under limits, and nobody but the one user there is in here, who is the slot uid outside."""
        for kind, limit in self._limits:
            resource.setrlimit(kind, limit)
        os.nice(NICENESS)
        # Or the files of this process in /proc would be root's, and no id could be mapped.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.map_ids(outer_uid, outer_gid, policy.UID)
        os.setresgid(policy.UID, policy.UID, policy.UID)
        os.setresuid(policy.UID, policy.UID, policy.UID)

    def _first(self, number: int) -> None:
        kernel.write(_USER_NAMESPACES, b"0")  # while we may: nobody inside makes another one
        kernel.set_host_name(policy.HOST_NAME.encode())
        _make_root(f"{SCRATCH}/{number}".encode())
        os.setsid()
        kernel.drop_capabilities(self._last_capability)
        _await_word()
        self._filter.apply()
        worker = os.fork()
        if worker:
            _outlive(worker)
        os.closerange(policy.CHANNEL + 1, 256)
        os.chdir(policy.WORK)
        for signal_number, action in _FRESH.items():
            signal.signal(signal_number, action)
        self._work()


_FRESH: dict[int, Callable[..., object] | int] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGTSTP: signal.SIG_DFL,
    signal.SIGCHLD: signal.SIG_DFL,
}
"""What an interpreter that was just started does on those signals that the zygote ignores."""


def told(fault: BaseException) -> bytes:
    """What is told of a birth that failed."""
    return f"The worker cannot be started: {fault}\n".encode(errors="replace")


def _take_files(files: dict[int, int]) -> None:
    """Bring descriptors to their numbers and close all others."""
    above = WORD + 1
    # Out of the way first: a number that is wanted may be one that is still needed.
    copies = {wanted: fcntl.fcntl(ours, fcntl.F_DUPFD, above) for wanted, ours in files.items()}
    for wanted, copy in copies.items():
        os.dup2(copy, wanted)
    os.closerange(above, 256)


def _make_root(own: bytes) -> None:
    """Make the inner room our root, with this sandbox's own mounts in it; leave everything else behind."""
    # A mount of our own on top of the same one: the kernel lets nobody move what came from outside.
    kernel.mount(_ROOT, _ROOT, None, kernel.MS_BIND | kernel.MS_REC)
    packages = _ROOT + policy.PACKAGES.encode()
    kernel.mount(own + b"/packages", packages, None, kernel.MS_BIND)
    kernel.protect(packages)
    work = _ROOT + policy.WORK.encode()
    kernel.mount(own + b"/work", work, None, kernel.MS_BIND)
    kernel.protect(work, read_only=False)
    kernel.mount(b"proc", _ROOT + b"/proc", b"proc", _CLOSED | kernel.MS_NOEXEC)
    pts = b"newinstance,ptmxmode=0666,mode=620"
    kernel.mount(b"devpts", _ROOT + b"/dev/pts", b"devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, pts)
    for place in (b"/dev/shm", b"/tmp"):
        kernel.mount(b"tmpfs", _ROOT + place, b"tmpfs", _CLOSED, _MEMORY)
    os.chdir(_ROOT)
    kernel.pivot_root(b".", b".")
    kernel.detach(b".")
    os.chdir("/")


def _await_word() -> None:
    """Wait for the launcher, and have the kernel end us with it, our parent."""
    if not os.read(WORD, 1):
        os._exit(FAILED)  # it is gone, or wants no worker any more
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    control = _socket.socket(fileno=CONTROL)
    try:
        if not control.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT):
            os._exit(FAILED)  # it ended before we asked: the kernel tells an end once
    except BlockingIOError:
        pass
    control.detach()


def _outlive(worker: int) -> NoReturn:
    """Be pid 1: reap whatever ends, and end as the worker ends."""
    os.closerange(1, 256)
    while True:
        ended, status = os.wait()
        if ended == worker:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _lowered(kind: int, value: int) -> tuple[int, int]:
    hard = resource.getrlimit(kind)[1]
    lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return lowered, lowered
