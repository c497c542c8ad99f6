# SPDX-License-Identifier: MIT
"""
Starting the first process of a worker: fork, become the slot uid, take the limits, execute.

The launcher has one thread, so the death signal that follows the forking thread is the death of the launcher.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
from collections.abc import Container

from pydra.cluster.sandbox.launcher import rlimits
from pydra.cluster.sandbox.launcher.cgroups import Group
from pydra.cluster.sandbox.launcher.policy import Plan

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
"""
What a terminal signals both to the daemon and to the launcher, which ignores it: it ends when its daemon
does, and while that is stopped it ends what may live no longer.
"""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """
    Make the first process of a sandbox our child when its monitor dies, so that its end can be waited for.
    """
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def spawn(plan: Plan, uid: int | None, group: Group | None, files: dict[int, int], session: bool) -> int:
    """
    Start a plan in a group, as a uid; the process's pid.

    ``files`` maps its descriptors to ours, and it gets no others. With ``session`` it leads a session of
    its own and dies with the launcher (bubblewrap sees to both by itself). A fault after the fork is told
    on its descriptor 2.
    """
    launcher = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(plan, uid, group, files, session, launcher)
    except BaseException as fault:  # noqa: BLE001 - nothing may return into the launcher's loop
        os.write(2, f"The worker cannot be started: {fault}\n".encode(errors="replace"))
    finally:
        os._exit(126)


def _become(
    plan: Plan, uid: int | None, group: Group | None, files: dict[int, int], session: bool, launcher: int
) -> None:
    signal.set_wakeup_fd(-1)
    if group is not None:
        group.join()  # as long as we may
    # Out of the way first: a number that is wanted may be one that is still needed.
    above = max(files) + 1
    copies = {wanted: fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, above) for wanted, ours in files.items()}
    for wanted, copy in copies.items():
        os.dup2(copy, wanted)
    os.closerange(max(files) + 1, 2**31 - 1)  # all are closed at exec anyway
    for number in (*IGNORED, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    rlimits.apply(plan.limits)
    os.nice(rlimits.NICENESS)
    if uid is not None:
        drop(uid)
    if session:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the uid: changing that clears it
        if os.getppid() != launcher:
            os._exit(126)
    os.chdir(plan.directory)
    os.execve(plan.argv[0], plan.argv, plan.environment)  # noqa: S606 - a fixed command without a shell


def drop(uid: int) -> None:
    """Become ``uid`` for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def kill_all_of(uid: int) -> None:
    """
    Kill every process of a slot uid; for a worker without a sandbox there is no other way to find them all.
    """
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        drop(uid)
        os.kill(-1, signal.SIGKILL)
    except BaseException:  # noqa: BLE001, S110 - there was none
        pass
    finally:
        os._exit(0)


def kill_group(leader: int) -> None:
    """Kill what is left of a process group; for a worker without a sandbox."""
    with contextlib.suppress(ProcessLookupError):  # nobody else was in it
        os.killpg(leader, signal.SIGKILL)


def kill_children_but(known: Container[int]) -> None:
    """Kill our children, but not these."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children") as opened:
            children = [int(pid) for pid in opened.read().split()]
    except OSError:
        return  # the kernel does not list them
    for pid in children:
        if pid not in known:
            os.kill(pid, signal.SIGKILL)


def raise_descriptor_limit() -> None:
    """Have as many descriptors as we may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
