# SPDX-License-Identifier: MIT
"""
How a daemon begins, the same for master and node.

Its command line is ``--settings FILE`` and ``--ready-file FILE``. Before Twisted is loaded it enters the
neutral view (see ``entry``), which, as root, starts the program a second time under the reserved uid, with
``--entered``, and hands on what was read before. Faults of the settings, of bubblewrap and of namespaces are
one sentence, and exit codes 2, 3 and 4.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from pydra.cluster.sandbox.entry import Entry, enter
from pydra.cluster.sandbox.runtime_lock import NAME, hold
from pydra.config import SYSTEM_DIRECTORY, Settings, load_settings
from pydra.errors import ConfigError, NamespacesRefused, PydraError, SandboxToolMissing

EXIT_FAILED, EXIT_SETTINGS, EXIT_TOOL_MISSING, EXIT_NAMESPACES = 1, 2, 3, 4
_ENTERED, _START = "--entered", "PYDRA_START"
"""The one argument of the second start, and the variable that holds what the first one read."""


OWN_NAMES = (
    "identity.*",
    "master.key",
    "*.py",
    "*.out",
    "*.log*",
    "*.sqlite3*",
    NAME,
    "ready*",
    "epoch",
    "logs",
    "tasks",
    "packages",
    "scratch",
    "task_logs",
    "blobs",
    "outbox",
    "uploaded",
    "uploads",
)
"""What may be in a directory that root gives to the daemon at its first start."""

Prepare = Callable[[Settings], dict[str, str]]
"""
Makes what must be there before privileges are dropped (keys), and answers what the daemon needs to know of
it.
"""

EnterView = Callable[[str, str, list[str], dict[str, Path], Settings, int], Entry]
"""See `pydra.cluster.sandbox.entry.enter`."""


class _Start(msgspec.Struct, frozen=True):
    """What the first start hands to the second."""

    settings: Settings
    directories: dict[str, str]
    ready_file: str | None
    facts: dict[str, str]
    lock: int


class Beginning(msgspec.Struct, frozen=True):
    """What a daemon has when it begins: settings with the paths as it sees them, and its sandbox."""

    settings: Settings
    entry: Entry
    ready_file: Path | None
    facts: dict[str, str]
    """The answer of ``prepare``."""
    lock: int
    """The descriptor that keeps other daemons away from the runtime directory, open for life."""
    given: Settings
    """The settings with the paths that the administrator knows."""
    seen: dict[Path, Path]
    """Where each given directory is seen."""

    def as_given(self, text: str) -> str:
        """The text with the paths that the administrator knows, in place of those of the neutral view."""
        for outside, inside in self.seen.items():
            if outside != inside:
                text = text.replace(str(inside), str(outside))
        return text

    def announcement(self, role: str, port: int) -> str:
        """One sentence of a daemon that listens: where that is, and where its log is."""
        host = self.given.HOST if role == "master" else self.given.NODE_INTERFACE
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        place = f"the controller API is https://{address}" if role == "master" else f"it listens on {address}"
        return f"ready: {place}, the log, warnings too, is {self.given.log_dir / role}.log"

    def ready(self, **facts: object) -> None:
        """Tell who waits that the daemon listens: the ready file appears, whole, with these facts."""
        if self.ready_file is None:
            return
        new = self.ready_file.with_suffix(".new")
        new.write_text(json.dumps({"pid": os.getpid(), "isolation": self.entry.isolation, **facts}))
        new.replace(self.ready_file)


def begin(
    role: str,
    module: str,
    argv: list[str] | None,
    prepare: Prepare,
    enter_view: EnterView = enter,
    environ: MutableMapping[str, str] = os.environ,
) -> Beginning:
    """
    Read the settings, prepare the runtime directory, enter the neutral view.

    As root this does not return the first time: the program starts again under the reserved uid, and returns
    there. `SystemExit` after one sentence if it cannot be.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        if given == [_ENTERED]:
            start = _second_start(environ.pop(_START, ""))
        else:
            options = _parser(role).parse_args(given)
            start = _first_start(role, options.settings, options.ready_file, prepare)
        directories = {name: Path(path) for name, path in start.directories.items()}
        # By the environment: a list of processes shows arguments to everybody, and this is long.
        environ[_START] = msgspec.json.encode(start).decode()
        try:
            entry = enter_view(role, module, [_ENTERED], directories, start.settings, start.lock)
        finally:
            del environ[_START]
    except SandboxToolMissing as fault:
        die(role, fault, EXIT_TOOL_MISSING)
    except NamespacesRefused as fault:
        die(role, fault, EXIT_NAMESPACES)
    except ConfigError as fault:
        die(role, fault, EXIT_SETTINGS)
    except PydraError as fault:
        die(role, fault, EXIT_FAILED)
    moved = {directories[name]: visible for name, visible in entry.directories.items()}
    ready_file = _moved(Path(start.ready_file), moved) if start.ready_file else None
    settings = _relocated(start.settings, moved)
    return Beginning(settings, entry, ready_file, start.facts, start.lock, start.settings, moved)


def _first_start(role: str, settings_file: Path | None, ready_file: Path | None, prepare: Prepare) -> _Start:
    settings = load_settings(settings_file, daemon=True)
    directories = {"runtime": settings.runtime, "tasks": settings.tasks_dir}
    outside = {"logs": settings.log_dir, "database": settings.database.parent}
    directories |= {name: path for name, path in outside.items() if not path.is_relative_to(settings.runtime)}
    if settings.ALLOW_REQUIREMENTS and settings.REQUIREMENTS_WHEELS:
        directories["wheels"] = Path(settings.REQUIREMENTS_WHEELS)
        if not directories["wheels"].is_dir():
            raise ConfigError(f"REQUIREMENTS_WHEELS {settings.REQUIREMENTS_WHEELS} is not a directory.")
    if ready_file is not None:
        ready_file = Path(os.path.abspath(ready_file))
        if not ready_file.is_relative_to(settings.runtime):
            raise ConfigError(
                f"--ready-file must be in RUNTIME_FILES_DIR ({settings.runtime}), not {ready_file}."
            )
    if os.geteuid() == 0:
        _check_own(role, settings)
    for path, mode in (
        (settings.runtime, 0o700),
        (settings.log_dir, 0o700),
        (settings.database.parent, 0o700),
        (settings.tasks_dir, 0o755),
    ):
        try:
            if not path.is_dir():
                path.mkdir(mode=mode, parents=True, exist_ok=True)
                path.chmod(mode)  # whatever the umask: the service uid reads TASKS_DIR
        except OSError as fault:
            raise ConfigError(f"{path} cannot be made: {fault.strerror}.") from None
    lock = hold(settings.runtime)
    try:
        if ready_file is not None:
            _remove_old(ready_file)
        facts = prepare(settings)
    except BaseException:
        os.close(lock)
        raise
    named = {name: str(path) for name, path in directories.items()}
    return _Start(settings, named, str(ready_file) if ready_file else None, facts, lock)


def _remove_old(ready_file: Path) -> None:
    try:
        ready_file.unlink(missing_ok=True)
    except OSError as fault:
        raise ConfigError(f"--ready-file {ready_file} cannot be replaced: {fault.strerror}.") from None


def _check_own(role: str, settings: Settings) -> None:
    """
    See that each directory that root is about to give to the service uid, with all that is in it, is Pydra's
    own, new or given already; `ConfigError` if it holds anything else, such as a home directory would.
    """
    uid = settings.SERVICE_UID_MASTER if role == "master" else settings.SERVICE_UID_NODE
    for name, path in (
        ("RUNTIME_FILES_DIR", settings.runtime),
        ("LOG_DIR", settings.log_dir),
        ("DATABASE", settings.database.parent),
    ):
        try:
            if os.stat(path).st_uid == uid:
                continue
            found = sorted(os.listdir(path))
        except OSError:
            continue  # it is not there yet, or is told when it is made
        known = {settings.database.name} if name == "DATABASE" else set()
        others = [
            each
            for each in found
            if each not in known and not any(fnmatch.fnmatch(each, pattern) for pattern in OWN_NAMES)
        ]
        if others:
            raise ConfigError(
                f"{name}: {path} holds what is not Pydra's ({others[0]}), and would belong to user {uid}; "
                f"name a directory of its own."
            )


def _second_start(text: str) -> _Start:
    try:
        start = msgspec.json.decode(text, type=_Start)
        os.set_inheritable(start.lock, False)
        return start
    except (ValueError, OSError, OverflowError, msgspec.MsgspecError, RecursionError):
        raise ConfigError(f"{_ENTERED} is for the daemon itself; start it with --settings.") from None


def _relocated(settings: Settings, moved: dict[Path, Path]) -> Settings:
    """The same settings, with every path as it is seen in the neutral view."""
    return msgspec.structs.replace(
        settings,
        RUNTIME_FILES_DIR=str(_moved(settings.runtime, moved)),
        TASKS_DIR=str(_moved(settings.tasks_dir, moved)),
        LOG_DIR=str(_moved(settings.log_dir, moved)),
        DATABASE=str(_moved(settings.database, moved)),
        REQUIREMENTS_WHEELS=_moved_text(settings.REQUIREMENTS_WHEELS, moved),
    )


def _moved_text(path: str, moved: dict[Path, Path]) -> str:
    return str(_moved(Path(path), moved)) if path else ""


def _moved(path: Path, moved: dict[Path, Path]) -> Path:
    """Where a path is seen: under the longest of the directories that hold it."""
    holders = [directory for directory in moved if path.is_relative_to(directory)]
    if not holders:
        return path
    holder = max(holders, key=lambda directory: len(directory.parts))
    return moved[holder] / path.relative_to(holder)


def _parser(role: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"pydra_{role}", description=f"The {role} daemon of a Pydra cluster; it runs in the foreground."
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help=f"the pydra_settings.py to read (default: $PYDRA_SETTINGS, or the one in {SYSTEM_DIRECTORY})",
    )
    parser.add_argument(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="a file below RUNTIME_FILES_DIR to write, as JSON, when the daemon listens",
    )
    return parser


def die(role: str, fault: PydraError | str, status: int) -> NoReturn:
    """Say in one sentence why the daemon cannot go on, and end it."""
    tell(role, str(fault))
    raise SystemExit(status)


def tell(role: str, sentence: str) -> None:
    """Say something to who started the daemon, if that is still there."""
    # The log may have taken the place of sys.stderr.
    stderr = sys.__stderr__ or sys.stderr
    with suppress(OSError, ValueError):
        stderr.write(f"pydra_{role}: {sentence}\n")
        stderr.flush()
