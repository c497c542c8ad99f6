# SPDX-License-Identifier: MIT
"""
What a sandboxed worker costs by itself, straight from a launcher: ``python -m benchmarks.starts fork``.

A process of its own, since as root it takes the neutral view of a daemon, which it never leaves.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from pydra.cluster.sandbox import check
from pydra.cluster.sandbox.entry import WORKER, make_view, start_launcher
from pydra.cluster.sandbox.launcher import messages
from pydra.cluster.sandbox.launcher.configuration import FULL, USER, Configuration
from pydra.cluster.sandbox.site_limits import ceilings, defaults
from pydra.cluster.sandbox.surroundings import find_places
from pydra.config import Settings

REPETITIONS = 50
IDLE = 10
"""Workers whose memory is measured together."""


class Starts(NamedTuple):
    """Figures of one way to start workers."""

    one_ms: float
    """From the request to READY, one after the other."""
    per_second: float
    """Started, READY and ended again, two at a time."""
    idle_mb: float
    """Proportional memory of a worker that waits."""


def starts(way: str) -> Starts:
    """Measure in a process of its own; ``way`` is ``fork`` or ``bubblewrap``."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.starts", way], check=True, stdout=subprocess.PIPE
    )
    return Starts(**json.loads(ended.stdout))


class Launched:
    """A launcher that is driven by hand."""

    def __init__(self, runtime: Path, way: str) -> None:
        self._control = start_launcher(_configuration(runtime, way))
        self._last = 0
        self._ends: dict[int, tuple[socket.socket, int]] = {}

    def launch(self) -> int:
        """Ask for a worker; its number."""
        self._last += 1
        ours, its = socket.socketpair()
        reading, writing = os.pipe()
        packet = messages.encode(messages.LAUNCH, self._last)
        socket.send_fds(self._control, [packet], [its.fileno(), writing])
        its.close()
        os.close(writing)
        self._ends[self._last] = (ours, reading)
        return self._last

    def wait_ready(self, number: int) -> None:
        """Return when it said READY."""
        if not self._ends[number][0].recv(100):
            raise RuntimeError(os.read(self._ends[number][1], 4096).decode(errors="replace"))

    def kill(self, number: int) -> None:
        """Ask for its end."""
        self._control.send(messages.encode(messages.KILL, number))

    def wait_ended(self) -> int:
        """The number of the next that ended."""
        while True:
            told = json.loads(self._control.recv(messages.PACKET_LIMIT))
            if told["what"] in (messages.EXITED, messages.FAILED):
                channel, output = self._ends.pop(told["id"])
                channel.close()
                os.close(output)
                return int(told["id"])

    def close(self) -> None:
        """End everything."""
        self._control.close()


def _configuration(runtime: Path, way: str) -> Configuration:
    settings = Settings(RUNTIME_FILES_DIR=str(runtime))
    for name in ("packages", "scratch"):
        (runtime / name).mkdir()
    root = os.geteuid() == 0
    chosen = Configuration(
        socket=-1,
        isolation=FULL if root else USER,
        bubblewrap=check.find_bubblewrap(),
        places=find_places(),
        cache=str(runtime / "packages"),
        cache_owner=os.geteuid(),
        scratch=str(runtime / "scratch"),
        visible_scratch=str(runtime / "scratch"),
        slots_directory="",
        first_uid=settings.SLOT_UIDS[0],
        last_uid=settings.SLOT_UIDS[1],
        worker=WORKER,
        timezone="",
        defaults=defaults(settings, "node"),
        ceilings=ceilings(settings, str(runtime)),
        network=False,
        group=settings.CGROUP,
        mounts=(),
        start=way,
    )
    if root:
        chosen = make_view(chosen, {"runtime": runtime})[0]._replace(slots_directory="/run/pydra/slots")
    return chosen


def _measure(launched: Launched) -> Starts:
    seconds = []
    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        number = launched.launch()
        launched.wait_ready(number)
        seconds.append(time.perf_counter() - begun)
        launched.kill(number)
        launched.wait_ended()
    begun = time.perf_counter()
    for _ in range(REPETITIONS):
        for number in [launched.launch(), launched.launch()]:
            launched.wait_ready(number)
            launched.kill(number)
        launched.wait_ended()
        launched.wait_ended()
    per_second = 2 * REPETITIONS / (time.perf_counter() - begun)
    before = _memory()
    for number in [launched.launch() for _ in range(IDLE)]:
        launched.wait_ready(number)
    idle = (_memory() - before) / IDLE
    return Starts(statistics.median(seconds) * 1e3, per_second, idle / 2**20)


def _memory() -> int:
    """Proportional memory of everything that this process started."""
    below = psutil.Process().children(recursive=True)
    return sum(int(process.memory_full_info().pss) for process in below)


def main() -> None:
    """Measure, and print the figures as JSON."""
    with tempfile.TemporaryDirectory() as directory:
        launched = Launched(Path(directory), sys.argv[1])
        try:
            print(json.dumps(_measure(launched)._asdict()))
        finally:
            launched.close()
            os.waitpid(-1, 0)


if __name__ == "__main__":
    main()
