# SPDX-License-Identifier: MIT
"""Tasks that write, and tasks that look for what others wrote."""

import os
import sys
import time

from pydra.cluster.tasks import Task, TaskContainer


class Writes(Task):
    """Writes lines of each kind, with the time at which it did."""

    def work(self, name="it", times="1"):
        for number in range(int(times)):
            print(f"{name} prints {number} at {time.time():.6f}")
            print(f"{name} complains {number} at {time.time():.6f}", file=sys.stderr)
            self.logger.warning("%s logs %d at %.6f", name, number, time.time())


class WritesTwice(TaskContainer):
    """Two children that write."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.add_task(Writes("first"))
        self.add_task(Writes("second"))


class Begins(Task):
    """Begins, writes many lines after a while, and waits for the stop flag; each run has a name."""

    def work(self, lines="1000", after="2"):
        name = os.urandom(4).hex()
        print(name, "begins", flush=True)
        time.sleep(float(after))
        for number in range(int(lines)):
            print(name, "line", number)
        print(name, "waits", flush=True)
        while not self.STOP_FLAG:
            time.sleep(0.05)


class Settles(Task):
    """Writes into its scratch and forks children that stay, in sessions of their own."""

    def work(self, children="3"):
        with open("mine", "w") as file:
            file.write("written")
        for _ in range(int(children)):
            if os.fork() == 0:
                os.setsid()
                time.sleep(600)
                os._exit(0)
        with open("mine") as file:
            print("settled and", file.read(), flush=True)
        time.sleep(600)


class Looks(Task):
    """Answers which processes, files of other instances, keys, and paths that it is told it can reach."""

    def work(self, paths=()):
        own = ("1", str(os.getpid()))  # the first process of its sandbox, and itself
        others = [entry for entry in os.listdir("/proc") if entry.isdigit() and entry not in own]
        paths = [*paths, "/proc/1/cwd/mine", "/proc/1/root/task/work/mine"]
        found = others + [path for path in paths if self.reads(path)]
        for top, below, names in os.walk("/"):
            below[:] = [name for name in below if top != "/" or name not in ("proc", "sys", "usr")]
            found += [f"{top}/{name}" for name in names if name in ("mine", "master.key", "identity.key")]
        return found

    def reads(self, path):
        """Whether anything can be read there."""
        try:
            with open(path, "rb") as file:
                return bool(file.read(1))
        except OSError:
            return False
