# SPDX-License-Identifier: MIT
"""
What a launcher is told once, at its start, by whoever starts it; nothing that comes later can change it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

FULL, USER, NONE = "full", "user", "none"
"""How well user code is kept apart: by sandbox and uid, by sandbox, not at all."""


AUTO, FORK, BUBBLEWRAP = "auto", "fork", "bubblewrap"
"""How sandboxes are made."""


class Places(NamedTuple):
    """
    Where the interpreter, its environment and this package are, as the launcher's children can reach them.
    """

    python: str
    """Directory of the interpreter (its prefix); empty if it is a part of ``/usr``."""
    executable: str
    """The interpreter, below ``python``; absolute if that is empty."""
    library: str
    """Directory that must be named to the dynamic linker, below ``python`` or absolute; empty if none."""
    sites: tuple[str, ...]
    """Directories of installed packages, in order."""
    package: str
    """The directory of the package ``pydra`` itself."""


class Configuration(NamedTuple):
    """All that a launcher knows."""

    socket: int
    """Descriptor of its end of the socket."""
    isolation: str
    bubblewrap: str
    places: Places
    cache: str
    """Directory with ``<package>/<version>/``."""
    cache_owner: int
    """Files of any other uid in the cache are not given to workers."""
    scratch: str
    """Directory for the scratch of sandboxes; the launcher's own."""
    visible_scratch: str
    """The same directory, by a path that a slot uid can reach."""
    slots_directory: str
    """Directory of the lock files of slot uids; empty if workers run under the launcher's uid."""
    first_uid: int
    last_uid: int
    worker: str
    """Module whose ``main(channel, packages)`` a worker runs."""
    memory_mb: int
    """Address space of each process, in MiB; 0 for no limit."""
    timezone: str
    """``TZ`` for workers; empty if not set."""
    start: str = AUTO
    """How sandboxes are made: ``auto`` forks, or uses bubblewrap where that does not pass its trial."""

    def to_json(self) -> str:
        """The configuration as one argument of a command line."""
        return json.dumps({**self._asdict(), "places": self.places._asdict()})


def from_json(text: str) -> Configuration:
    """The configuration that ``to_json`` wrote."""
    read = json.loads(text)
    places = read.pop("places")
    places["sites"] = tuple(places["sites"])
    return Configuration(places=Places(**places), **read)
