# SPDX-License-Identifier: MIT
"""
The last step before a daemon takes work: its launcher makes one sandbox, which tests itself.

What it tests is in ``self_test``; who it is on the host is looked at here. This blocks, for some tens of
milliseconds, and is over before there is a reactor.
"""

from __future__ import annotations

import json
import os
import socket
import time

from pydra.cluster.sandbox.launcher import messages
from pydra.cluster.sandbox.launcher.rlimits import threads_and_children
from pydra.errors import SandboxError

DEADLINE_S = 60.0
"""Seconds that the whole check may take."""

_NUMBER = 1
_ANSWER_LIMIT = 64 * 1024


def check(launcher: socket.socket, own_uid: int) -> None:
    """
    Return if a sandbox of this launcher holds; `SandboxError` says what does not.

    ``own_uid`` is the launcher's: as root, no process of a sandbox may have it.
    """
    deadline = time.monotonic() + DEADLINE_S
    ours, its = socket.socketpair()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        with its:
            packet = messages.encode(messages.LAUNCH, _NUMBER, probe=True)
            socket.send_fds(launcher, [packet], [its.fileno(), writing])
        os.close(writing)
        monitor = _answer(launcher, messages.LAUNCHED, deadline)["pid"]
        ours.settimeout(DEADLINE_S)
        answered = _read_answer(ours)
        found = _host_faults(monitor, own_uid) if answered else []
        launcher.send(messages.encode(messages.KILL, _NUMBER))
        _answer(launcher, messages.EXITED, deadline)
        said = b"" if answered else os.read(reading, _ANSWER_LIMIT)
    except TimeoutError:
        raise SandboxError(f"A sandbox did not test itself within {DEADLINE_S:g} s.") from None
    except OSError as fault:
        raise SandboxError(f"The launcher ended while it made a sandbox ({fault.strerror}).") from None
    finally:
        ours.close()
        os.close(reading)
    if not answered:
        raise SandboxError(f"A sandbox cannot run a worker: {said.decode(errors='replace').strip()[-500:]}")
    found += [f"{name}: {words}" for name, words in json.loads(answered).items() if words]
    if found:
        raise SandboxError(f"The sandbox of this machine does not hold: {'; '.join(found)}.")


def _answer(launcher: socket.socket, what: str, deadline: float) -> dict[str, int]:
    while True:
        launcher.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            packet = launcher.recv(messages.PACKET_LIMIT)
        finally:
            launcher.settimeout(None)
        if not packet:
            raise ConnectionResetError(0, "it closed its socket")
        answer = json.loads(packet)
        if answer["what"] == messages.FAILED:
            raise SandboxError(f"No sandbox can be made: {answer['reason']}")
        if answer["what"] == what:
            found: dict[str, int] = answer
            return found


def _read_answer(channel: socket.socket) -> bytes:
    """One line, or nothing if it ended without."""
    data = b""
    while not data.endswith(b"\n") and len(data) < _ANSWER_LIMIT:
        received = channel.recv(_ANSWER_LIMIT)
        if not received:
            return b""
        data += received
    return data


def _host_faults(monitor: int, own_uid: int) -> list[str]:
    """What is wrong with the sandbox's processes as the host sees them."""
    waiting, uids = [monitor], set[int]()
    while waiting:
        pid = waiting.pop()
        try:
            uids.add(os.stat(f"/proc/{pid}").st_uid)
        except OSError:
            continue
        waiting += threads_and_children(pid)[1]
    if own_uid == 0 and 0 in uids:
        return ["host uid: a process of it is root"]
    return []
