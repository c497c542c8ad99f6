# SPDX-License-Identifier: MIT
"""A real local cluster to measure, made and ended by the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import msgspec

from benchmarks.cpu import Meter, metered
from pydra.cluster.controller.web.controller import WebController

PACKAGES = Path(__file__).parent / "package"
TASK = "bench.noop.Noop"


class MeasuredCluster(msgspec.Struct, frozen=True):
    """A running cluster, how to reach it, and when its start was asked for (monotonic seconds)."""

    begun: float
    host: str
    port: int
    key: str
    pids: dict[str, int]
    meter: Meter
    """The CPU time of all its processes."""

    def controller(self) -> WebController:
        """A connection of its own."""
        return WebController(self.host, self.port, key=self.key)


def size_arguments(parser: ArgumentParser) -> None:
    """Take the size of the cluster."""
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the cluster")
    parser.add_argument("--workers", type=int, default=2, help="worker slots of each; the pool has as many")


@contextmanager
def running(
    nodes: int, workers: int, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[MeasuredCluster]:
    """A cluster with the benchmark package, in a temporary directory that is removed at the end."""
    with metered() as meter:
        directory = Path(tempfile.mkdtemp(prefix="pydra-benchmark-"))
        pydra = [sys.executable, "-m", "pydra", "cluster"]
        try:
            shutil.copytree(PACKAGES, directory / "tasks")
            begun = time.monotonic()
            size = ["--nodes", str(nodes), "--workers", str(workers), "--port", "0"]
            up = subprocess.run(
                [*pydra, "up", "--dir", directory, *size, "--detach", "--json"],
                check=True,
                stdout=subprocess.PIPE,
                env={**os.environ, **environment},
                preexec_fn=meter.join,
            )
            facts = json.loads(up.stdout)
            pids = {"master": facts["pids"]["master"]}
            pids |= {f"node {number}": pid for number, pid in enumerate(facts["pids"]["nodes"], 1)}
            where = facts["controller"]
            yield MeasuredCluster(begun, where["host"], where["port"], facts["key"], pids, meter)
        finally:
            subprocess.run([*pydra, "down", "--dir", directory], check=False, stdout=subprocess.DEVNULL)
            shutil.rmtree(directory, ignore_errors=True)


def wait_listed(controller: WebController, *tasks: str, deadline_s: float = 30.0) -> None:
    """Return when the tasks of the benchmark packages are described."""
    until = time.monotonic() + deadline_s
    wanted = {TASK, *tasks}
    while missing := wanted - set(controller.list_tasks()):
        if time.monotonic() > until:
            raise TimeoutError(f"{missing} are not listed: {controller.package_list()}")
        time.sleep(0.005)  # noqa: TID251 - waits for the outside


def run_one(controller: WebController, task: str = TASK) -> None:
    """Submit one instance and wait for its result."""
    instance = controller.run_tasks(task)
    answer = controller.wait_task(instance)
    if answer["state"] != "complete":
        raise RuntimeError(f"The task ended as {answer}")
