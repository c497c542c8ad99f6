# SPDX-License-Identifier: MIT
"""Tasks that do what a worker must survive, or at least answer truthfully."""

import os
import signal
import sys

from pydra.cluster.tasks import Task


class Unencodable(Task):
    """Answers an object that cannot travel."""

    def work(self):
        return {"rows": [1, object()]}


class Cyclic(Task):
    """Answers a list that contains itself."""

    def work(self):
        value = []
        value.append(value)
        return value


class Large(Task):
    """Answers a given number of MiB."""

    def work(self, mebibytes=9):
        return b"x" * (mebibytes * 1024 * 1024)


class Flood(Task):
    """Prints many lines."""

    def work(self, lines=200_000):
        for number in range(lines):
            print(number)
        return lines


class ClosesDescriptors(Task):
    """Closes everything that it was given."""

    def work(self):
        os.closerange(0, 65536)
        return "closed"


class ClosesOutput(Task):
    """Closes its standard output."""

    def work(self):
        sys.stdout.close()
        sys.stderr = None
        return "closed"


class KillsItself(Task):
    """Ends its process."""

    def work(self):
        os.kill(os.getpid(), signal.SIGKILL)


class LeavesAtOnce(Task):
    """Ends its process without a word."""

    def work(self):
        os._exit(5)


class IgnoresStop(Task):
    """Never looks at its stop flag."""

    def work(self):
        print("ignoring")
        while True:
            signal.pause()


class FailsToStop(Task):
    """Its stop() raises."""

    def work(self):
        print("waiting")
        while not self.STOP_FLAG:
            pass

    def stop(self):
        raise RuntimeError("no")


class BadProgress(Task):
    """Its progress() raises, until it may end."""

    asked = 0

    def work(self):
        while self.asked < 3:
            pass
        return "done"

    def progress(self):
        self.asked += 1
        raise ZeroDivisionError("progress")


class EvilText(Task):
    """Raises an exception that fails when it is looked at."""

    def work(self):
        class Evil(Exception):
            def __str__(self):
                sys.exit(1)

            __repr__ = __str__

        raise Evil


class DeepRecursion(Task):
    """Calls itself without end."""

    def work(self, **kwargs):
        return self.work(**kwargs)


class LongMessage(Task):
    """Raises with a very long text."""

    def work(self):
        raise ValueError("\ud800" + "x" * 2_000_000)


class PrintsInSignal(Task):
    """Prints from a signal handler while it prints."""

    def work(self):
        signal.signal(signal.SIGALRM, lambda *_: print("alarm " * 100))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for number in range(20_000):
            print("line", number)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return "done"
