# SPDX-License-Identifier: MIT
"""
The first thing that a daemon does: come into its place, with a launcher beside it.

As root: a private mount namespace with the neutral view (see ``view``), a launcher that stays root, and
then the same program once more, in the same process, under the reserved uid of its role, without
capabilities. Otherwise: a launcher under our own uid, and nothing else changes.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from pydra.cluster.sandbox import check, self_check, view
from pydra.cluster.sandbox.launcher import seccomp
from pydra.cluster.sandbox.launcher.configuration import FULL, NONE, USER, Configuration, Places
from pydra.cluster.sandbox.launcher.scratch import open_directory, remove_tree
from pydra.cluster.sandbox.launcher.spawning import drop
from pydra.cluster.sandbox.site_limits import NetworkSettings, ceilings, defaults
from pydra.cluster.sandbox.surroundings import compile_for_workers, find_places
from pydra.errors import SandboxError

WORKER = "pydra.cluster.worker.main"
CACHE, SCRATCH = "packages", "scratch"
"""Directories of package versions, and of running workers, in the runtime directory."""

WRITABLE = ("runtime", "logs", "database")
"""Directories that the daemon may write, and owns; all others are read-only to it."""

_VARIABLE = "PYDRA_ENTERED"
_SLOTS = f"{view.RUN}/slots"
_PR_SET_NO_NEW_PRIVS = 38
_START = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    " from pydra.cluster.sandbox.launcher.main import main; main()"
)


class EntrySettings(NetworkSettings, Protocol):
    """The settings that matter here."""

    @property
    def ISOLATION(self) -> str: ...  # noqa: N802, D102 - named and described by the settings
    @property
    def BUBBLEWRAP(self) -> str: ...  # noqa: N802, D102
    @property
    def SERVICE_UID_MASTER(self) -> int: ...  # noqa: N802, D102
    @property
    def SERVICE_UID_NODE(self) -> int: ...  # noqa: N802, D102
    @property
    def SLOT_UIDS(self) -> tuple[int, int]: ...  # noqa: N802, D102
    @property
    def CGROUP(self) -> str: ...  # noqa: N802, D102
    @property
    def SANDBOX_MOUNTS(self) -> Mapping[str, str]: ...  # noqa: N802, D102


class Entry(NamedTuple):
    """A daemon in its place."""

    launcher: socket.socket
    """Our end of the launcher's socket; closing it ends all workers."""
    directories: dict[str, Path]
    """The given directories, where they are seen now."""
    isolation: str
    """``full``, ``user`` or ``none``."""


def enter(
    role: str,
    module: str,
    argv: list[str],
    directories: Mapping[str, Path],
    settings: EntrySettings,
    kept: int | None = None,
    worker: str = WORKER,
) -> Entry:
    """
    Enter; the sandbox's side of a daemon's start.

    ``directories`` names directories (or files) that the daemon needs; ``runtime`` must be one. As root this
    does not return: ``python -m module`` starts again with ``argv`` and, alone, with the descriptor ``kept``;
    its call returns. `SandboxToolMissing`, `NamespacesRefused`, `SandboxError`.
    """
    if os.geteuid() and _VARIABLE in os.environ:
        return _entered(os.environ.pop(_VARIABLE))
    os.environ.pop(_VARIABLE, None)
    sandboxed = settings.ISOLATION != NONE
    bubblewrap = check.find_bubblewrap(settings.BUBBLEWRAP) if sandboxed else ""
    first_slot = None if os.geteuid() else settings.SLOT_UIDS[0]
    if sandboxed:
        check.probe(bubblewrap, first_slot)
    runtime = Path(os.path.realpath(directories["runtime"]))
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sandboxed:
        try:
            seccomp.program(False)
        except seccomp.NoFilter as fault:
            raise SandboxError(str(fault)) from None
    chosen = Configuration(
        socket=-1,
        isolation=NONE if not sandboxed else USER if os.geteuid() else FULL,
        bubblewrap=bubblewrap,
        places=find_places(),
        cache=str(runtime / CACHE),
        cache_owner=os.geteuid(),
        scratch=str(runtime / SCRATCH),
        visible_scratch=str(runtime / SCRATCH),
        slots_directory="",
        first_uid=settings.SLOT_UIDS[0],
        last_uid=settings.SLOT_UIDS[1],
        worker=worker,
        timezone=os.environ.get("TZ", ""),
        defaults=defaults(settings, role),
        ceilings=ceilings(settings, str(runtime)),
        network=settings.ALLOW_NETWORK and role == "node",
        group=settings.CGROUP,
        mounts=find_mounts(settings.SANDBOX_MOUNTS, runtime) if role == "node" else (),
    )
    compile_for_workers(chosen.places.package)
    try:
        _make_owned(runtime)
        if os.geteuid():
            return Entry(start_checked(chosen), dict(directories), chosen.isolation)
        uid = settings.SERVICE_UID_MASTER if role == "master" else settings.SERVICE_UID_NODE
        _enter_as_root(module, argv, directories, chosen, uid, kept)
    except OSError as fault:
        raise SandboxError(f"The sandbox cannot be prepared: {fault}.") from None


def find_mounts(mounts: Mapping[str, str], runtime: Path) -> tuple[tuple[str, str], ...]:
    """
    The site's shared directories by their real paths. `SandboxError` if one is none, or would show the
    daemon's own files.
    """
    found = []
    for name, directory in sorted(mounts.items()):
        source = Path(os.path.realpath(directory))
        if not source.is_dir():
            raise SandboxError(f"SANDBOX_MOUNTS: {directory} (for {name}) is not a directory.")
        if runtime.is_relative_to(source) or source.is_relative_to(runtime):
            raise SandboxError(
                f"SANDBOX_MOUNTS: {directory} (for {name}) would show RUNTIME_FILES_DIR ({runtime}) to tasks."
            )
        found.append((name, str(source)))
    return tuple(found)


def start_checked(configuration: Configuration) -> socket.socket:
    """Start a launcher and let it make one sandbox that tests itself. `OSError`, `SandboxError`."""
    launcher = start_launcher(configuration)
    if configuration.isolation != NONE:
        try:
            self_check.check(launcher, os.geteuid())
        except SandboxError:
            launcher.close()
            raise
    return launcher


def start_launcher(configuration: Configuration) -> socket.socket:
    """Start a launcher as a child process; our end of its socket. `OSError`."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        its.set_inheritable(True)
        command, environment = launcher_command(configuration._replace(socket=its.fileno()))
        empty = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        os.posix_spawn(command[0], command, environment, file_actions=empty)
    return ours


def launcher_command(configuration: Configuration) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a launcher."""
    executable = getattr(sys, "_base_executable", sys.executable)
    above = os.path.dirname(configuration.places.package)
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return [executable, "-I", "-S", "-B", "-c", _START, above, configuration.to_json()], environment


# As root.


def _enter_as_root(
    module: str,
    argv: list[str],
    directories: Mapping[str, Path],
    chosen: Configuration,
    uid: int,
    kept: int | None,
) -> NoReturn:
    chosen, seen = make_view(chosen, directories)
    for name in WRITABLE:
        if name in directories:
            _give(str(directories[name]), uid)
    places = chosen.places
    launcher = start_checked(chosen._replace(slots_directory=_SLOTS, cache_owner=uid))
    launcher.set_inheritable(True)
    if kept is not None:
        os.set_inheritable(kept, True)  # only now: the launcher must not have it
    told = {"launcher": launcher.fileno(), "directories": seen, "isolation": chosen.isolation}
    environment = {
        **_kept_environment(places),
        _VARIABLE: json.dumps(told),
    }
    os.chdir(seen["runtime"])
    drop(uid)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    executable = f"{places.python}/{places.executable}" if places.python else places.executable
    # Without site: the environment is exactly what the first start had, in the same order.
    os.execve(executable, [executable, "-S", "-s", "-P", "-m", module, *argv], environment)  # noqa: S606 - this program anew


def make_view(chosen: Configuration, directories: Mapping[str, Path]) -> tuple[Configuration, dict[str, str]]:
    """
    Give this process the neutral view; the configuration and the directories by what they are called there.

    `NamespacesRefused`, `OSError`.
    """
    view.make_run_directory()
    os.makedirs(_SLOTS, 0o700, exist_ok=True)
    view.enter_namespace()
    places = view.bind_places(chosen.places)
    mounts = view.bind_data(chosen.mounts)
    seen = {name: _bind(name, path) for name, path in directories.items()}
    scratch = open_directory(chosen.scratch)
    try:
        visible = view.bind(f"/proc/self/fd/{scratch}", SCRATCH, writable=True)
    finally:
        os.close(scratch)
    view.close_view()
    return chosen._replace(places=places, visible_scratch=visible, mounts=mounts), seen


def _entered(text: str) -> Entry:
    told = json.loads(text)
    launcher = socket.socket(fileno=told["launcher"])
    launcher.set_inheritable(False)
    # They were for this start alone.
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH"):
        os.environ.pop(name, None)
    seen = {name: Path(path) for name, path in told["directories"].items()}
    return Entry(launcher, seen, told["isolation"])


def _kept_environment(places: Places) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("LANG", "TZ") or (name.startswith("PYDRA_") and name != _VARIABLE)
    }
    above = os.path.dirname(places.package)
    kept |= {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": ":".join((above, *places.sites)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if places.library:
        kept["LD_LIBRARY_PATH"] = os.path.join(places.python, places.library)
    return kept


def _bind(name: str, path: Path) -> str:
    source = os.path.realpath(path)
    if not os.path.lexists(source):
        os.makedirs(source, 0o755)
    return view.bind(source, name, writable=name in WRITABLE, directory=os.path.isdir(source))


def _make_owned(runtime: Path) -> None:
    """See that cache and scratch are there, and that the scratch is ours alone."""
    (runtime / CACHE).mkdir(mode=0o700, exist_ok=True)
    parent = open_directory(str(runtime))
    try:
        status = _status(parent, SCRATCH)
        if status is not None and (status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode)):
            for _ in remove_tree(parent, SCRATCH):
                pass
            status = None
        if status is None:
            os.mkdir(SCRATCH, 0o700, dir_fd=parent)
    finally:
        os.close(parent)


def _status(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _give(path: str, uid: int) -> None:
    """
    Give a tree to the service uid, except what is the launcher's; only what differs is changed.

    Python files at its top are settings, which root executes at the next start: they stay whose they are.
    That uid could write here before. So no link is followed, and a file with a second name, which may be
    somebody else's file, keeps its owner.
    """
    for directory, name in _entries(path):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        shared = not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1
        if (status.st_uid, status.st_gid) != (uid, uid) and not shared:
            os.chown(name, uid, uid, dir_fd=directory, follow_symlinks=False)


def _entries(path: str) -> Iterator[tuple[int, str]]:
    for root, directories, files, descriptor in os.fwalk(path, follow_symlinks=False):
        if root == path:
            directories[:] = [name for name in directories if name != SCRATCH]
            files[:] = [name for name in files if not name.endswith(".py")]
            yield descriptor, "."
        for name in (*directories, *files):
            yield descriptor, name
