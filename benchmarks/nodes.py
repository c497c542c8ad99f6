# SPDX-License-Identifier: MIT
"""
``python -m benchmarks nodes``: what many idle nodes cost a master.

One process plays all nodes: each has a listener, an identity and a link of its own, and sends its heartbeats
over TLS. The master is a real one, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from twisted.internet import reactor as global_reactor  # noqa: TID251 - this file starts it
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.rows import show
from pydra.cli.local_cluster.settings_text import master_settings
from pydra.cluster.auth.identity import ensure_identity
from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.interfaces import Bulk, BulkSink, Link
from pydra.cluster.node.information import information, stones
from pydra.cluster.wire.listen import MasterListener
from pydra.cluster.wire.messages import PROTOCOL, Heartbeat, MasterHello, NodeHello
from pydra.errors import WireError

HEARTBEAT_S = 5.0


class IdleNode:
    """A node that says hello and then that it lives."""

    def __init__(self, reactor: Any, number: int, speed: int) -> None:
        self._reactor = reactor
        self._number = number
        self._speed = speed
        self._link: Link | None = None
        self.is_greeted = False

    def link_up(self, link: Link, bulk: Bulk) -> None:
        """The master dialled."""
        self._link = link

    def messages_received(self, messages: Any) -> None:
        """Only its hello is of interest."""
        for message in messages:
            if isinstance(message, MasterHello) and self._link is not None:
                facts = information("none", self._speed)
                self._link.send(NodeHello(PROTOCOL, f"{self._number:032x}", 2, facts))
                self.is_greeted = True
                self._reactor.callLater(HEARTBEAT_S, self._beat, self._link)

    def _beat(self, link: Link) -> None:
        if self._link is link:
            link.send(Heartbeat())
            self._reactor.callLater(HEARTBEAT_S, self._beat, link)

    def stream_opened(self, kind: str, detail: str) -> BulkSink:
        """Nothing is sent to it."""
        raise WireError("This node takes nothing.")

    def link_down(self, reason: str) -> None:
        """The master is away."""
        self._link = None


async def measure(reactor: Any, directory: Path, count: int, seconds: float) -> dict[str, float]:
    """Start nodes and a master, let them settle, and look at the master's CPU time."""
    runtime = directory / "master"
    runtime.mkdir(mode=0o700)
    master = ensure_identity(runtime)
    nodes, addresses, listeners = [], [], []
    speed = stones()
    for number in range(count):
        home = directory / f"node{number}"
        home.mkdir(mode=0o700)
        identity = ensure_identity(home)
        node = IdleNode(reactor, number, speed)
        listener = MasterListener(reactor, DaemonTLS(identity), "127.0.0.1", 0, master.fingerprint, node)
        nodes.append(node)
        listeners.append(listener)
        addresses.append(("127.0.0.1", listener.start(), identity.fingerprint))
    settings = directory / "master.py"
    settings.write_text(master_settings(runtime, 0, directory / "tasks", addresses, "none", ""))
    (directory / "tasks").mkdir()
    environment = {**os.environ, "PYDRA_SETTINGS": str(settings)}
    daemon = subprocess.Popen(
        [sys.executable, "-m", "pydra.cluster.master.main"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        begun = reactor.seconds()
        while not all(node.is_greeted for node in nodes):
            await deferLater(reactor, 0.05, lambda: None)
            if daemon.poll() is not None or reactor.seconds() - begun > 120:
                raise RuntimeError("the master did not link to all nodes")
        linked_s = reactor.seconds() - begun
        process = psutil.Process(daemon.pid)
        await deferLater(reactor, HEARTBEAT_S, lambda: None)
        before = process.cpu_times()
        await deferLater(reactor, seconds, lambda: None)
        after = process.cpu_times()
        busy_s = after.user + after.system - before.user - before.system
        return {
            "share": busy_s / seconds * 100,
            "linked_s": linked_s,
            "memory": process.memory_full_info().pss / 2**20,
        }
    finally:
        daemon.terminate()
        daemon.wait(10)
        for listener in listeners:
            await listener.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks nodes", description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long is looked")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pydra-benchmark-") as directory:
        found: list[dict[str, float] | BaseException] = []

        async def work() -> None:
            try:
                found.append(await measure(global_reactor, Path(directory), options.nodes, options.seconds))
            except BaseException as fault:  # noqa: BLE001 - told below, when the reactor has stopped
                found.append(fault)
            global_reactor.stop()

        global_reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()))
        global_reactor.run()
    if isinstance(found[0], BaseException):
        raise found[0]
    show(f"{options.nodes} idle nodes: share of one core in the master", found[0]["share"], "%", aim="aim 30")
    show("the same: all linked after the master's start", found[0]["linked_s"], "s", aim="aim 15")
    show("the same: memory of the master", found[0]["memory"], "MB")
