# SPDX-License-Identifier: MIT
"""
What a sandbox looks like: mounts, command line, environment and limits, built from values alone.

A sandbox is made by bubblewrap, or forked (see ``forking``); both take what they make from here. Names inside
are the same on every machine, so nothing about the host can be read from them.
"""

from __future__ import annotations

from typing import NamedTuple

from pydra.cluster.sandbox.launcher.configuration import Places
from pydra.cluster.sandbox.launcher.rlimits import Limits

CHANNEL = 3
"""Descriptor of the worker's channel; 0 is empty, 1 and 2 are the output pipe, and there are no others."""

INFORMATION = 4
"""Descriptor on which bubblewrap tells the first process of the sandbox; it never reaches the worker."""

FILTER = 5
"""Descriptor from which bubblewrap reads the filter of system calls; it never reaches the worker."""

PYTHON, SITE, PACKAGE = "/opt/pydra/python", "/opt/pydra/site", "/opt/pydra/package"
PACKAGES, WORK, DATA = "/task/packages", "/task/work", "/data"

HOST_NAME = "pydra"
"""What a worker's machine is called."""

UID = 1000
"""Uid and gid that a worker sees; the host sees the slot's."""

MEMORY_FILES = 64 * 1024 * 1024
"""Bytes of /tmp and of /dev/shm."""

BOOTSTRAP = (
    "import sys; c, p, m = sys.argv[1:4]; sys.path += sys.argv[4:]; sys.argv[1:] = [];"
    " __import__(m, fromlist=['main']).main(int(c), p)"
)
"""What the interpreter is given: puts the environment in reach and runs the worker's ``main``."""

NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
"""All namespaces but the network's; a kernel without cgroup namespaces has nothing to hide there."""

OWN_NETWORK = "--unshare-net"

NETWORK_FILES = (
    "/etc/resolv.conf",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
)
"""What finding hosts, and trusting them, needs of the host; seen by workers that have the network."""


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


class Room(NamedTuple):
    """What every sandbox sees of the host, read-only; the same for all sandboxes of a launcher."""

    binds: tuple[tuple[str, str], ...]
    """Host paths and their names inside, in the order of mounting."""
    links: tuple[System, ...]
    """Symbolic links."""


class Plan(NamedTuple):
    """How a worker is started."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    limits: Limits
    directory: str
    """Working directory of the first process."""


class Reach(NamedTuple):
    """What a worker can reach beside its own directories."""

    network: bool = False
    mounts: tuple[tuple[str, str], ...] = ()
    """Names in ``/data``, and paths of host directories that its uid can reach."""


NOTHING = Reach()


def system_room(systems: tuple[System, ...]) -> Room:
    """The host's programs and libraries."""
    directories = [(system.path, system.path) for system in systems if not system.target]
    return Room((("/usr", "/usr"), *directories), tuple(system for system in systems if system.target))


def room(
    places: Places, etc: str, systems: tuple[System, ...], mounts: tuple[tuple[str, str], ...] = ()
) -> Room:
    """What is in every sandbox but its own packages and scratch; ``mounts`` as in ``Reach``."""
    inside = _inside(places)
    renamed = [pair for pair in zip(_sources(places), _sources(inside), strict=True) if pair[0] != pair[1]]
    bare = system_room(systems)
    shared = [(source, f"{DATA}/{name}") for name, source in mounts]
    return bare._replace(binds=(*bare.binds, (etc, "/etc"), *renamed, *shared))


def sandboxed(
    bubblewrap: str,
    places: Places,
    directories: Directories,
    systems: tuple[System, ...],
    worker: str,
    limits: Limits,
    timezone: str,
    reach: Reach = NOTHING,
) -> Plan:
    """A worker in a sandbox of its own, made by bubblewrap; its filter is read from ``FILTER``."""
    argv = (
        bubblewrap,
        *NAMESPACES,
        *([] if reach.network else [OWN_NETWORK]),
        "--disable-userns",
        "--uid",
        str(UID),
        "--gid",
        str(UID),
        "--hostname",
        HOST_NAME,
        "--cap-drop",
        "ALL",
        "--new-session",
        "--die-with-parent",
        "--info-fd",
        str(INFORMATION),
        "--seccomp",
        str(FILTER),
        *room_mounts(room(places, directories.etc, systems, reach.mounts)),
        *_network_mounts(reach),
        "--proc",
        "/proc",
        *_memory_mounts(),
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
        *_interpreter(_inside(places), PACKAGES, worker),
    )
    return Plan(argv, _environment(_inside(places), WORK, timezone), limits, "/")


def forked(places: Places, program: str, limits: Limits, timezone: str) -> Plan:
    """
    The process that workers are forked from, inside a room; ``limits`` are those of the workers.

    They keep its command line and environment, so it has those of a worker.
    """
    inside = _inside(places)
    argv = _interpreter(inside, PACKAGES, program)
    return Plan(argv, _environment(inside, WORK, timezone), limits, "/")


def plain(places: Places, directories: Directories, worker: str, limits: Limits, timezone: str) -> Plan:
    """A worker without a sandbox: the explicit setting ``ISOLATION = 'none'``."""
    return Plan(
        _interpreter(places, directories.packages, worker),
        _environment(places, directories.work, timezone),
        limits,
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


def room_mounts(chosen: Room) -> list[str]:
    """A room in bubblewrap's words."""
    mounts = []
    for source, target in chosen.binds:
        mounts += ["--ro-bind", source, target]
    for link in chosen.links:
        mounts += ["--symlink", link.target, link.path]
    return mounts


def _network_mounts(reach: Reach) -> list[str]:
    """Seen by workers with the network; the directory on which they are mounted has places for them."""
    return [word for path in NETWORK_FILES if reach.network for word in ("--ro-bind-try", path, path)]


def _memory_mounts() -> list[str]:
    """Sized ones; bubblewrap's own /dev has no size, so it is made read-only."""
    size = ["--perms", "1777", "--size", str(MEMORY_FILES), "--tmpfs"]
    return ["--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev", *size, "/tmp"]  # noqa: S108 - inside
