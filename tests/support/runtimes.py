# SPDX-License-Identifier: MIT
"""A worker's runtime in a process of its own, without a sandbox, at the other end of a real socketpair."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import (
    DESCRIBE,
    LOG,
    LONG,
    MORE,
    PART,
    PART_SIZE,
    PROGRESS,
    RESULTS,
    RUN,
    SERVE,
    STOP,
    UNITS,
    VALIDATE,
    FrameReader,
    encode,
)

PACKAGES = Path(__file__).parents[1] / "packages"

SOURCES = [str(Path(__file__).parents[2]), *(path for path in sys.path if path.endswith("-packages"))]

PROGRAM = """
import sys
sys.path += {sources!r}
from pydra.cluster.worker.main import main
{preparation}
main({channel}, {packages!r})
"""


class Runtime:
    """One worker; use it as a context, so that nothing of it is left."""

    def __init__(self, packages: Path = PACKAGES, preparation: str = "") -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(90)
        program = PROGRAM.format(
            sources=SOURCES, preparation=preparation, channel=theirs.fileno(), packages=str(packages)
        )
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", program],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", "")},
            start_new_session=True,
        )
        theirs.close()
        self._reader = FrameReader()
        self._frames: list[list[object]] = []
        self.lines: list[list[object]] = []
        self.progress: list[list[object]] = []
        self.announced: list[object] = []
        """Sizes of long results."""
        self.log_frames = 0

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.process.kill()
        self.output()
        self.process.wait(90)

    def send(self, frame: list[object]) -> None:
        """Send a frame."""
        self._socket.sendall(encode(frame))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes that may be no frame."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Leave the worker alone."""
        self._socket.close()

    def frame(self) -> list[object] | None:
        """The next frame; None when the worker closed its end."""
        while not self._frames:
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def frames(self) -> Iterator[list[object]]:
        """All frames until the worker closes its end."""
        while (frame := self.frame()) is not None:
            yield frame

    def run(
        self, task_key: str, args: object = None, worker_key: str = "", dependencies: tuple[str, ...] = ()
    ) -> None:
        """Send RUN."""
        package = task_key.partition(".")[0]
        self.send(
            [
                RUN,
                "1.1",
                7,
                task_key,
                package,
                self._in_parts(payload.pack(args if args is not None else {})),
                worker_key,
                list(dependencies),
            ]
        )

    def run_in_parts(self, task_key: str, args: object, size: int) -> None:
        """Send RUN with its arguments in parts of ``size`` bytes."""
        data = payload.pack(args)
        while len(data) > size:
            self.send([MORE, data[:size]])
            data = data[size:]
        self.send([RUN, "1.1", 7, task_key, task_key.partition(".")[0], data])

    def serve(self, task_key: str, package: str = "", dependencies: tuple[str, ...] = ()) -> None:
        """Send SERVE."""
        package = package or task_key.partition(".")[0]
        self.send([SERVE, "1.2", 7, task_key, package, "host:1:0", list(dependencies)])

    def units(self, batch: str, branch: str, args: dict[int, object]) -> None:
        """Send UNITS, the arguments by index; those of a single unit may be long."""
        packed = [payload.pack(one) for one in args.values()]
        if len(packed) == 1:
            packed[0] = self._in_parts(packed[0])
        self.send([UNITS, batch, branch, list(args), packed])

    def results(self, branch: str, results: dict[int, object], failures: object = None) -> None:
        """Send RESULTS, by index; ``failures`` are by position."""
        packed = [payload.pack(one) for one in results.values()]
        if len(packed) == 1:
            packed[0] = self._in_parts(packed[0])
        self.send([RESULTS, branch, list(results), packed, failures or {}])

    def _in_parts(self, data: bytes) -> bytes:
        while len(data) > PART_SIZE:
            self.send([MORE, data[:PART_SIZE]])
            data = data[PART_SIZE:]
        return data

    def stop(self) -> None:
        """Send STOP."""
        self.send([STOP])

    def describe(
        self,
        package: str,
        version: str = "v",
        dependencies: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
    ) -> None:
        """Send DESCRIBE."""
        self.send([DESCRIBE, package, version, list(dependencies), list(files)])

    def validate(self, request: int, task_key: str, args: object, dependencies: tuple[str, ...] = ()) -> None:
        """Send VALIDATE."""
        package = task_key.partition(".")[0]
        self.send([VALIDATE, request, package, task_key, payload.pack(args), list(dependencies)])

    def answer(self) -> list[object]:
        """The final frame, its payload put together; lines and progress are kept aside."""
        parts = b""
        for frame in self.frames():
            if frame[0] == LOG:
                self.log_frames += 1
                assert isinstance(frame[1], list)
                self.lines += frame[1]
            elif frame[0] == PROGRESS:
                self.progress.append(frame[1:])
            elif frame[0] == LONG:
                self.announced.append(frame[1])
            elif frame[0] == PART:
                assert isinstance(frame[1], bytes)
                parts += frame[1]
            elif isinstance(frame[-1], bytes):
                return [*frame[:-1], parts + frame[-1]]
            else:
                return frame
        raise AssertionError(f"The worker ended without an answer. {self.output()!r}")

    def output(self) -> bytes:
        """What came through the real descriptors 1 and 2, until their end."""
        if self.process.stdout is None or self.process.stdout.closed:
            return b""
        data = self.process.stdout.read()
        self.process.stdout.close()
        return data
