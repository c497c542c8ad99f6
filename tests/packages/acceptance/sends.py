# SPDX-License-Identifier: MIT
"""Work that must not be done twice, and work that must not be done by two at a time."""

import os
import time

from pydra.cluster.tasks import ParallelTask, Task


def call_oneself(name):
    with open("/proc/self/comm", "w") as own:
        own.write(name)  # by which a test finds the process


class Send(Task):
    """Tells that it sends, and takes a while."""

    retry = "never"

    def work(self, data):
        call_oneself("sends")
        print("sends", data["number"], flush=True)
        time.sleep(data["seconds"])
        return data["number"]


class SendAll(ParallelTask):
    """Sends many, and tells how many were sent and by which codes the others failed."""

    failure_policy = "collect"

    def __init__(self):
        super().__init__()
        self.set_subtask(Send)
        self.sent = 0

    def datasource(self, units="100", seconds="0.05"):
        return ({"number": number, "seconds": float(seconds)} for number in range(int(units)))

    def work_unit_complete(self, data, results):
        self.sent += 1

    def work_complete(self):
        return {"sent": self.sent, "failed": sorted(each.code for each in self.failures.values())}


class Once(Task):
    """Runs at most once, for long."""

    retry = "never"

    def work(self):
        call_oneself("sends")
        print("sends", flush=True)
        time.sleep(600)


class Alone(Task):
    """Is exclusive: tells ten times a second, by a name of its own, that it is alive, for some seconds."""

    exclusive = True

    def work(self, seconds="6"):
        call_oneself("alone")
        name, begun = os.urandom(4).hex(), time.monotonic()
        while time.monotonic() - begun < float(seconds):
            print(f"alive {name} {time.time():.3f}", flush=True)
            time.sleep(0.1)
        return name


class AlonePart(Alone):
    """The same, as a unit."""

    def work(self, data):
        return super().work(data)


class AloneUnit(ParallelTask):
    """Has one unit, which is exclusive."""

    def __init__(self):
        super().__init__()
        self.set_subtask(AlonePart)

    def datasource(self, seconds="6"):
        return [seconds]
