# SPDX-License-Identifier: MIT
"""
Starting a local cluster: master and nodes side by side, each told where the other is and its fingerprint.

What already runs in the directory is left running, what died is started again with its own identity, its own
store and, if they are free, its own ports. If anything fails, what was started here is ended again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from pydra.cli.connection import Controller, connect
from pydra.cli.failures import FAILED, CliError
from pydra.cli.local_cluster.daemon import (
    POLL_S,
    Started,
    daemon_command,
    end_processes,
    failure,
    pause,
    quoted,
    start_daemon,
    undisturbed,
    wait_ready,
)
from pydra.cli.local_cluster.layout import MASTER, Layout, read_file, write_file
from pydra.cli.local_cluster.record import Daemon, Record, read_record, write_record
from pydra.cli.local_cluster.settings_text import (
    LOCAL_HOST,
    client_settings,
    master_settings,
    node_settings,
)
from pydra.client.target import Target
from pydra.cluster.sandbox.runtime_lock import holder

T = TypeVar("T")

READY_S = 90.0
"""Seconds in which a node has to be ready to work."""

CONTROLLER_PORT = 18801


@dataclass(frozen=True)
class Wish:
    """What was asked for; None is what the directory had before, or the default."""

    nodes: int | None = None
    workers: int | None = None
    port: int | None = None
    isolation: str = "sandbox"
    tasks: Path | None = None


@dataclass
class Starter:
    """Starts the cluster of one directory."""

    layout: Layout
    say: Callable[[str], None]
    connect: Callable[[Target], Controller] = connect
    command: Callable[[str], Sequence[str]] = daemon_command
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    started: dict[str, Started] = field(default_factory=dict)
    proven_bubblewrap: str = ""
    """The bubblewrap of the last start that succeeded."""

    def start(self, wish: Wish) -> Record:
        """
        Return the cluster once a node of it is ready to work.

        Raises ``CliError``, also if the cluster of this directory is alive.
        """
        self.layout.make()
        with self.layout.locked():
            before = read_record(self.layout)
            if before is not None and all(daemon.is_alive for daemon in before.daemons):
                raise CliError(
                    f"A cluster already runs in {self.layout.shown} (controller {before.host}:"
                    f"{before.master.port}); end it with: {self.layout.down}",
                    FAILED,
                    "conflict",
                )
            record = self._wished(wish, before)
            self.proven_bubblewrap = before.bubblewrap if before is not None else ""
            self._refuse_unknown(record)
            for daemon in record.daemons:
                self._fingerprint(daemon.name)
            deadline = time.monotonic() + READY_S
            try:
                record = self._place_nodes(record)
                record = self._start_master(record, wish)
                record = self._start_nodes(record)
                record = self._wait_listening(record, deadline)
                self._wait_connected(record, deadline)
                self.proven_bubblewrap = record.bubblewrap
                self._keep(record)
            except BaseException as fault:
                with undisturbed():
                    if isinstance(fault, KeyboardInterrupt):
                        self.say("Interrupted; ending what was started.")
                    end_processes([started.process for started in self.started.values()], self.say)
                raise
            return record

    def _refuse_unknown(self, record: Record) -> None:
        """Raise ``CliError`` if a daemon that the record does not know works where one shall be started."""
        for daemon in record.daemons:
            process = None if daemon.is_alive else holder(self.layout.runtime(daemon.name))
            if process is not None:
                raise CliError(
                    f"A daemon that cluster.json does not know works in {self.layout.shown}/{daemon.name} "
                    f"(process {process}); end it first: kill {process}",
                    code="conflict",
                )

    def _wished(self, wish: Wish, before: Record | None) -> Record:
        """Return the cluster as it shall be, with the daemons as they are."""
        kept = before.nodes if before is not None else ()
        count = wish.nodes if wish.nodes is not None else len(kept) or 1
        if any(daemon.is_alive for daemon in kept[count:]):
            raise CliError(
                f"More nodes than that run; end the cluster first: {self.layout.down}", code="conflict"
            )
        if before is not None and before.isolation != wish.isolation and any(each.is_alive for each in kept):
            raise CliError(
                f"A part of it runs with isolation {before.isolation}; end it first: {self.layout.down}",
                code="conflict",
            )
        nodes = kept[:count] + tuple(
            Daemon(self.layout.node(number), 0) for number in range(len(kept) + 1, count + 1)
        )
        return Record(
            host=LOCAL_HOST,
            workers=_first(wish.workers, before.workers if before else None, 0),
            isolation=wish.isolation,
            tasks=str(
                _first(wish.tasks, Path(before.tasks) if before else None, self.layout.tasks).absolute()
            ),
            bubblewrap=self._bubblewrap(before),
            master=before.master if before else Daemon(MASTER, _first(wish.port, None, CONTROLLER_PORT)),
            nodes=nodes,
        )

    def _bubblewrap(self, before: Record | None) -> str:
        """Return the bubblewrap that the environment names, else that of before if it is still there."""
        tool = self.environ.get("PYDRA_BUBBLEWRAP")
        if tool is not None:
            return str(Path(tool).absolute()) if tool else ""
        kept = before.bubblewrap if before is not None else ""
        return kept if os.access(kept, os.X_OK) else ""

    def _keep(self, record: Record) -> None:
        """Write the record down, with a bubblewrap only if a cluster has started with it."""
        write_record(self.layout, msgspec.structs.replace(record, bubblewrap=self.proven_bubblewrap))

    def _place_nodes(self, record: Record) -> Record:
        """End what is left of the nodes that died, and choose ports for them that are free now."""
        nodes = list(record.nodes)
        taken = {node.port for node in nodes if node.is_alive}
        for index, node in enumerate(nodes):
            if node.is_alive:
                continue
            if node.process is not None:
                end_processes([node.process], self.say)
            port = 0 if node.port in taken else free_port(node.port)
            while port == 0 or port in taken:
                port = any_free_port()
            taken.add(port)
            nodes[index] = msgspec.structs.replace(node, port=port, process=None)
        return msgspec.structs.replace(record, nodes=tuple(nodes))

    def _start_nodes(self, record: Record) -> Record:
        """Start the nodes that do not run."""
        master_fingerprint = self._fingerprint(MASTER)
        nodes = []
        for node in record.nodes:
            if node.process is None:
                text = node_settings(
                    node.name,
                    self.layout.runtime(node.name),
                    node.port,
                    master_fingerprint,
                    record.workers,
                    record.isolation,
                    record.bubblewrap,
                )
                self._launch(node.name, "node", text)
                node = self._as_started(node)
            nodes.append(node)
        record = msgspec.structs.replace(record, nodes=tuple(nodes))
        self._keep(record)
        return record

    def _start_master(self, record: Record, wish: Wish) -> Record:
        """Start the master, if it does not run or does not know where the nodes are now."""
        if record.master.is_alive and self._settings_of_master(record, record.master.port) == (
            self.layout.settings(MASTER).read_text(encoding="utf-8")
        ):
            return record
        if record.master.process is not None:
            end_processes([record.master.process], self.say)
        port = self._controller_port(wish, record)
        self._launch(MASTER, "master", self._settings_of_master(record, port))
        record = msgspec.structs.replace(record, master=self._as_started(record.master))
        self._keep(record)
        return record

    def _wait_listening(self, record: Record, deadline: float) -> Record:
        """Wait until all that were started listen, and write down where clients find the master."""
        master, *nodes = (
            wait_ready(self.layout, self.started[daemon.name], deadline)
            if daemon.name in self.started
            else daemon
            for daemon in (record.master, *record.nodes)
        )
        record = msgspec.structs.replace(record, master=master, nodes=tuple(nodes))
        self._keep(record)
        if MASTER in self.started:
            settings = self._settings_of_master(record, master.port)
            write_file(self.layout.settings(MASTER), settings.encode(), 0o644)
            write_file(self.layout.key, read_file(self.layout.runtime(MASTER) / "master.key"), 0o600)
            client = client_settings(master.port, self.layout.key)
            write_file(self.layout.client_settings, client.encode(), 0o644)
        return record

    def _settings_of_master(self, record: Record, port: int) -> str:
        """Return the settings that the master of this cluster has."""
        nodes = [(LOCAL_HOST, node.port, self._fingerprint(node.name)) for node in record.nodes]
        return master_settings(
            self.layout.runtime(MASTER), port, Path(record.tasks), nodes, record.isolation, record.bubblewrap
        )

    def _launch(self, name: str, role: str, settings: str) -> None:
        """Write the settings of a daemon and start it."""
        write_file(self.layout.settings(name), settings.encode(), 0o644)
        self.say(f"Starting {name}.")
        self.started[name] = start_daemon(self.layout, name, self.command(role))

    def _controller_port(self, wish: Wish, record: Record) -> int:
        """Return the port for the master: the one asked for, else the one of before or the usual one."""
        if wish.port and not free_port(wish.port):
            raise CliError(
                f"Port {wish.port} is taken; choose another one, or --port 0 for any.", FAILED, "conflict"
            )
        port = free_port(wish.port or record.master.port)
        if port == 0 and record.master.port != 0:
            self.say(f"Port {record.master.port} is taken; another one is chosen.")
        return port

    def _as_started(self, daemon: Daemon) -> Daemon:
        """Return the daemon with the process that was started for it, if one was."""
        started = self.started.get(daemon.name)
        return daemon if started is None else msgspec.structs.replace(daemon, process=started.process)

    def _fingerprint(self, name: str) -> str:
        """
        Return the fingerprint of a daemon, whose keys are made if it has none.

        Keys that are there may belong to the daemon's own user; then only its certificate is looked at.
        """
        from cryptography import x509

        from pydra.cluster.auth.administrator import ensure_master_key
        from pydra.cluster.auth.identity import CERTIFICATE_FILE, ensure_identity, fingerprint

        self.layout.make_runtime(name)
        runtime = self.layout.runtime(name)
        certificate = runtime / CERTIFICATE_FILE
        if certificate.exists():
            return fingerprint(x509.load_pem_x509_certificate(read_file(certificate)))
        identity = ensure_identity(runtime)
        if name == MASTER:
            ensure_master_key(runtime / "master.key", identity)
        return identity.fingerprint

    def _wait_connected(self, record: Record, deadline: float) -> None:
        """Wait until the master has a node; ``CliError`` if a daemon dies or time is up."""
        from pydra.cluster.controller import ControllerException

        self.say("Waiting for the first node.")
        controller = self.connect(Target(record.host, record.master.port, self.layout.key))
        why = "The master has no node that is connected."
        try:
            while time.monotonic() < deadline:
                self._check_alive()
                try:
                    if any(node["status"] == 1 for node in controller.node_status().values()):
                        return
                except ControllerException as error:
                    why = str(error)
                pause(POLL_S)
        finally:
            controller.close()
        logs = "\n".join(quoted(started) for started in self.started.values())
        raise CliError(f"No node was ready to work within {READY_S:g} s. {why}\n{logs}", FAILED, "not_ready")

    def _check_alive(self) -> None:
        """Raise ``CliError`` if a daemon that was started here has ended."""
        for started in self.started.values():
            code = started.child.poll()
            if code is not None:
                raise failure(self.layout, started, code)


def _first(wished: T | None, before: T | None, default: T) -> T:
    """Return what was asked for, else what was before, else the default."""
    if wished is not None:
        return wished
    return default if before is None else before


def free_port(port: int) -> int:
    """Return the port if it can be listened on now, else 0 (chosen by the system)."""
    if port == 0:
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL_HOST, port))
        except OSError:
            return 0
    return port


def any_free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOCAL_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
