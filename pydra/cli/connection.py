# SPDX-License-Identifier: MIT
"""
Where the master is, and the key for it.

An option stands above its ``PYDRA_`` variable, which stands above the settings file that ``load_settings``
finds. The key is CONTROLLER_KEY, else ``master.key`` beside that file, else ``./master.key``. If nothing was
named and there is no such key, the cluster that ``pydra cluster up`` started in its own directory is meant.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pydra.config import Settings


class Controller(Protocol):
    """The controller API: any attribute is a function of the master."""

    def __getattr__(self, function: str, /) -> Callable[..., Any]:  # what it answers is the API's own
        """Return the function of that name."""


@dataclass(frozen=True)
class Target:
    """The address of a master's controller API and the key for it."""

    host: str
    port: int
    key: Path


def connect(target: Target) -> Controller:
    """Return a client of the master; nothing is sent yet."""
    from pydra.cluster.controller.web.controller import WebController

    return WebController(target.host, target.port, str(target.key))


@dataclass(frozen=True)
class Surroundings:
    """What a command meets outside; tests bring their own."""

    connect: Callable[[Target], Controller] = connect
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.time  # noqa: TID251 - what is outside is named here
    """Answers the present instant."""


def default_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of the cluster that ``pydra cluster up`` starts if none is named."""
    home = environ.get("XDG_DATA_HOME") or str(
        Path(environ.get("HOME", "~")).expanduser() / ".local" / "share"
    )
    return Path(home) / "pydra"


def find_target(host: str | None, port: int | None, key: str | None, environ: Mapping[str, str]) -> Target:
    """
    Return the master to speak to.

    Raises ``ConfigError`` if a settings file cannot be used.
    """
    if host is not None and port is not None and key is not None:
        return Target(host, port, Path(key))
    from pydra.config import FILE_NAME, PATH_VARIABLE, load_settings

    settings = load_settings(environ=environ)
    local = default_directory(environ) / FILE_NAME
    named = host is not None or port is not None or key is not None or PATH_VARIABLE in environ
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
