# SPDX-License-Identifier: MIT
"""The launcher's end of the zygote: its start and trial, requests, and what came of them."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import socket
import time
from typing import NamedTuple

from pydra.cluster.sandbox.launcher.forking import main, room
from pydra.cluster.sandbox.launcher.policy import CHANNEL, Plan, Room

TRIAL_S = 20.0
"""How long a zygote may take until its first sandbox has looked around in itself."""

STUCK_S = 3.0
"""A birth takes milliseconds; a zygote that has not answered for this long is of no use any more."""

_SAID_LIMIT = 4096


class ZygoteFault(Exception):
    """There is no zygote (any more); the text says why."""


class Born(NamedTuple):
    """What came of a request: ``pid`` of the first process, our child; 0 if there is none."""

    number: int
    pid: int


class Zygote:
    """
    One zygote process.

    A worker that it bore waits for ``speak``: only then it is certain that it is our child.
    """

    def __init__(self, plan: Plan, chosen: Room, worker: str, filter_: bytes, scratch: str) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self.pid = os.fork()
            if not self.pid:
                _become(plan, chosen, scratch, its.fileno())
        self._socket = ours
        self.is_reaped = False
        """Set by whoever waits for all children; its number may be another process's then."""
        self.is_proven = False
        """True once it bore a worker: if it ends, another one is worth its start."""
        self._heard = 0.0
        """When it answered last, or was asked while nobody waited; monotonic seconds."""
        self._words: dict[int, int] = {}
        """Where those wait who were asked for: descriptors by number."""
        with contextlib.suppress(OSError):  # it ended, which reading tells
            ours.send(marshal.dumps((worker, list(plan.limits), filter_)))

    def fileno(self) -> int:
        """Readable when there is something to ``read``."""
        return self._socket.fileno()

    @property
    def is_busy(self) -> bool:
        """True while somebody was asked for and not born yet, or was not spoken to."""
        return bool(self._words)

    @property
    def is_stuck(self) -> bool:
        """True if somebody waits and it says nothing."""
        return self.is_busy and time.monotonic() - self._heard > STUCK_S

    def bear(self, number: int, uid: int | None, channel: int, output: int) -> None:
        """Ask for a worker. `OSError`."""
        read, word = os.pipe2(os.O_CLOEXEC)
        try:
            socket.send_fds(self._socket, [b"%d %d" % (number, uid or 0)], [channel, output, read])
        except OSError:
            os.close(word)
            raise
        finally:
            os.close(read)
        if not self._words:
            self._heard = time.monotonic()
        self._words[number] = word

    def read(self) -> Born:
        """The next of those that were asked for. `ZygoteFault` if the process is gone."""
        try:
            answer = self._socket.recv(_SAID_LIMIT)
        except OSError:
            answer = b""
        if not answer:
            raise ZygoteFault("its process ended")
        number, pid = map(int, answer.split())
        self._heard = time.monotonic()
        self.is_proven |= number != main.PROBE and pid > 0
        return Born(number, pid)

    def speak(self, number: int, wanted: bool = True) -> None:
        """Let a worker begin; or let it end, if it is not wanted any more or was not born."""
        word = self._words.pop(number)
        try:
            if wanted:
                os.write(word, b"1")
        except BrokenPipeError:
            pass  # it ended, which waiting for it tells
        finally:
            os.close(word)

    def end(self) -> tuple[int, ...]:
        """Kill the process; the numbers of those that will not be born. Its workers live on."""
        self._socket.close()
        if not self.is_reaped:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        unborn = tuple(self._words)
        for number in unborn:
            self.speak(number, wanted=False)
        return unborn

    def try_out(self, uid: int | None) -> None:
        """Let it make a sandbox that looks around in itself. `ZygoteFault` with what it found."""
        deadline = time.monotonic() + TRIAL_S
        said, output = os.pipe2(os.O_CLOEXEC)
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            self.bear(main.PROBE, uid, nothing, output)
            os.close(output)
            output = -1
            _wait(self._socket.fileno(), deadline)
            born = self.read()
            self.speak(main.PROBE)
            found = b""
            while len(found) < _SAID_LIMIT:
                _wait(said, deadline)
                if not (more := os.read(said, _SAID_LIMIT)):
                    break
                found += more
            status = os.waitpid(born.pid, 0)[1] if born.pid else 1
        except OSError as fault:
            raise ZygoteFault(str(fault)) from None
        finally:
            for descriptor in (said, nothing, output):
                if descriptor >= 0:
                    os.close(descriptor)
        if status or found:
            raise ZygoteFault(found.decode(errors="replace") or f"the trial ended with status {status}")


def _wait(descriptor: int, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not select.select([descriptor], [], [], left)[0]:
        raise ZygoteFault(f"its trial did not end within {TRIAL_S:.0f} s")


def _become(plan: Plan, chosen: Room, scratch: str, control: int) -> None:
    """In a fork of the launcher: build the room and execute the zygote in it."""
    try:
        _reset(control)
        room.build(chosen, scratch)
        os.execve(plan.argv[0], plan.argv, plan.environment)  # noqa: S606 - a fixed command without a shell
    except BaseException as fault:  # noqa: BLE001 - nothing may return into the launcher's loop
        os.write(2, f"The room of the workers cannot be built: {fault}\n".encode(errors="replace"))
    finally:
        os._exit(1)


def _reset(control: int) -> None:
    signal.set_wakeup_fd(-1)
    for inherited in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(inherited, signal.SIG_DFL)
    os.umask(0o022)
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    os.dup2(control, CHANNEL)
    os.set_inheritable(CHANNEL, True)
    os.closerange(CHANNEL + 1, 2**31 - 1)
