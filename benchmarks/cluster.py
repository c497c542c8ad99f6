# SPDX-License-Identifier: MIT
"""A real local cluster to measure, made and ended by the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pydra.cluster.controller.web.controller import WebController

PACKAGE = Path(__file__).parent / "package" / "bench"
TASK = "bench.noop.Noop"


class MeasuredCluster(msgspec.Struct, frozen=True):
    """A running cluster, how to reach it, and when its start was asked for (monotonic seconds)."""

    begun: float
    host: str
    port: int
    key: str
    pids: dict[str, int]

    def controller(self) -> WebController:
        """A connection of its own."""
        return WebController(self.host, self.port, key=self.key)


@contextmanager
def running(nodes: int, workers: int) -> Iterator[MeasuredCluster]:
    """A cluster with the benchmark package, in a temporary directory that is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="pydra-benchmark-"))
    pydra = [sys.executable, "-m", "pydra", "cluster"]
    try:
        shutil.copytree(PACKAGE, directory / "tasks" / "bench")
        begun = time.monotonic()
        size = ["--nodes", str(nodes), "--workers", str(workers), "--port", "0"]
        up = subprocess.run(
            [*pydra, "up", "--dir", directory, *size, "--detach", "--json"],
            check=True,
            stdout=subprocess.PIPE,
        )
        facts = json.loads(up.stdout)
        pids = {"master": facts["pids"]["master"]}
        pids |= {f"node {number}": pid for number, pid in enumerate(facts["pids"]["nodes"], 1)}
        where = facts["controller"]
        yield MeasuredCluster(begun, where["host"], where["port"], facts["key"], pids)
    finally:
        subprocess.run([*pydra, "down", "--dir", directory], check=False, stdout=subprocess.DEVNULL)
        shutil.rmtree(directory, ignore_errors=True)


def wait_listed(controller: WebController, deadline_s: float = 30.0) -> None:
    """Return when the benchmark package is described."""
    until = time.monotonic() + deadline_s
    while TASK not in controller.list_tasks():
        if time.monotonic() > until:
            raise TimeoutError(f"{TASK} is not listed: {controller.package_list()}")
        time.sleep(0.005)  # noqa: TID251 - waits for the outside


def run_one(controller: WebController) -> None:
    """Submit one instance and wait for its result."""
    instance = controller.run_tasks(TASK)
    answer = controller.wait_task(instance)
    if answer["state"] != "complete":
        raise RuntimeError(f"The task ended as {answer}")
