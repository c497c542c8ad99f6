# SPDX-License-Identifier: MIT
"""
The settings: one frozen ``Settings``, and the only reader of ``pydra_settings.py`` and ``PYDRA_*`` variables.

A ``PYDRA_<NAME>`` variable goes before the file, the file before the default. The file is Python: whoever
loads it runs it, so a file that others could have written is refused. All faults are told at once.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import math
import os
import stat
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Meta

from pydra.errors import ConfigError
from pydra.setting_kinds import (
    Address,
    AnyPort,
    Bytes,
    Cores,
    Count,
    Days,
    Directory,
    Files,
    Fingerprint,
    GroupPath,
    Index,
    Isolation,
    Labels,
    Level,
    Limit,
    Megabytes,
    Mounts,
    NodeAddresses,
    OptionalMegabytes,
    OptionalPath,
    Placement,
    PrimedMegabytes,
    Processes,
    Resources,
    ResultMegabytes,
    Seconds,
    Switch,
    Uid,
    UidRange,
)

FILE_NAME = "pydra_settings.py"
SYSTEM_DIRECTORY = Path("/etc/pydra")
PREFIX = "PYDRA_"
PATH_VARIABLE = "PYDRA_SETTINGS"
"""The variable that names the settings file; it is no setting itself."""


class Settings(msgspec.Struct, frozen=True):
    """
    What can be set, by the names of ``pydra_settings.py``, which says what each means.

    ``load_settings`` makes every path absolute. The lower-case properties are paths, defaults filled in.
    """

    HOST: Address = "127.0.0.1"
    CONTROLLER_PORT: AnyPort = 18801
    CONTROLLER_KEY: OptionalPath = ""
    NODE_INTERFACE: Address = "127.0.0.1"
    PORT: AnyPort = 11890
    NODES: NodeAddresses = ()
    MASTER_FINGERPRINT: Fingerprint = ""
    RUNTIME_FILES_DIR: Directory = "/var/lib/pydra"
    TASKS_DIR: OptionalPath = ""
    DATABASE: OptionalPath = ""
    LOG_DIR: OptionalPath = ""
    LOG_LEVEL: Level = "info"
    LOG_SIZE: Bytes = 10485760
    LOG_BACKUP: Limit = 10
    WORKERS: Count = 0
    LABELS: Labels = ()
    RESOURCES: Resources = {}
    PRIMED_MEMORY_MB: PrimedMegabytes = 256
    ISOLATION: Isolation = "sandbox"
    BUBBLEWRAP: OptionalPath = ""
    SERVICE_UID_MASTER: Uid = 60706
    SERVICE_UID_NODE: Uid = 60707
    SLOT_UIDS: UidRange = (60710, 61183)
    WORKER_MEMORY_MB: Megabytes = 1024
    MEMORY_CEILING_MB: OptionalMegabytes = 0
    WORKER_PROCESSES: Processes = 128
    PROCESSES_CEILING: Processes = 4096
    WORKER_CPUS: Cores = 0.0
    CPUS_CEILING: Cores = 0.0
    WORKER_SCRATCH_MB: Megabytes = 2048
    SCRATCH_CEILING_MB: OptionalMegabytes = 0
    WORKER_FILES: Files = 100000
    ALLOW_NETWORK: Switch = False
    SANDBOX_MOUNTS: Mounts = {}
    CGROUP: GroupPath = "pydra"
    HEARTBEAT_S: Seconds = 5.0
    SUSPECT_S: Seconds = 15.0
    LEASE_S: Seconds = 60.0
    EXCLUSIVE_STOP_S: Seconds = 30.0
    EXCLUSIVE_LEASE_S: Seconds = 45.0
    STOP_GRACE_S: Seconds = 10.0
    ORPHAN_GRACE_S: Seconds = 600.0
    SESSION_GRACE_S: Seconds = 60.0
    SESSION_KEEP_S: Seconds = 600.0
    LOSS_LIMIT: Limit = 3
    PLACEMENT: Placement = "leastload"
    SCAN_S: Seconds = 2.0
    KEEP_VERSIONS: Limit = 5
    PACKAGE_CACHE_MB: Megabytes = 1024
    ALLOW_REQUIREMENTS: Switch = False
    REQUIREMENTS_INDEX: Index = ""
    REQUIREMENTS_WHEELS: OptionalPath = ""
    RESULT_LIMIT_MB: ResultMegabytes = 1024
    OUTBOX_LIMIT_MB: Megabytes = 1024
    LOG_LIMIT: Bytes = 16777216
    LOG_KEEP_DAYS: Days = 90
    LOG_ARCHIVE_MB: Megabytes = 1024

    source: str = ""
    """The file that these settings were read from; empty if none."""

    @property
    def runtime(self) -> Path:
        """Directory of everything that the daemon keeps."""
        return Path(self.RUNTIME_FILES_DIR)

    @property
    def controller_key(self) -> Path:
        """File of the administrator's controller key."""
        return Path(self.CONTROLLER_KEY) if self.CONTROLLER_KEY else self.runtime / "master.key"

    @property
    def tasks_dir(self) -> Path:
        """Directory whose sub-directories are the packages of tasks."""
        return Path(self.TASKS_DIR) if self.TASKS_DIR else self.runtime / "tasks"

    @property
    def log_dir(self) -> Path:
        """Directory of the daemons' own logs."""
        return Path(self.LOG_DIR) if self.LOG_DIR else self.runtime / "logs"

    @property
    def database(self) -> Path:
        """File of the master's store."""
        return Path(self.DATABASE) if self.DATABASE else self.runtime / "pydra.sqlite3"

    @property
    def bubblewrap(self) -> Path | None:
        """The sandbox tool; None means the one on PATH."""
        return Path(self.BUBBLEWRAP) if self.BUBBLEWRAP else None


NAMES = tuple(name for name in Settings.__struct_fields__ if name.isupper())
_PATHS = frozenset(
    {
        "CONTROLLER_KEY",
        "RUNTIME_FILES_DIR",
        "TASKS_DIR",
        "DATABASE",
        "LOG_DIR",
        "BUBBLEWRAP",
        "REQUIREMENTS_WHEELS",
    }
)
_TEXTS = _PATHS | {
    "HOST",
    "NODE_INTERFACE",
    "MASTER_FINGERPRINT",
    "LOG_LEVEL",
    "ISOLATION",
    "PLACEMENT",
    "CGROUP",
    "REQUIREMENTS_INDEX",
}


class _Given(NamedTuple):
    """A value that somebody gave, and who."""

    value: object
    origin: str
    directory: Path
    """What a relative path starts from."""


def load_settings(
    path: str | Path | None = None, environ: Mapping[str, str] = os.environ, daemon: bool = False
) -> Settings:
    """
    The settings of this process.

    The file is ``path``, or the first of ``$PYDRA_SETTINGS``, ``./pydra_settings.py``,
    ``./config/pydra_settings.py`` and ``/etc/pydra/pydra_settings.py`` that exists; a daemon does not look in
    the directory it happens to be started in. Without a file the defaults hold, but a file that was named
    must exist.

    `ConfigError` tells every fault in a line of its own: file or variable, name, value, what is allowed.
    """
    faults: list[str] = []
    given: dict[str, _Given] = {}
    file = _settings_file(path, environ, daemon)
    if file is not None:
        given |= _read_file(file, faults)
    given |= _read_variables(environ, faults)
    values = _convert(given, faults)
    _check_together(values, given, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    return Settings(**values, source=str(file or ""))


def _settings_file(path: str | Path | None, environ: Mapping[str, str], daemon: bool) -> Path | None:
    named = path if path is not None else environ.get(PATH_VARIABLE)
    if named:
        return Path(named).absolute()
    here = Path.cwd()
    places = [SYSTEM_DIRECTORY] if daemon else [here, here / "config", SYSTEM_DIRECTORY]
    candidates = (place / FILE_NAME for place in places)
    return next((file for file in candidates if os.path.lexists(file)), None)


def _read_file(file: Path, faults: list[str]) -> dict[str, _Given]:
    """The upper-case names of the file, which is executed if only its user or root could have written it."""
    try:
        source = _read_trusted(file)
        namespace: dict[str, object] = {"__file__": str(file), "__name__": file.stem}
        code = compile(source, str(file), "exec", dont_inherit=True)
        exec(code, namespace)  # noqa: S102 - settings are Python by contract
    except ConfigError as fault:
        faults.append(str(fault))
        return {}
    # The file is a program of its user's; whatever it raises (even an exit) is a fault of the file.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        faults.append(f"{file}{_line(error, file)}: {type(error).__name__}: {' '.join(str(error).split())}")
        return {}
    given = {}
    for name, value in namespace.items():
        if not name.isupper() or name.startswith("_"):
            continue
        if name not in NAMES:
            faults.append(f"{file}: {name} is not a setting{_nearest(name)}")
            continue
        if name in _PATHS and isinstance(value, Path):
            value = str(value)
        given[name] = _Given(value, f"{file}: {name}", file.parent)
    return given


def _read_trusted(file: Path) -> bytes:
    """The bytes of the file, checked through the same descriptor that is read."""
    try:
        # Not blocking, so that a named pipe cannot hold the daemon up.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    try:
        _check_trusted(file, os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read()
    finally:
        os.close(descriptor)


def _check_trusted(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{file}: not a regular file")
    owners = sorted({0, os.geteuid()})
    if status.st_uid not in owners:
        allowed = " or ".join(map(str, owners))
        raise ConfigError(f"{file}: belongs to user {status.st_uid}; allowed: user {allowed}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{file}: can be written by others; run: chmod go-w {file}")


def _line(error: BaseException, file: Path) -> str:
    """``:number`` of the line of ``file`` that raised, if it is known."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    number, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(file):
            number = frame.tb_lineno
        frame = frame.tb_next
    return f":{number}" if number else ""


def _read_variables(environ: Mapping[str, str], faults: list[str]) -> dict[str, _Given]:
    """
    The ``PYDRA_<NAME>`` variables: plain text, or JSON for numbers and lists.

    A variable that is no setting may be somebody else's (an option of the command line, say), so only one
    that looks like a misspelt setting is a fault.
    """
    given = {}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or variable == PATH_VARIABLE:
            continue
        if name not in NAMES:
            if nearest := _nearest(name):
                faults.append(f"${variable}: {name} is not a setting{nearest}")
            continue
        value: object = environ[variable]
        if name not in _TEXTS:
            # What is no JSON stays a text, and is told as not allowed.
            with contextlib.suppress(msgspec.DecodeError, RecursionError):
                value = msgspec.json.decode(environ[variable].strip().encode(errors="replace"))
        given[name] = _Given(value, f"${variable}", Path.cwd())
    return given


def _nearest(name: str) -> str:
    """``; did you mean ...?`` if a setting has nearly this name."""
    matches = difflib.get_close_matches(name.upper(), NAMES, n=1, cutoff=0.8)
    return f"; did you mean {matches[0]}?" if matches else ""


def _convert(given: Mapping[str, _Given], faults: list[str]) -> dict[str, typing.Any]:
    """The given values in their declared types (hence Any), paths absolute; others are faults."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    values = {}
    for name, (value, origin, directory) in given.items():
        try:
            converted = msgspec.convert(value, hints[name])
            if isinstance(converted, float) and not math.isfinite(converted):
                raise msgspec.ValidationError
        except (msgspec.ValidationError, RecursionError):
            faults.append(_fault(name, value, origin))
            continue
        if name in _PATHS and converted:
            converted = os.path.normpath(directory / converted)
        if name == "SANDBOX_MOUNTS":
            converted = {key: os.path.normpath(directory / path) for key, path in converted.items()}
        values[name] = converted
    return values


def _fault(name: str, value: object, origin: str) -> str:
    hint = typing.get_type_hints(Settings, include_extras=True)[name]
    allowed = next(meta.description for meta in hint.__metadata__ if isinstance(meta, Meta))
    shown = repr(value)
    if len(shown) > 100:
        shown = shown[:100] + "..."
    return f"{origin} = {shown}; allowed: {allowed}"


def _check_together(values: Mapping[str, typing.Any], given: Mapping[str, _Given], faults: list[str]) -> None:
    """What each value alone does not show; ``values`` are those that passed, each of its own type."""

    def value(name: str) -> typing.Any:
        return values[name] if name in values else getattr(_DEFAULTS, name)

    def told(names: Iterable[str]) -> str:
        return ", ".join(given[name].origin if name in given else f"{name} (default)" for name in names)

    order = itertools.pairwise(("HEARTBEAT_S", "SUSPECT_S", "LEASE_S"))
    exclusive = itertools.pairwise(("HEARTBEAT_S", "EXCLUSIVE_STOP_S", "EXCLUSIVE_LEASE_S"))
    for smaller, larger in (*order, *exclusive):
        if value(smaller) >= value(larger):
            faults.append(
                f"{told((smaller, larger))}: {value(smaller)} and {value(larger)}; "
                f"allowed: {smaller} below {larger}"
            )
    first, last = value("SLOT_UIDS")
    services = (value("SERVICE_UID_MASTER"), value("SERVICE_UID_NODE"))
    if first > last or any(first <= uid <= last for uid in services):
        faults.append(_fault("SLOT_UIDS", (first, last), told(("SLOT_UIDS",))))
    if services[0] == services[1]:
        names = ("SERVICE_UID_MASTER", "SERVICE_UID_NODE")
        faults.append(f"{told(names)}: both {services[0]}; allowed: two different user ids")
    sources = ("REQUIREMENTS_INDEX", "REQUIREMENTS_WHEELS")
    if value("ALLOW_REQUIREMENTS") and not any(value(name) for name in sources):
        faults.append(f"{told(('ALLOW_REQUIREMENTS',))}: True; needed with it: {' or '.join(sources)}")
    addresses = [(node.host, node.port) for node in value("NODES")]
    if len(set(addresses)) < len(addresses):
        faults.append(_fault("NODES", [tuple(node) for node in value("NODES")], told(("NODES",))))


_DEFAULTS = Settings()
