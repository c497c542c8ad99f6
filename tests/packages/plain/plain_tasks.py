# SPDX-License-Identifier: MIT
"""Tasks without forms."""

import os
import signal
import threading
import warnings

from pydra.cluster.tasks import ParallelTask, Task, TaskContainer
from pydra.errors import TaskCancelled


class MyTask(Task):
    """Answers the arguments that it was given."""

    description = "answers its arguments"

    def work(self, **kwargs):
        return kwargs


class Greeting(Task):
    """Takes one argument."""

    def work(self, name):
        print(f"hello {name}")
        return f"hello {name}"


class Value(Task):
    """Answers one value of many kinds."""

    def work(self, value=None):
        return value


class Zero(Task):
    """Answers a value that is false."""

    def work(self):
        return 0


class Echoes(ParallelTask):
    """Answers its items."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Echo)
        self.seen = []

    def datasource(self, items):
        return items

    def work_unit_complete(self, data, results):
        self.seen.append(results)

    def work_complete(self):
        return self.seen


class Echo(Task):
    """A unit of it."""

    def work(self, data):
        return [data, os.getpid()]


class StartsAnother(Task):
    """Starts a parallel task by itself."""

    def work(self, items):
        return [Echoes().start({"items": items}), os.getpid()]


class StopsItself(Task):
    """Calls its own stop(), and goes on; or raises that it is cancelled, or both."""

    def work(self, stops=True, raises=False):
        if stops:
            self.stop()
        if raises:
            raise TaskCancelled
        return "done"


class UntilStopped(Task):
    """Works until it is told to stop, and then returns."""

    def __init__(self):
        self.changed = threading.Event()

    def stop(self):
        super().stop()
        self.changed.set()

    def work(self):
        print("waiting")
        self.changed.wait(60)
        return "stopped"


class Reporting(Task):
    """Tells a progress until it is told to stop."""

    def __init__(self):
        super().__init__()
        self.percent = 0
        self.gate = threading.Event()

    def work(self):
        self.percent = 40
        self.gate.wait(60)

    def stop(self):
        super().stop()
        self.gate.set()

    def progress(self):
        return self.percent

    def progressMessage(self):
        return "forty"


class Writing(Task):
    """Writes in every way."""

    def work(self):
        import sys

        print("printed")
        self.logger.info("logged %d", 1)
        self.logger.debug("not logged")
        warnings.warn("warned", stacklevel=1)
        sys.stdout.write("half")
        sys.stdout.write(" and half\n")
        sys.stdout.buffer.write(b"bytes \xff\n")
        print("half a pair \ud800")
        print("x" * 40000)
        print("no end", end="")


class Where(Task):
    """Answers what a task knows of its surroundings."""

    def work(self):
        import sys

        return {
            "worker": self.get_worker().worker_key,
            "key": self.get_key(),
            "django": "django" in sys.modules,
            "msgspec": "msgspec" in sys.modules,
            "twisted": "twisted" in sys.modules,
        }


class Forking(Task):
    """A process that it forks writes, and comes back from work()."""

    def work(self):
        process = os.fork()
        if process == 0:
            print("from the fork")
            return "fork"
        os.waitpid(process, 0)
        return "worker"


class LateSignal(Task):
    """Its handler of a signal raises, whenever that comes; and its result is long."""

    def work(self):
        def late(*_):
            raise TimeoutError("too late")

        signal.signal(signal.SIGUSR1, late)
        return bytes(20_000_000)


class Chain(TaskContainer):
    """Three tasks, each with the result of the one before."""

    def __init__(self):
        super().__init__()
        self.add_task(MyTask(), 80)
        self.add_task(MyTask())
        self.add_task(MyTask())
