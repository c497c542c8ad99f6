# SPDX-License-Identifier: MIT
"""The daemon's end of the launcher's socket when the kernel has no room."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pydra.cluster.sandbox.launcher_socket import AGAIN_S, LauncherSocket
from tests.support.turning import TurningClock


@pytest.fixture
def clock() -> TurningClock:
    """The reactor."""
    return TurningClock()


@pytest.fixture
def ends(clock: TurningClock) -> Iterator[tuple[LauncherSocket, socket.socket]]:
    """The daemon's end, and the launcher's."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    its.setblocking(False)
    made = LauncherSocket(clock, ours, lambda answer: None, lambda: None)
    made.open()
    yield made, its
    made.close()
    its.close()
    assert [] == clock.getDelayedCalls()


def heard(its: socket.socket) -> list[int]:
    """The numbers of all requests that arrived."""
    found = []
    while True:
        try:
            found.append(json.loads(its.recv(4096))["id"])
        except BlockingIOError:
            return found


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS])
def test_a_send_for_which_there_was_no_room_is_tried_again(
    clock: TurningClock,
    ends: tuple[LauncherSocket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """And everything goes in its order."""
    ours, its = ends
    send, faults = socket.send_fds, [OSError(number, "not now")]

    def send_or_fail(*given: Any) -> int:
        if faults:
            raise faults.pop()
        return send(*given)

    monkeypatch.setattr(socket, "send_fds", send_or_fail)
    for worker in (1, 2, 3):
        ours.kill(worker)
    assert [] == heard(its)
    clock.advance(AGAIN_S)
    assert [1, 2, 3] == heard(its)
    ours.kill(4)
    assert [4] == heard(its)


def test_a_socket_that_is_writable_and_has_no_room(
    clock: TurningClock, ends: tuple[LauncherSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing spins: it is not watched meanwhile, and one timer waits."""
    faults = [errno.EAGAIN, errno.ENOBUFS]

    def fail(*given: Any) -> int:
        raise OSError(faults.pop(0) if len(faults) > 1 else faults[0], "not now")

    monkeypatch.setattr(socket, "send_fds", fail)
    ends[0].kill(1)
    assert 1 == len(clock.writers)
    for _ in range(5):
        clock.turn()
        assert [] == clock.writers
        assert 1 == len(clock.getDelayedCalls())


def test_nothing_waits_when_it_is_closed(
    ends: tuple[LauncherSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer is left of a send that failed."""

    def fail(*given: Any) -> int:
        raise OSError(errno.ENOBUFS, "not now")

    monkeypatch.setattr(socket, "send_fds", fail)
    ends[0].kill(1)
    ends[0].close()
