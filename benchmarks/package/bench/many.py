# SPDX-License-Identifier: MIT
"""A parallel task whose units do nothing."""

from pydra.cluster.tasks import ParallelTask, Task


class Unit(Task):
    """Answers at once."""

    def work(self, data):
        """Answer a constant."""
        return 0


class Many(ParallelTask):
    """So many units that do nothing."""

    description = "Units that do nothing"

    def __init__(self):
        super().__init__()
        self.set_subtask(Unit)
        self.seen = 0

    def datasource(self, count=100_000):
        """One number a unit."""
        return range(count)

    def work_unit_complete(self, data, results):
        """Count it."""
        self.seen += 1

    def work_complete(self):
        """How many there were."""
        return self.seen
