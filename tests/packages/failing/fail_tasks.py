# SPDX-License-Identifier: MIT
"""Tasks that fail, each in its own way."""

import sys

from pydra.cluster.tasks import Task, TaskContainer


class FailTask(Task):
    """Raises."""

    def work(self, **kwargs):
        raise ValueError("this task fails")


class ChainedFailTask(Task):
    """Raises because of another exception."""

    def work(self):
        try:
            {}["absent"]
        except KeyError as fault:
            raise RuntimeError("it was absent") from fault


class ExitTask(Task):
    """Calls exit."""

    def work(self):
        sys.exit(3)


class InterruptTask(Task):
    """Raises what is no Exception."""

    def work(self):
        raise KeyboardInterrupt


class BaseTask(Task):
    """Raises an exception of a kind of its own that is no Exception."""

    def work(self):
        class Odd(BaseException):
            pass

        raise Odd("odd")


class FailingContainerTask(TaskContainer):
    """Its second task fails."""

    def __init__(self):
        super().__init__()
        self.add_task(PassTask())
        self.add_task(FailTask())
        self.add_task(PassTask())


class PassTask(Task):
    """Answers its arguments."""

    def work(self, **kwargs):
        return kwargs


class CannotBeMade(Task):
    """Its constructor fails."""

    def __init__(self):
        raise OSError("no such luck")

    def work(self):
        return None
