# SPDX-License-Identifier: MIT
"""
Starting, watching and ending one daemon process.

A daemon is a session of its own, so Ctrl-C on our terminal does not reach it and what it leaves behind can
be found. It writes its ready file when it listens; one that ends before has failed, and its output says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydra
from pydra.cli.failures import FAILED, CliError
from pydra.cli.local_cluster.layout import Layout, read_file
from pydra.cli.local_cluster.record import Daemon, Process, session_members, this_process
from pydra.cli.local_cluster.settings_text import DECIDED_HERE

POLL_S = 0.03
STOP_S = 10.0
"""Seconds from SIGTERM to SIGKILL."""

SANDBOX_CODES = (3, 4)
"""A daemon ends with 3 if bubblewrap is missing, with 4 if the machine refuses namespaces."""

INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PR_SET_CHILD_SUBREAPER = 36

MODULES = {"master": "pydra.cluster.master.main", "node": "pydra.cluster.node.main"}

_nothing = threading.Event()


def pause(seconds: float) -> None:
    """Let time pass; a signal cuts it short only by raising."""
    _nothing.wait(seconds)


def daemon_command(role: str) -> list[str]:
    """Return the command that runs a daemon with this interpreter, whatever the working directory."""
    return [sys.executable, "-P", "-m", MODULES[role]]


@dataclass
class Started:
    """A daemon process that this process started."""

    name: str
    child: subprocess.Popen[bytes]
    process: Process
    begins: dict[Path, int]
    """Where that what it writes begins in its files."""


def start_daemon(layout: Layout, name: str, command: Sequence[str]) -> Started:
    """Start a daemon with the settings that were written for it."""
    layout.ready(name).unlink(missing_ok=True)
    begins = {path: _size(path) for path in (layout.output(name), layout.log(name))}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = os.open(layout.output(name), flags, 0o600)
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and files
            [
                *command,
                "--settings",
                str(layout.settings(name)),
                "--ready-file",
                str(layout.ready(name)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=daemon_environment(os.environ),
            start_new_session=True,
        )
    finally:
        os.close(output)
    process = this_process(child.pid)
    assert process is not None, "a child that was not waited for has an entry in /proc"
    return Started(name, child, process, begins)


def daemon_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a daemon: nothing that goes before its settings, and this copy of Pydra."""
    passed = {name: value for name, value in environ.items() if name not in DECIDED_HERE}
    home = str(Path(pydra.__file__).absolute().parent.parent)
    given = passed.pop("PYTHONPATH", "").split(os.pathsep)
    paths = [str(Path(path).absolute()) for path in given if path]
    if home in sys.path and Path(home).name != "site-packages" and home not in paths:
        paths.insert(0, home)
    return passed | {"PYTHONPATH": os.pathsep.join(paths)} if paths else passed


def wait_ready(layout: Layout, started: Started, deadline: float) -> Daemon:
    """
    Return the daemon once it listens; ``deadline`` is on the monotonic clock.

    Raises ``CliError`` with its output if it ended or is not ready in time.
    """
    while True:
        answer = _ready_answer(layout, started)
        if answer is not None:
            return answer
        code = started.child.poll()
        if code is not None:
            raise failure(layout, started, code)
        if time.monotonic() > deadline:
            raise CliError(f"{started.name} is not ready.\n{quoted(started)}", FAILED, "not_ready")
        pause(POLL_S)


def _ready_answer(layout: Layout, started: Started) -> Daemon | None:
    """Return what the ready file says; None as long as it says nothing."""
    try:
        said = json.loads(read_file(layout.ready(started.name)))
        return Daemon(started.name, int(said["port"]), started.process, str(said.get("isolation", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def failure(layout: Layout, started: Started, code: int) -> CliError:
    """Return the error of a daemon that ended by itself; for a missing sandbox, its own sentence and code."""
    said = [
        line
        for line in _written(layout.output(started.name), started.begins[layout.output(started.name)])
        if line
    ]
    if code in SANDBOX_CODES and said:
        sentence = said[-1].removeprefix("pydra_node: ").removeprefix("pydra_master: ")
        return CliError(sentence, code, "sandbox_tool_missing" if code == 3 else "namespaces_refused")
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return CliError(f"{started.name} {ended}.\n{quoted(started)}", FAILED, "daemon_died")


def _size(path: Path) -> int:
    """Return the size of a file; 0 if there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _written(path: Path, begins: int) -> list[str]:
    """Return the lines that a file got since; all of it if it was begun anew."""
    try:
        content = read_file(path, 32 * 1024 * 1024)
    except OSError:
        return []
    return content[begins if begins <= len(content) else 0 :].decode(errors="replace").splitlines()


def quoted(started: Started, lines: int = 20) -> str:
    """Return the last lines that a daemon wrote, under the names of its files."""
    parts = []
    for path, begins in started.begins.items():
        body = "\n".join(f"  {line}" for line in _written(path, begins)[-lines:])
        if body:
            parts.append(f"The end of {path}:\n{body}")
    return "\n".join(parts) or f"It wrote nothing; its files would be {', '.join(map(str, started.begins))}."


def end_processes(processes: Sequence[Process], say: Callable[[str], None]) -> None:
    """End daemons and all that they left: asked first, then killed; returns when nothing of them runs."""
    asked = [process for process in processes if process.is_alive]
    for process in asked:
        _signal(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while any(process.is_alive for process in asked) and time.monotonic() < deadline:
        _reap(asked)
        pause(POLL_S)
    for process in asked:
        if process.is_alive:
            say(f"Process {process.pid} does not end; it is killed.")
            _signal(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline + STOP_S:
        _reap(asked)
        left = [pid for process in processes for pid in session_members(process)]
        if not left:
            return
        if time.monotonic() > deadline:
            for pid in left:
                _signal(pid, signal.SIGKILL)
        pause(POLL_S)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing interrupt the ending of daemons."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what)


def adopt_orphans() -> None:
    """Become the parent of what daemons leave, to reap it: not every first process of a machine does."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(processes: Sequence[Process]) -> None:
    """Let go of those that ended and are children of this process."""
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
