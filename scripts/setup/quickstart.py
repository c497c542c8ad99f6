# SPDX-License-Identifier: MIT
"""
The quick start: makes all it needs, starts a cluster here, runs the demo on it, says how to go on.

Exit codes: 0 good, 1 the demo failed, 3 something is missing and cannot be installed from here, 4 this
machine refuses the namespaces that the sandbox is made of.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import machine
from machine import ROOT, say, stop

DEMO = ROOT / "examples" / "demo"
DEMO_TASK = "demo.library_statistics.StatisticsTask"
NEXT_TASK = "demo.demo_task.TestTask"
LISTED_S = 180.0
"""Seconds in which the demo has to be listed after its package was put in place."""

LOG_LINES = 12
"""Lines of the master's log that are shown if the demo is not listed."""

PR_SET_CHILD_SUBREAPER = 36

UNSANDBOXED = "Tasks run WITHOUT a sandbox (--isolation none): they can do all that you can."


class QuickStart:
    """One run of the quick start."""

    def __init__(self, python: Path, directory: Path, isolation: str, env: dict[str, str]) -> None:
        self.pydra = [str(python), "-m", "pydra"]
        self.directory = directory
        self.isolation = isolation
        decided = {"PYDRA_HOST", "PYDRA_CONTROLLER_PORT", "PYDRA_CONTROLLER_KEY", "PYDRA_OUTPUT"}
        self.env = {name: value for name, value in os.environ.items() if name not in decided} | env
        self.env["PYDRA_SETTINGS"] = str(directory / "pydra_settings.py")

    def call(self, *words: str) -> int:
        """Run a command of pydra where its output can be seen."""
        done = subprocess.run([*self.pydra, *words], env=self.env, check=False)  # noqa: S603 - our own
        return done.returncode

    def ask(self, *words: str) -> str | None:
        """Return what a command of pydra prints; None if it fails."""
        done = subprocess.run(  # noqa: S603 - our own
            [*self.pydra, *words], env=self.env, check=False, capture_output=True, text=True, errors="replace"
        )
        return done.stdout if done.returncode == 0 else None

    def put_demo(self) -> None:
        """Put the demo package into TASKS_DIR, unless there is one."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self.directory / "tasks" / "demo"
        if not target.exists():
            shutil.copytree(DEMO, target, ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, *options: str) -> None:
        """Start the cluster, unless it runs; ends with the exit code of ``cluster up`` if it cannot."""
        if Path(self.env["PYDRA_SETTINGS"]).exists() and self.ask("status", "-o", "json") is not None:
            say(f"The cluster in {self.directory} runs already.")
            return
        say(f"Starting a cluster in {self.directory} ...")
        ready = self._up("--isolation", self.isolation, *options)
        controller = ready["controller"]
        say(
            f"It runs: controller https://{controller['host']}:{controller['port']}, "
            f"isolation {ready['isolation']}."
        )

    def _up(self, *options: str) -> dict[str, Any]:
        """Start the cluster and return where it is; interrupted, it ends what it started first."""
        with subprocess.Popen(  # noqa: S603 - our own
            [*self.pydra, "cluster", "up", "--dir", str(self.directory), "--detach", "--json", *options],
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            try:
                answer, _ = child.communicate()
            except KeyboardInterrupt as cause:
                if cause.args:  # by a signal that only we got; Ctrl-C reaches both
                    child.terminate()
                child.wait()
                raise
        if child.returncode != 0:
            raise SystemExit(child.returncode)
        ready: dict[str, Any] = json.loads(answer)
        return ready

    def wait_listed(self) -> None:
        """Wait until the demo task is listed; ends with the reason if its package cannot be used."""
        deadline = time.monotonic() + LISTED_S
        faults: list[str] = []
        while time.monotonic() < deadline:
            answer = self.ask("status", "-o", "json")
            packages = [] if answer is None else json.loads(answer)["packages"]
            for package in packages:
                if DEMO_TASK in package["tasks"]:
                    return
            faults = [
                f"{package['package']}/{error['file']}: {error['message']}"
                for package in packages
                for error in package.get("errors") or []
            ]
            threading.Event().wait(0.2)
        logged = self.end_of_log()  # of --once nothing is left to be looked at
        if logged:
            faults.append(f"The end of {self.directory}/master/logs:")
        told = "\n".join([f"The task {DEMO_TASK} was not listed in {LISTED_S:g} s.", *faults, *logged])
        stop(told, 1)

    def end_of_log(self) -> list[str]:
        """Return the last lines of the master's log; none if it cannot be read."""
        try:
            newest = max(
                (self.directory / "master" / "logs").iterdir(), key=lambda file: file.stat().st_mtime
            )
            return newest.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except (OSError, ValueError):
            return []

    def run_demo(self) -> int:
        """Run the demo and show it; return its exit code."""
        say(f"\n$ pydra run {DEMO_TASK} --wait")
        return self.call("run", DEMO_TASK, "--wait")

    def down(self) -> int:
        """End the cluster."""
        return self.call("cluster", "down", "--dir", str(self.directory))


def adopt_orphans() -> None:
    """Become the parent of the daemons that run on, so that nothing of them is left: see ``reap``."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> None:
    """Let go of every child that ended; not every first process of a machine does that."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run_once(python: Path, isolation: str, env: dict[str, str]) -> int:
    """Run the demo in a directory that is gone afterwards, on ports that the system chose."""
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="pydra-once-") as name:
        quick = QuickStart(python, Path(name), isolation, env)
        quick.put_demo()
        try:
            quick.start("--port", "0")
            quick.wait_listed()
            code = quick.run_demo()
        finally:
            ended = quick.down() if (Path(name) / "cluster.json").exists() else 0
            reap()
    if code == 0 and ended == 0:
        say("\nThat was all of it: the cluster and its directory are gone. To keep one: scripts/quickstart")
    return code or ended


def run_and_keep(python: Path, directory: Path, isolation: str, env: dict[str, str]) -> int:
    """Run the demo on a cluster that stays, and say how to go on."""
    quick = QuickStart(python, directory, isolation, env)
    quick.put_demo()
    quick.start()
    quick.wait_listed()
    code = quick.run_demo()
    if isolation == "none":
        say(f"\n{UNSANDBOXED}")
    path, settings = shlex.quote(str(python.parent)), shlex.quote(quick.env["PYDRA_SETTINGS"])
    say(f"""
The cluster runs on. To go on, in this shell:

  export PATH={path}:"$PATH" PYDRA_SETTINGS={settings}
  pydra run {NEXT_TASK} -a start=0 -a end=5 --wait
  pydra ps --all
  pydra status

Your own tasks: put a directory with Python files into {directory}/tasks (see docs/guide/tasks.md).
To end it: pydra cluster down --dir {shlex.quote(str(directory))}""")
    return code


def default_directory() -> Path:
    """Return the directory that ``pydra cluster up`` takes if none is named."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "pydra"


def named_directory(text: str) -> Path:
    """Return the directory that was named: no text at all, as of a variable that is not set, is none."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is a variable not set?")
    return Path(text)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """End like Ctrl-C."""
    raise KeyboardInterrupt("by SIGTERM")


def main() -> int:
    """Run the quick start."""
    parser = argparse.ArgumentParser(
        prog="scripts/quickstart",
        description="Make all that Pydra needs, start a cluster on this machine and run the demo on it.",
    )
    parser.add_argument(
        "--once", action="store_true", help="use a temporary directory and end the cluster again"
    )
    parser.add_argument(
        "--dir", type=named_directory, help="directory of the cluster (default: as pydra cluster up)"
    )
    parser.add_argument(
        "--isolation",
        choices=["sandbox", "none"],
        default="sandbox",
        help="none: run tasks without a sandbox, for machines that refuse namespaces",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    machine.be_readable()
    try:
        python = machine.ensure_venv()
        env: dict[str, str] = {}
        if options.isolation == "none":
            say(UNSANDBOXED)
        else:
            env = machine.ensure_bubblewrap()
            machine.check_sandbox(python, env)
        if options.once:
            return run_once(python, options.isolation, env)
        directory = (options.dir or default_directory()).absolute()
        return run_and_keep(python, directory, options.isolation, env)
    except KeyboardInterrupt:
        say("Interrupted.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
