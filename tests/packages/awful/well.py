# SPDX-License-Identifier: MIT
from pydra.cluster.tasks import Task


class Well(Task):
    """Is well, whatever is beside it."""

    def work(self):
        return "well"
