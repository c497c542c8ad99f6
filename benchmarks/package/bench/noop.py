# SPDX-License-Identifier: MIT
"""A task that does nothing, in a module that imports nothing of its own."""

from pydra.cluster.tasks import Task


class Noop(Task):
    """Answers at once."""

    description = "Does nothing"

    def work(self, **kwargs):
        """Answer a constant."""
        return 0
