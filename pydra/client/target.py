# SPDX-License-Identifier: MIT
"""
Where the master is, and the key for it.

What is named stands above its ``PYDRA_`` variable, which stands above the settings file that
``load_settings`` finds. The key is CONTROLLER_KEY, else ``master.key`` beside that file, else
``./master.key``. If nothing was named and there is no such key, the cluster that ``pydra cluster up`` started
in its own directory is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydra.config import Settings


@dataclass(frozen=True)
class Target:
    """The address of a master's controller API and the key for it."""

    host: str
    port: int
    key: Path


def default_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of the cluster that ``pydra cluster up`` starts if none is named."""
    home = environ.get("XDG_DATA_HOME") or str(
        Path(environ.get("HOME", "~")).expanduser() / ".local" / "share"
    )
    return Path(home) / "pydra"


def find_target(
    host: str | None,
    port: int | None,
    key: str | None,
    environ: Mapping[str, str],
    file: Path | None = None,
) -> Target:
    """
    Return the master to speak to; ``file`` are settings to read instead of those that are found.

    Raises ``ConfigError`` if a settings file cannot be used.
    """
    if host is not None and port is not None and key is not None:
        return Target(host, port, Path(key))
    # Loaded only here: a program that says all three starts faster.
    from pydra.config import FILE_NAME, PATH_VARIABLE, load_settings  # noqa: PLC0415

    settings = load_settings(file, environ=environ)
    local = default_directory(environ) / FILE_NAME
    named = any(each is not None for each in (host, port, key, file)) or PATH_VARIABLE in environ
    if not named and local.is_file() and not _key_file(settings).is_file():
        settings = load_settings(local, environ=environ)
    return Target(
        settings.HOST if host is None else host,
        settings.CONTROLLER_PORT if port is None else port,
        _key_file(settings) if key is None else Path(key),
    )


def _key_file(settings: Settings) -> Path:
    """Return the key file: that of the settings, else the one beside them, else the one in this directory."""
    places = [Path("master.key")]
    if settings.source:
        places.insert(0, Path(settings.source).parent / "master.key")
    if settings.CONTROLLER_KEY:
        return settings.controller_key
    return next((path for path in places if path.is_file()), settings.controller_key)
