# SPDX-License-Identifier: MIT
"""A file that is well, among others that are not."""

from pydra.cluster.tasks import Task, TaskContainer
from pydra.cluster.tasks import Task as AnotherName  # noqa: F401


class GoodTask(Task):
    """Works."""

    description = "works"

    def work(self):
        return "good"


class AbstractTask(Task):
    """Has no work() of its own."""


class _PrivateTask(GoodTask):
    """Is nobody's business."""


Alias = GoodTask


class Pair(TaskContainer):
    """
    A container that
    is told of in two lines.

    And more.
    """


def function(task: Task) -> None:
    """Do nothing."""
