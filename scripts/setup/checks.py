# SPDX-License-Identifier: MIT
"""
Every check and test, in order, with a heading each and a summary at the end.

All of them run even if one fails; the exit code is 1 if any did. Names on the command line choose some.
The end of what a failed check printed is repeated below the summary: many keep only the end of a log.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import machine
from machine import ROOT, say

UNIT_TREES = ("tests/unit", "tests/contract", "tests/property", "tests/simulation", "tests/web")
PLANTED = ("results_told_before_the_commit", "units_of_a_lost_worker_dropped")
KEPT_LINES = 25
SOURCES = ("pydra", "tests", "scripts", "benchmarks", "examples", "setup.py", "pydra_settings.py")


@dataclass
class Checks:
    """The checks of this working copy, run with the Python of its virtual environment."""

    python: Path
    env: dict[str, str]
    told: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines that programs printed."""

    def run(self, *words: str) -> bool:
        """Run a program of the virtual environment in the root of the repository."""
        program, *rest = words
        command = [str(self.python.parent / program), *rest]
        say("$ " + " ".join(words))
        return self._shown(command, ROOT, self.env) == 0

    def _shown(self, command: list[str], cwd: Path, env: dict[str, str]) -> int:
        """Show what a program prints while it runs, keep the last lines, and return its exit code."""
        with subprocess.Popen(  # noqa: S603 - our own tools
            command,
            cwd=cwd,
            env=env | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as program:
            assert program.stdout is not None
            for line in program.stdout:
                self.told.append(line)
                sys.stdout.write(line)
                sys.stdout.flush()
        return program.returncode

    def existing(self, names: tuple[str, ...]) -> list[str]:
        """Return those of the names that this repository has."""
        return [name for name in names if (ROOT / name).exists()]

    def format(self) -> bool:
        """The formatter would change nothing."""
        return self.run("ruff", "format", "--check", *self.existing(SOURCES))

    def lint(self) -> bool:
        """The linter finds nothing."""
        return self.run("ruff", "check", *self.existing(SOURCES))

    def types(self) -> bool:
        """Types are right, strictly; the scripts are checked beside the package."""
        scripts = [
            "scripts/check_sizes.py",
            "scripts/api_reference.py",
            *map(str, sorted((ROOT / "scripts" / "setup").glob("*.py"))),
        ]
        return self.run("mypy") & self.run("mypy", *scripts)

    def imports(self) -> bool:
        """Imports run downwards, and the client side stays light."""
        return self.run("lint-imports")

    def sizes(self) -> bool:
        """Files and functions are short."""
        return self.run("python", "scripts/check_sizes.py")

    def unit(self) -> bool:
        """Unit, contract and property tests pass, in random order, with warnings as errors."""
        return self.run("python", "-m", "pytest", "-q", *self.existing(UNIT_TREES))

    def simulation(self) -> bool:
        """A minute of simulated clusters with faults, the same at every run; and two bugs are found."""
        module = ("python", "-m", "tests.simulation")
        holds = self.run(*module, "--seeds", "400")
        return holds & self.run(*module, "--planted", *PLANTED)

    def integration(self) -> bool:
        """Real daemons, real TLS, real sandboxes."""
        return self.run("python", "-m", "pytest", "-q", "tests/integration")

    def quickstart(self) -> bool:
        """The first command of the README runs the demo and leaves nothing."""
        say("$ scripts/quickstart --once")
        command = [sys.executable, str(ROOT / "scripts" / "setup" / "quickstart.py"), "--once"]
        return self._shown(command, ROOT, self.env) == 0

    def wheel(self) -> bool:
        """A wheel, installed in an empty environment, runs a task."""
        with tempfile.TemporaryDirectory(prefix="pydra-wheel-") as name:
            work = Path(name)
            if not self.run("python", "-m", "build", "--wheel", "--outdir", str(work), str(ROOT)):
                return False
            python = work / "venv" / "bin" / "python"
            steps: tuple[list[str | Path], ...] = (
                [sys.executable, "-m", "venv", work / "venv"],
                [python, "-m", "pip", "install", "--disable-pip-version-check", "-q", *work.glob("*.whl")],
                [python, "-m", "pip", "check"],
            )
            for step in steps:
                fault = machine.quiet(step)
                if fault is not None:
                    say(fault)
                    self.told.append(fault)
                    return False
            return self._run_one_task(python, work)

    def _run_one_task(self, python: Path, work: Path) -> bool:
        """Start a cluster from the installed wheel, run a task and end the cluster."""
        directory = work / "cluster"
        (directory / "tasks").mkdir(parents=True)
        shutil.copytree(ROOT / "examples" / "demo", directory / "tasks" / "demo")
        pydra = [str(python.parent / "pydra")]
        env = {name: value for name, value in self.env.items() if name != "PYTHONPATH"}
        env["PYDRA_SETTINGS"] = str(directory / "pydra_settings.py")

        def call(*words: str) -> int:
            say("$ pydra " + " ".join(words))
            return self._shown([*pydra, *words], work, env)

        if call("cluster", "up", "--dir", str(directory), "--port", "0", "--detach") != 0:
            return False
        try:
            deadline = time.monotonic() + 120
            code = 3
            while code == 3 and time.monotonic() < deadline:  # not listed yet
                code = call("run", "demo.demo_task.TestTask", "-a", "start=0", "-a", "end=2", "--wait")
        finally:
            ended = call("cluster", "down", "--dir", str(directory))
        return code == 0 and ended == 0


CHECKS: dict[str, Callable[[Checks], bool]] = {
    "format": Checks.format,
    "lint": Checks.lint,
    "types": Checks.types,
    "imports": Checks.imports,
    "sizes": Checks.sizes,
    "unit": Checks.unit,
    "simulation": Checks.simulation,
    "integration": Checks.integration,
    "quickstart": Checks.quickstart,
    "wheel": Checks.wheel,
}


def run_all(checks: Checks, chosen: list[str]) -> int:
    """Run the chosen checks and tell how each went; return 1 if one failed."""
    results: list[tuple[str, bool, float]] = []
    failed: dict[str, list[str]] = {}
    for name in chosen:
        say(f"\n=== {name}: {(CHECKS[name].__doc__ or '').strip()}")
        began = time.monotonic()
        checks.told.clear()
        passed = CHECKS[name](checks)
        results.append((name, passed, time.monotonic() - began))
        if not passed:
            failed[name] = list(checks.told)
    say("\n=== Summary")
    for name, passed, seconds in results:
        say(f"{'passed' if passed else 'FAILED'}  {name:<12} {seconds:6.1f} s")
    for name, told in failed.items():
        say(f"\n=== The end of {name}, which failed\n{''.join(told)}")
    return 1 if failed else 0


def main() -> int:
    """Make what the tests need and run them."""
    parser = argparse.ArgumentParser(
        prog="scripts/test", description="Run every check and test, or the named ones."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of: " + ", ".join(CHECKS))
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in CHECKS]
    if unknown:
        parser.error(f"no check is called {', '.join(unknown)}; there are: {', '.join(CHECKS)}")
    machine.be_readable()
    python = machine.ensure_venv("[dev]")
    env = dict(os.environ)
    env |= machine.ensure_bubblewrap()
    env["PYTHONHASHSEED"] = "random"
    env["PATH"] = f"{python.parent}{os.pathsep}{env.get('PATH', '')}"
    if env.get("CI"):
        env.setdefault("HYPOTHESIS_PROFILE", "ci")
    return run_all(Checks(python, env), options.names or list(CHECKS))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
