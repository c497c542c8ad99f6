# SPDX-License-Identifier: MIT
"""Tasks whose course a test can follow."""

import os
import time

from pydra.cluster.tasks import Task, TaskContainer


class Step(Task):
    """Takes a second, in tenths, and hands its arguments on with its name added."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.tenths = 0

    def work(self, **kwargs):
        while self.tenths < 10 and not self.STOP_FLAG:
            time.sleep(0.1)
            self.tenths += 1
        return kwargs | {f"step_{len(kwargs)}": self.msg}

    def progress(self):
        return 10 * self.tenths


class Refuses(Task):
    """Raises."""

    def work(self, **kwargs):
        raise ValueError(f"refused {sorted(kwargs)}")


class Steps(TaskContainer):
    """80, and the rest in halves."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.add_task(Step("first"), 80)
        self.add_task(Step("second"))
        self.add_task(Step("third"))


class AllExplicit(TaskContainer):
    """Every weight is given."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.add_task(Step("first"), 50)
        self.add_task(Step("second"), 50)


class SecondRefuses(TaskContainer):
    """The second child raises."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.add_task(Step("first"))
        self.add_task(Refuses("second"))


class Sleeps(Task):
    """Sleeps, deaf to the stop flag."""

    def work(self, seconds="60"):
        print("asleep", flush=True)
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            time.sleep(0.05)
        return "slept"


class ForksAndSleeps(Task):
    """Leaves children in sessions of their own, which ignore every signal that can be ignored."""

    def work(self, children="5"):
        import signal

        for _ in range(int(children)):
            if os.fork() == 0:
                os.setsid()
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                time.sleep(600)
                os._exit(0)
        print("forked", flush=True)
        time.sleep(600)


class Reads(Task):
    """Tries to read a path."""

    def work(self, path):
        with open(path, "rb") as file:
            return file.read(100)


class Answers(Task):
    """Returns as many bytes as it is asked for."""

    def work(self, size="0", data=""):
        return {"text": "x" * int(size), "given": len(data)}
