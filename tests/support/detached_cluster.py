# SPDX-License-Identifier: MIT
"""A cluster whose daemons a test kills and starts again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import psutil

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import environment, left_of, run_pydra, wait_until

PACKAGES = Path(__file__).parent.parent / "packages"


class DetachedCluster:
    """
    One node, or more, which outlive what starts them.

    It has one package of the tests, of which ``task`` is waited for at each start, and these settings.
    """

    def __init__(
        self, directory: Path, package: str, task: str, workers: int = 1, nodes: int = 1, **settings: str
    ) -> None:
        self.directory = directory
        self._task = task
        self._size = ("--workers", str(workers), "--nodes", str(nodes))
        self._environment = environment(**{f"PYDRA_{name}": value for name, value in settings.items()})
        tasks = directory / "tasks"
        tasks.mkdir(parents=True)
        shutil.copytree(PACKAGES / package, tasks / package)
        self.pids: set[int] = set()
        self._controllers: list[WebController] = []

    @property
    def controller(self) -> WebController:
        """A client of the master that was started last."""
        return self._controllers[-1]

    def up(self) -> None:
        """Start what does not run."""
        words = ("cluster", "up", "--dir", str(self.directory), *self._size, "--port", "0")
        done = run_pydra(*words, "--detach", "--json", env=self._environment)
        assert done.returncode == 0, done.stderr
        ready = json.loads(done.stdout)
        self.master, self.nodes = ready["pids"]["master"], ready["pids"]["nodes"]
        self.node = self.nodes[0]
        self.pids |= {self.master, *self.nodes}
        where = ready["controller"]
        self.host, self.port, self.key = str(where["host"]), int(where["port"]), str(ready["key"])
        self._controllers.append(WebController(self.host, self.port, key=self.key))
        wait_until(self.controller.list_tasks, lambda tasks: self._task in tasks)

    def kill(self, pid: int) -> None:
        """As the kernel does when memory is short."""
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie", lambda on: not on
        )

    def down(self) -> None:
        """End all; nothing may be left of any daemon that ever ran."""
        for controller in self._controllers:
            controller.close()
        assert run_pydra("cluster", "down", "--dir", str(self.directory)).returncode == 0
        assert wait_until(lambda: left_of(list(self.pids)), lambda left: not left) == []
