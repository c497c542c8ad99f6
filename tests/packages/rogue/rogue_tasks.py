# SPDX-License-Identifier: MIT
"""Tasks that write to the channel of their worker what only its runtime may write there, and not that."""

import os
import stat
import sys
import time

from pydra.cluster.tasks import ParallelTask, Task
from pydra.cluster.wire.frames import ASK, DONE, RESULT, encode

LIE = b"\x05"
"""The packed result 5."""


def say(*frames):
    """Write frames to the daemon, past the runtime, and give it time to act on them."""
    for descriptor in range(3, 64):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        except OSError:
            continue
        if is_socket:
            os.write(descriptor, b"".join(map(encode, frames)))
    time.sleep(1)


def own_batch():
    """The name of the batch that this worker runs."""
    frame = sys._getframe()
    while "batch" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["batch"]


class Unit(Task):
    """One unit of it lies, as it is told; the others answer their number."""

    def work(self, data):
        how, number = data
        if number:
            return number
        if how == "foreign":
            say([DONE, "1.1", 0, [LIE], {}, 0.1])
        if how == "later":
            say([DONE, own_batch(), 1, [LIE], {}, 0.1])
        if how == "more":
            say([DONE, own_batch(), 0, [LIE] * 1000, {}, 0.1])
        if how == "asks":
            say([ASK, "Other", [0], [b"\x80"], bytes(16), 0.0, 0])
        if how == "result":
            say([RESULT, LIE])
        if how == "twice":
            say([DONE, own_batch(), 0, [LIE], {}, 0.1], [DONE, own_batch(), 0, [b"\x06"], {}, 0.1])
        return number


class Rogue(ParallelTask):
    """Has such units."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Unit)
        self.told = []

    def datasource(self, how):
        return [(how, number) for number in range(6)]

    def work_unit_complete(self, data, results):
        self.told.append(results)

    def work_complete(self):
        return sorted(self.told)


class Root(Task):
    """An instance whose own worker does so."""

    def work(self, how):
        if how == "twice":
            say([RESULT, LIE], [RESULT, b"\x06"])
        say([DONE, "1.1", 0, [LIE], {}, 0.1])
        return how
