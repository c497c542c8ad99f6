# SPDX-License-Identifier: MIT
"""
The zygote: an interpreter that has loaded what workers need, forks them, and does nothing else.

It never sees user code, has one thread, and no descriptor but its socket, nothing on 0 and 1, and the
daemon's standard error. It runs in the outer room (see ``room``), is told its task in the first packet, and
then answers each request: number, uid, and the descriptors of the worker's channel, its output and the
launcher's word.
"""

from __future__ import annotations

import _socket
import contextlib
import gc
import marshal
import os
import signal
import struct
import sys

from pydra.cluster.sandbox.launcher import policy
from pydra.cluster.sandbox.launcher.forking import kernel
from pydra.cluster.sandbox.launcher.forking.birth import CONTROL, WORD, Birth, told
from pydra.cluster.sandbox.launcher.forking.probe import Probe

TYPE_CHECKING = False  # typing's own is not needed here, and every worker would carry it
if TYPE_CHECKING:
    from typing import NoReturn

PACKET_LIMIT = 4096
PROBE = 0
"""The number of the sandbox that looks around in itself and ends, instead of working."""

_DESCRIPTORS = 3
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(control: int, packages: str) -> NoReturn:
    """Serve the launcher at the other end of the descriptor ``control``, until it is gone."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    line = _socket.socket(fileno=control)
    os.set_inheritable(control, False)
    told = line.recv(PACKET_LIMIT)
    if not told:
        os._exit(0)
    worker, limits, filter_ = marshal.loads(told)  # noqa: S302 - from the launcher that started this process
    runtime = __import__(worker, fromlist=["main"])

    def work() -> NoReturn:
        try:
            runtime.main(policy.CHANNEL, packages)
        except BaseException:  # noqa: BLE001 - what an interpreter does with what nobody catches
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    births = Birth(limits, filter_, work), Birth(limits, filter_, Probe(limits).look)
    gc.collect()
    gc.freeze()  # a fork then touches, and so copies, none of it
    while True:
        room = _socket.CMSG_SPACE(_DESCRIPTORS * 4)
        request, passed, _, _ = line.recvmsg(PACKET_LIMIT, room, _socket.MSG_CMSG_CLOEXEC)
        if not request:
            os._exit(0)
        number, uid = map(int, request.split())
        descriptors = struct.unpack(f"{_DESCRIPTORS}i", passed[0][2])
        pid = _bear(births[number == PROBE], line, number, uid, descriptors)
        line.send(b"%d %d" % (number, pid))


def _bear(birth: Birth, line: _socket.socket, number: int, uid: int, descriptors: tuple[int, ...]) -> int:
    """Make one worker; the pid of its first process, or 0 if there is none."""
    channel, output, word = descriptors
    files = {0: 0, 1: output, 2: output, policy.CHANNEL: channel, CONTROL: line.fileno(), WORD: word}
    try:
        return birth.bear(number, uid, files)
    except OSError as fault:
        with contextlib.suppress(OSError):  # nobody is interested any more
            os.write(output, told(fault))
        return 0
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
