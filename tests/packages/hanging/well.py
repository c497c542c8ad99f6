# SPDX-License-Identifier: MIT
"""A file that is well."""

from pydra.cluster.tasks import Task


class WellTask(Task):
    """Works."""

    def work(self):
        return "well"
