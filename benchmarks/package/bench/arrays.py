# SPDX-License-Identifier: MIT
"""A task that gives back what it is given."""

from pydra.cluster.tasks import Task


class Same(Task):
    """Answers its argument."""

    def work(self, array):
        """Answer it."""
        return array
