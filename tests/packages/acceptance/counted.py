# SPDX-License-Identifier: MIT
"""Parallel tasks whose units tell that they were computed, and which may lose their workers on the way."""

import os
import signal
import time

from pydra.cluster.tasks import ParallelTask, Task


class Square(Task):
    """Tells that it computes, takes a while, and squares."""

    def work(self, data):
        with open("/proc/self/comm", "w") as name:
            name.write("squares")  # by which a test finds the process
        print("computed", data["number"], flush=True)
        time.sleep(data["seconds"])
        return data["number"] ** 2


class Counted(ParallelTask):
    """The sum of squares; as this attempt, the main worker dies after so many units."""

    def __init__(self):
        super().__init__()
        self.set_subtask(Square)
        self.total = self.seen = 0

    def datasource(self, units="1000", seconds="0.001", dies_as="", dies_after="900"):
        self.dies_after = int(dies_after) if self.get_worker().attempt == dies_as else None
        return [{"number": number, "seconds": float(seconds)} for number in range(int(units))]

    def work_unit_complete(self, data, results):
        self.seen += 1
        self.total += results
        if self.seen == self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def work_complete(self):
        return self.total
