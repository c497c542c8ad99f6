# SPDX-License-Identifier: MIT
"""
A real cluster for black-box tests: ``pydra cluster up`` as a process, looked at from outside only.

This is the one place where a test may wait. What is waited for is named; if it does not come, the last state
seen and the end of each daemon's log are told.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydra.cli.local_cluster.record import Process, this_process
from pydra.cluster.controller.web.controller import WebController
from pydra.model.status import Status

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
PYDRA = [sys.executable, "-m", "pydra"]
WAIT_S = 90.0
"""What a test waits for comes sooner, however busy the machine is; nothing says how fast it is."""


running: list[Cluster] = []
"""The clusters that run now; their logs are shown with the report of a test that fails."""

T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which no setting of the person who runs the tests holds."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYDRA_") or name == "PYDRA_BUBBLEWRAP"
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    kept["NO_COLOR"] = "1"
    return kept | more


def wait_until(
    look: Callable[[], T],
    holds: Callable[[T], object] = bool,
    timeout_s: float = WAIT_S,
    what: str = "the state waited for",
    details: Callable[[], str] = str,
) -> T:
    """Return what ``look`` returns as soon as it holds; if not, AssertionError with the last state."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look()
        if holds(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{what} did not come within {timeout_s:g} s; last seen: {seen!r}\n{details()}"
            )
        time.sleep(0.02)  # noqa: TID251 - the one place


@dataclass
class Cluster:
    """A running cluster and what a test does with it."""

    directory: Path
    process: subprocess.Popen[str] | None  # of ``cluster up``; None if that was called with --detach
    ready: dict[str, Any]  # the line of --json
    env: dict[str, str] = field(default_factory=environment)

    @property
    def tasks(self) -> Path:
        """TASKS_DIR."""
        return self.directory / "tasks"

    @property
    def host(self) -> str:
        """Host of the controller API."""
        return str(self.ready["controller"]["host"])

    @property
    def port(self) -> int:
        """Port of the controller API."""
        return int(self.ready["controller"]["port"])

    @property
    def master_pid(self) -> int:
        """Number of the master's process."""
        return int(self.ready["pids"]["master"])

    @property
    def node_pids(self) -> list[int]:
        """Numbers of the nodes' processes."""
        return [int(pid) for pid in self.ready["pids"]["nodes"]]

    def controller(self) -> WebController:
        """Return a new client of the master."""
        return WebController(self.host, self.port, self.ready["key"])

    def pydra(self, *words: str, timeout_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        """Run the command line on this cluster."""
        return run_pydra(
            *words,
            env=self.env | {"PYDRA_SETTINGS": str(self.directory / "pydra_settings.py")},
            timeout_s=timeout_s,
        )

    def put_package(self, name: str, source: Path | None = None, **files: str) -> None:
        """Put a package into TASKS_DIR: an example, or these modules by name."""
        target = self.tasks / name
        if source is not None:
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        target.mkdir(exist_ok=True)
        for module, text in files.items():
            (target / f"{module}.py").write_text(text)

    def wait_listed(self, task_key: str, timeout_s: float = WAIT_S) -> None:
        """Wait until the task is listed."""
        with self.controller() as controller:
            wait_until(
                controller.list_tasks,
                lambda tasks: task_key in tasks,
                timeout_s,
                f"task {task_key}",
                self.logs,
            )

    def wait_final(self, instance: int, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait until the instance has ended and return its outcome."""
        with self.controller() as controller:
            return wait_until(
                lambda: controller.task_result(instance),
                lambda answer: Status(answer["status"]).is_final,
                timeout_s,
                f"the end of instance {instance}",
                self.logs,
            )

    def logs(self) -> str:
        """Return the end of what each daemon wrote."""
        parts = []
        own = [self.directory.parent / f"{self.directory.name}.up.err"]
        for path in own + sorted(self.directory.glob("*/*.out")) + sorted(self.directory.glob("*/logs/*")):
            if path.is_file():
                lines = path.read_text(errors="replace").splitlines()[-40:]
                parts.append(f"--- {path}\n" + "\n".join(lines))
        return "\n".join(parts)


def run_pydra(
    *words: str, env: Mapping[str, str] | None = None, timeout_s: float = WAIT_S
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        [*PYDRA, *words],
        env=dict(env or environment()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextmanager
def running_cluster(directory: Path, *options: str, **variables: str) -> Iterator[Cluster]:
    """
    Run a cluster in a directory, in the foreground of a process of its own, on ports the system chooses.

    On leaving it is ended as by Ctrl-C, and it is an error if that fails or leaves a process.
    """
    env = environment(**variables)
    noise = directory.parent / f"{directory.name}.up.err"
    with noise.open("w") as errors:
        process = subprocess.Popen(
            [*PYDRA, "cluster", "up", "--json", "--dir", str(directory), "--port", "0", *options],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    daemons: list[int] = []
    try:
        line = process.stdout.readline()
        assert line, f"cluster up ended with {process.wait(WAIT_S)}:\n{noise.read_text()}"
        cluster = Cluster(directory, process, json.loads(line), env)
        daemons = [cluster.master_pid, *cluster.node_pids]
        running.append(cluster)
        yield cluster
    finally:
        running[:] = [each for each in running if each.process is not process]
        tree = descendants([process.pid, *daemons])
        if process.poll() is None:
            process.terminate()
        code = process.wait(WAIT_S)
        process.stdout.close()
    assert code == 0, f"cluster up ended with {code}:\n{noise.read_text()}\n{cluster.logs()}"
    assert left_of(daemons) == [], "processes were left behind"
    assert [each for each in tree if each.is_alive] == [], "processes that daemons started were left behind"


def descendants(pids: list[int]) -> list[Process]:
    """Return the processes and all that they started, as far as those above them still run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text()
                children.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found = list(pids)
    for pid in found:
        found += children.get(pid, [])
    return [process for process in map(this_process, found) if process is not None]


def left_of(pids: list[int]) -> list[str]:
    """Return what still runs of daemons and of the sessions that they led."""
    left = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        state, _, _, session = stat[stat.rindex(")") + 2 :].split()[:4]
        if state != "Z" and (int(entry.name) in pids or int(session) in pids):
            left.append(stat[:60])
    return left
