# SPDX-License-Identifier: MIT
"""
Tasks to try a cluster with: one that counts, one made of three of it, and one that does ten things at once.

``TestTask().start({"start": 0, "end": 3})`` runs without any cluster.
"""

from __future__ import annotations

import time

from django import forms

from pydra.cluster.tasks import ParallelTask, Task, TaskContainer


class TestTaskInput(forms.Form):
    """What TestTask asks for."""

    start = forms.IntegerField(initial=0, label="Start", help_text="The number to begin with")
    end = forms.IntegerField(initial=5, label="End", required=False, help_text="The number to stop at")


class TestTask(Task):
    """Counts from start to end, one number a second."""

    __test__ = False  # not a test, whatever its name says to a test runner

    description = (
        "Counts from start to end, one number a second, and returns where it ended as the next start."
    )
    form = TestTaskInput

    def __init__(self, msg=None):
        super().__init__(msg)
        self.first = self.now = self.last = 0

    def work(self, start=0, end=None):
        self.first = self.now = start
        self.last = start + 5 if end is None else end
        while self.now < self.last and not self.STOP_FLAG:
            time.sleep(1)
            self.now += 1
            print(f"counted to {self.now}")
        return {"start": self.now}

    def progress(self):
        steps = self.last - self.first
        return 100 * (self.now - self.first) // steps if steps > 0 else 0

    def progressMessage(self):  # noqa: N802 - the name that Task gives it
        return f"counting {self.now} of {self.last}"


class TestContainerTask(TaskContainer):
    """Three counts in a chain: each begins where the one before ended."""

    __test__ = False

    description = "Three counts in a chain: each begins where the one before ended."
    form = TestTaskInput

    def __init__(self, msg=None):
        super().__init__(msg)
        self.add_task(TestTask("first"), 80)
        self.add_task(TestTask("second"))
        self.add_task(TestTask("third"))


class TestParallelUnit(Task):
    """What TestParallelTask has done for each of its items."""

    __test__ = False

    description = "Takes a second, and returns twice what it is given as data."

    def work(self, data):
        time.sleep(1)
        print(f"doubled {data}")
        return 2 * data


class TestParallelTask(ParallelTask):
    """Ten items, each of which takes a second."""

    __test__ = False

    description = "Ten items that take a second each, on as many workers as are free; returns their sum."
    datasource = range(10)

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(TestParallelUnit)
        self.sum = 0

    def work_unit_complete(self, data, results):
        self.sum += results

    def work_complete(self):
        return {"sum": self.sum}
