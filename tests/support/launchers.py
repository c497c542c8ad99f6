# SPDX-License-Identifier: MIT
"""Real launchers for tests, and a reactor of their own for each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox import check
from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds
from pydra.cluster.sandbox.launcher.configuration import (
    BUBBLEWRAP,
    FORK,
    FULL,
    NONE,
    USER,
    Configuration,
)
from pydra.cluster.sandbox.surroundings import find_places
from pydra.cluster.sandbox.warm_pool import WarmPool
from pydra.cluster.sandbox.worker_process import SandboxedWorker
from pydra.cluster.wire.frames import RUN
from tests.support.workers_contract import Recorder

T = TypeVar("T")

LAUNCHER_UID = 60698
"""Who launches in isolation ``user`` when the tests run as root."""

SLOTS = (60600, 60697)
"""Slot uids of tests; apart from the defaults, so that a cluster on this machine is left alone."""

GROUP = "pydra-test"
"""Where launchers of tests make their control groups."""

BOUNDS = Bounds(512 * MEBIBYTE, 64, 0.0, 256 * MEBIBYTE, 5000)
"""What a worker of the tests may use."""

CEILINGS = Bounds(1024 * MEBIBYTE, 512, 2.0, 1024 * MEBIBYTE, 10_000)
"""The most that it can be given."""

ROOT = Path(__file__).parents[2]
SITE = ROOT / "tests/support/sandbox_site/site-packages"
DEADLINE_S = 90.0


class LauncherProcess:
    """A launcher and what a test may look at."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, runtime: Path) -> None:
        self.process = process
        self.control = control
        self.runtime = runtime
        self.cache = runtime / "packages"
        self.scratch = runtime / "scratch"

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def zygote(self) -> set[int]:
        """What it forks workers from, which is no worker: the one child of that name in our pid namespace."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {int(pid) for pid in children if _is_zygote(Path("/proc") / pid)}

    def end(self) -> int:
        """Close the socket; the exit status of the launcher."""
        self.control.close()
        return self.process.wait(DEADLINE_S)


def _is_zygote(process: Path) -> bool:
    try:
        here = (process / "ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
        return here and b"forking.main" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def isolations() -> list[str]:
    """
    The isolations that can be had here (full needs root); each sandbox forked, and made by bubblewrap.
    """
    sandboxed = [FULL, USER] if os.geteuid() == 0 else [USER]
    return [*sandboxed, *(f"{kind}-{BUBBLEWRAP}" for kind in sandboxed), NONE]


@contextmanager
def launcher(
    directory: Path,
    isolation: str,
    slots: tuple[int, int] = SLOTS,
    worker: str = "pydra_test_worker",
    clone3: int = 0,
    **changed: Any,
) -> Iterator[LauncherProcess]:
    """
    A launcher with an empty cache; ended, and gone with all it started, at the end.

    ``isolation`` is one of ``isolations()``; what is forked is never replaced by bubblewrap here. If
    ``clone3`` is the number of an error, the kernel answers that call so.
    """
    isolation, _, start = isolation.partition("-")
    root = os.geteuid() == 0
    launching = LAUNCHER_UID if root and isolation == USER else 0
    runtime = directory / "runtime"
    for path in (runtime, runtime / "packages", runtime / "scratch"):
        path.mkdir(exist_ok=True)
        if launching:
            os.chown(path, launching, launching)
    configuration = _configuration(runtime, isolation, launching)._replace(
        first_uid=slots[0], last_uid=slots[1], worker=worker, **{"start": start or FORK, **changed}
    )
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        configuration = configuration._replace(socket=its.fileno())
        wanted = json.dumps({"configuration": configuration.to_json(), "uid": launching, "clone3": clone3})
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.launcher_start", wanted],
            pass_fds=(its.fileno(),),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    started = LauncherProcess(process, ours, runtime)
    try:
        yield started
    finally:
        started.control.close()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise


def _configuration(runtime: Path, isolation: str, launching: int) -> Configuration:
    places = find_places()
    return Configuration(
        socket=-1,
        isolation=isolation,
        bubblewrap=check.find_bubblewrap(),
        places=places._replace(sites=(*places.sites, str(SITE))),
        cache=str(runtime / "packages"),
        cache_owner=launching or os.geteuid(),
        scratch=str(runtime / "scratch"),
        visible_scratch=str(runtime / "scratch"),
        slots_directory="/run/pydra/slots" if os.geteuid() == 0 and not launching else "",
        first_uid=0,
        last_uid=0,
        worker="",
        timezone="",
        defaults=BOUNDS,
        ceilings=CEILINGS,
        network=False,
        group=GROUP,
        mounts=(),
    )


class Bench:
    """A warm pool on a launcher, driven by hand: nothing happens but in ``until`` and what uses it."""

    def __init__(self, started: LauncherProcess, isolation: str, size: int = 1) -> None:
        self.reactor = SelectReactor()
        self.pool = WarmPool(self.reactor, started.control, size)
        self.wait(self.pool.start())

    def until(
        self, true: Callable[[], object], what: str = "what was waited for", limit_s: float = DEADLINE_S
    ) -> None:
        """Turn the reactor until it is true."""
        deadline = time.monotonic() + limit_s
        while not true():
            assert time.monotonic() < deadline, f"{what} did not happen in {limit_s} s"
            self.reactor.iterate(0.005)

    def wait(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """The result of a coroutine."""
        ended: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(ended.append)
        self.until(lambda: ended, "the result")
        if hasattr(ended[0], "raiseException"):
            ended[0].raiseException()
        result: T = ended[0]
        return result

    def take(
        self, package: str | None = None, version: str | None = None
    ) -> tuple[SandboxedWorker, Recorder]:
        """A worker and its recorder."""
        recorder = Recorder()
        return self.wait(self.pool.take(recorder, package, version)), recorder  # type: ignore[arg-type]

    def run(self, taken: tuple[SandboxedWorker, Recorder], statements: str) -> object:
        """The ``result`` of statements in a worker."""
        worker, recorder = taken
        recorder.frames.clear()
        worker.send([RUN, statements])
        self.until(lambda: recorder.frames or recorder.ending, "the answer")
        assert recorder.frames, f"{recorder.ending} {recorder.output!r}"
        return recorder.frames[0][1]

    def end(self, taken: tuple[SandboxedWorker, Recorder]) -> WorkerExit:
        """Kill a worker; how it ended."""
        taken[0].kill()
        return self.ending(taken)

    def ending(self, taken: tuple[SandboxedWorker, Recorder]) -> WorkerExit:
        """How a worker ended, when it has."""
        self.until(lambda: taken[1].ending, "the end")
        assert taken[1].ending is not None
        return taken[1].ending

    def close(self) -> None:
        """Stop the pool and drop the reactor."""
        self.wait(self.pool.stop())
        self.reactor.removeAll()
        waker = self.reactor.waker
        if waker is not None:
            waker.connectionLost(None)


def processes_of(uid: int) -> list[int]:
    """Pids of a uid."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
