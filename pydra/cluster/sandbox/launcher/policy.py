# SPDX-License-Identifier: MIT
"""
What a sandbox looks like: command line, environment and limits, built from values alone.

Names inside are the same on every machine, so nothing about the host can be read from them.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from pydra.cluster.sandbox.launcher.configuration import Places

CHANNEL = 3
"""Descriptor of the worker's channel; 0 is empty, 1 and 2 are the output pipe, and there are no others."""

INFORMATION = 4
"""Descriptor on which bubblewrap tells the first process of the sandbox; it never reaches the worker."""

PYTHON, SITE, PACKAGE = "/opt/pydra/python", "/opt/pydra/site", "/opt/pydra/package"
PACKAGES, WORK = "/task/packages", "/task/work"

UID = 1000
"""Uid and gid that a worker sees; the host sees the slot's."""

MEMORY_FILES = 64 * 1024 * 1024
"""Bytes of /tmp and of /dev/shm."""

DESCRIPTORS = 256
"""Open descriptors of a process."""

BOOTSTRAP = (
    "import sys; c, p, m = sys.argv[1:4]; sys.path += sys.argv[4:]; sys.argv[1:] = [];"
    " __import__(m, fromlist=['main']).main(int(c), p)"
)
"""What the interpreter is given: puts the environment in reach and runs the worker's ``main``."""

NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
"""All namespaces; a kernel without cgroup namespaces has nothing to hide there."""


class Directories(NamedTuple):
    """The host directories of one sandbox, by paths that its uid can reach."""

    work: str
    packages: str
    etc: str


class System(NamedTuple):
    """
    One of the host's top-level system directories: a link to ``target``, or a directory if that is empty.
    """

    path: str
    target: str


class Plan(NamedTuple):
    """How a worker is started."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    limits: tuple[tuple[int, int], ...]
    """Resource numbers and values; soft and hard are the same."""
    directory: str
    """Working directory of the first process."""


def limits(memory_mb: int) -> tuple[tuple[int, int], ...]:
    """The resource limits of every process of a worker."""
    chosen = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, DESCRIPTORS)]
    if memory_mb:
        chosen.append((resource.RLIMIT_AS, memory_mb * 1024 * 1024))
    return tuple(chosen)


def sandboxed(
    bubblewrap: str,
    places: Places,
    directories: Directories,
    systems: tuple[System, ...],
    worker: str,
    memory_mb: int,
    timezone: str,
) -> Plan:
    """A worker in a sandbox of its own."""
    binds: list[str] = []
    inside = _inside(places)
    for outer, inner in zip(_sources(places), _sources(inside), strict=True):
        if outer != inner:
            binds += ["--ro-bind", outer, inner]
    argv = (
        bubblewrap,
        *NAMESPACES,
        "--disable-userns",
        "--uid",
        str(UID),
        "--gid",
        str(UID),
        "--hostname",
        "pydra",
        "--cap-drop",
        "ALL",
        "--new-session",
        "--die-with-parent",
        "--info-fd",
        str(INFORMATION),
        *system_mounts(systems),
        "--ro-bind",
        directories.etc,
        "/etc",
        "--proc",
        "/proc",
        *_memory_mounts(),
        *binds,
        "--ro-bind",
        directories.packages,
        PACKAGES,
        "--bind",
        directories.work,
        WORK,
        "--remount-ro",
        "/",
        "--chdir",
        WORK,
        "--",
        *_interpreter(inside, PACKAGES, worker),
    )
    return Plan(argv, _environment(inside, WORK, timezone), limits(memory_mb), "/")


def plain(places: Places, directories: Directories, worker: str, memory_mb: int, timezone: str) -> Plan:
    """A worker without a sandbox: the explicit setting ``ISOLATION = 'none'``."""
    return Plan(
        _interpreter(places, directories.packages, worker),
        _environment(places, directories.work, timezone),
        limits(memory_mb),
        directories.work,
    )


def _sources(places: Places) -> tuple[str, ...]:
    return (places.python, *places.sites, places.package)


def _inside(places: Places) -> Places:
    """The same places by their names inside; what is below /usr is there already."""
    sites = [
        site if _in_usr(site) else SITE if index == 0 else f"{SITE}-{index}"
        for index, site in enumerate(places.sites)
    ]
    return places._replace(
        python=PYTHON if places.python else "",
        sites=tuple(sites),
        package=f"{PACKAGE}/pydra",
    )


def _in_usr(path: str) -> bool:
    return path.startswith("/usr/")


def _interpreter(places: Places, packages: str, worker: str) -> tuple[str, ...]:
    executable = f"{places.python}/{places.executable}" if places.python else places.executable
    above = places.package.rsplit("/", 1)[0]
    return (
        executable,
        "-I",
        "-S",
        "-B",
        "-c",
        BOOTSTRAP,
        str(CHANNEL),
        packages,
        worker,
        above,
        *places.sites,
    )


def _environment(places: Places, home: str, timezone: str) -> dict[str, str]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "LANG": "C.UTF-8"}
    if timezone:
        environment["TZ"] = timezone
    if places.library:
        # Stays for the task's own children, or they could not start this interpreter; the directory holds
        # nothing else that the linker looks for.
        environment["LD_LIBRARY_PATH"] = (
            f"{places.python}/{places.library}" if places.python else places.library
        )
    return environment


def system_mounts(systems: tuple[System, ...]) -> list[str]:
    """The host's programs and libraries, read-only."""
    mounts = ["--ro-bind", "/usr", "/usr"]
    for system in systems:
        if system.target:
            mounts += ["--symlink", system.target, system.path]
        else:
            mounts += ["--ro-bind", system.path, system.path]
    return mounts


def _memory_mounts() -> list[str]:
    """Sized ones; bubblewrap's own /dev has no size, so it is made read-only."""
    size = ["--perms", "1777", "--size", str(MEMORY_FILES), "--tmpfs"]
    return ["--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev", *size, "/tmp"]  # noqa: S108 - inside
