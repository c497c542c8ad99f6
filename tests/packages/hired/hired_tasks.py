# SPDX-License-Identifier: MIT
"""Tasks whose units hired workers run, and tasks that ask for units."""

import os
import sys
import time

from pydra.cluster.tasks import Task, TaskContainer


class Echo(Task):
    """Answers what it is given."""

    def work(self, value=None):
        return value


class Used(Task):
    """Counts how often this very task has worked."""

    def __init__(self, start):
        self.count = start

    def work(self):
        self.count += 1
        return self.count


class Ends(Task):
    """Ends in many ways."""

    def work(self, how):
        if how == "raises":
            raise ValueError("no luck")
        if how == "raises much":
            raise ValueError("\u20ac" * 5000)
        if how == "exits":
            sys.exit(4)
        if how == "interrupted":
            raise KeyboardInterrupt
        if how == "memory":
            raise MemoryError
        if how == "unencodable":
            return object()
        if how == "large":
            return b"x" * 9 * 2**20
        if how == "dies":
            os._exit(5)
        if how == "forks":
            return os.fork() and "parent"
        return how


class Prints(Task):
    """Writes lines, the last of them without an end."""

    def work(self, lines):
        for line in lines:
            print(line)
        sys.stderr.write("open")
        if lines:
            self.logger.info("logged")


class Long(Task):
    """Takes its time, until it is stopped."""

    def work(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.STOP_FLAG:
            time.sleep(0.001)
        return "stopped" if self.STOP_FLAG else "done"


class Asks(Task):
    """Has units of a subtask run and answers what came of them."""

    def branch(self):
        return "1.Echo"

    def work(self, values, rounds=1, forget=False, timeout=None, times=1):
        units = self.get_worker().units
        told = []
        for _ in range(rounds):
            units.ask(self.branch(), range(len(values)), [value * times for value in values], 2.5)
            if forget:
                units.forget(self.branch())
                continue
            left = len(values)
            while left:
                answers = units.answers(timeout)
                if timeout is not None and not answers:
                    return [told, "nothing"]
                left -= len(answers)
                told += [list(answer) for answer in answers]
        return told


class AsksBelow(Asks):
    """Asks for units of its sibling, which stands below the same unit."""

    def branch(self):
        return f"{self.parent.get_key()}.1.Echo".partition(".")[2]


class Deeper(TaskContainer):
    """A subtask that asks for units of a subtask of its own."""

    def __init__(self):
        super().__init__()
        self.add_task(AsksBelow())
        self.add_task(Echo())

    def work(self, **kwargs):
        return self.subtasks[0].task.start(kwargs)


class Nested(Deeper):
    """Another, which has one as a subtask."""

    def __init__(self):
        super().__init__()
        self.add_task(Deeper())


class CannotBeMadeAgain(Task):
    """Its constructor works once."""

    made = 0

    def __init__(self):
        type(self).made += 1
        if self.made > 1:
            raise OSError("only once")

    def work(self):
        return None


class Leaves(Task):
    """Asks, and ends without waiting."""

    def work(self, values):
        self.get_worker().units.ask("1.Echo", range(len(values)), values)
        return self.get_worker().units.path("1.Echo")


class Root(TaskContainer):
    """Holds one of each."""

    def __init__(self):
        super().__init__()
        tasks = (Asks(), Echo(), Used(3), Ends(), Prints(), Nested(), Long(), CannotBeMadeAgain(), Leaves())
        for task in tasks:
            self.add_task(task)
