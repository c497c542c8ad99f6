# SPDX-License-Identifier: MIT
"""
``cluster.json``: which processes are the daemons of a directory, and what stays when they start again.

A process is known by its pid, its start time and the boot it belongs to, so that a number which the system
gave to another process since is never taken for a daemon.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pydra.cli.failures import CliError
from pydra.cli.local_cluster.layout import Layout, read_file, write_file


class Process(msgspec.Struct, frozen=True):
    """One process, for ever; ``started`` in clock ticks since the boot."""

    pid: int
    started: int
    boot: str

    @property
    def is_alive(self) -> bool:
        """True while it runs; a process that waits to be reaped does not."""
        stat = read_stat(self.pid)
        return (
            stat is not None and stat.started == self.started and stat.state != "Z" and self.boot == boot_id()
        )


class Daemon(msgspec.Struct, frozen=True):
    """A daemon: its directory's name, the port it listens on, its process; None once it was ended."""

    name: str
    port: int
    process: Process | None = None
    isolation: str = ""
    """``full``, ``user`` or ``none``, as it said itself; empty before it did."""

    @property
    def is_alive(self) -> bool:
        """True while its process runs."""
        return self.process is not None and self.process.is_alive


class Record(msgspec.Struct, frozen=True):
    """
    A local cluster as it was last started.

    ``isolation`` is what was asked for; what came of it is told by each daemon.
    """

    host: str
    workers: int
    isolation: str
    tasks: str
    bubblewrap: str
    master: Daemon
    nodes: tuple[Daemon, ...]

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """The master and the nodes."""
        return (self.master, *self.nodes)

    @property
    def reported_isolation(self) -> str:
        """The weakest isolation that a daemon has, as ``pydra status`` tells it too."""
        known = {daemon.isolation for daemon in self.daemons}
        return next((word for word in ("none", "user", "full") if word in known), self.isolation)


@dataclass(frozen=True)
class Stat:
    """What matters of ``/proc/PID/stat``."""

    pid: int
    state: str
    session: int
    started: int


def read_stat(pid: int) -> Stat | None:
    """Return what the system says of a process; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of a program stands in brackets and may hold anything, brackets and spaces too.
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(pid, fields[0], int(fields[3]), int(fields[19]))


def boot_id() -> str:
    """Return the name of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def this_process(pid: int) -> Process | None:
    """Return a running process by its number; None if it has ended."""
    stat = read_stat(pid)
    return None if stat is None else Process(pid, stat.started, boot_id())


def session_members(leader: Process) -> list[int]:
    """Return the numbers of the processes that a daemon left in its session, itself included."""
    now = read_stat(leader.pid)
    if leader.boot != boot_id() or (now is not None and now.started != leader.started):
        return []
    stats = (read_stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [
        stat.pid
        for stat in stats
        if stat is not None
        and stat.session == leader.pid
        and stat.state != "Z"
        and stat.started >= leader.started
    ]


def read_record(layout: Layout) -> Record | None:
    """
    Return the record of a directory; None if there is none.

    Raises ``CliError`` if it cannot be read.
    """
    try:
        return msgspec.json.decode(read_file(layout.record), type=Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise CliError(
            f"{layout.shown}/cluster.json cannot be read: {error}. End the daemons of this directory if they "
            f"still run (ps ax | grep pydra.cluster), remove that file and run pydra cluster up again; "
            f"store, keys and logs stay."
        ) from error


def write_record(layout: Layout, record: Record) -> None:
    """Keep the record."""
    write_file(layout.record, msgspec.json.format(msgspec.json.encode(record)) + b"\n", 0o600)
