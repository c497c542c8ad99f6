# SPDX-License-Identifier: MIT
"""
What a launcher is told once, at its start, by whoever starts it; nothing that comes later can change it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from pydra.cluster.sandbox.launcher.bounds import Bounds

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
    timezone: str
    """``TZ`` for workers; empty if not set."""
    defaults: Bounds
    """What a worker may use unless its fill says otherwise."""
    ceilings: Bounds
    """What a fill may say at most."""
    network: bool
    """A worker may be launched with the host's network."""
    group: str
    """Where control groups are made, below the root of each hierarchy; empty for nowhere."""
    mounts: tuple[tuple[str, str], ...]
    """Names in ``/data`` and the host directories to be seen there, read-only."""
    start: str = AUTO
    """How sandboxes are made: ``auto`` forks, or uses bubblewrap where that does not pass its trial."""

    def to_json(self) -> str:
        """The configuration as one argument of a command line."""
        return json.dumps({**self._asdict(), "places": self.places._asdict()})  # bounds become lists


def from_json(text: str) -> Configuration:
    """The configuration that ``to_json`` wrote."""
    read = json.loads(text)
    places = read.pop("places")
    places["sites"] = tuple(places["sites"])
    for name in ("defaults", "ceilings"):
        read[name] = Bounds(*read[name])
    read["mounts"] = tuple((name, source) for name, source in read["mounts"])
    return Configuration(places=Places(**places), **read)
