# SPDX-License-Identifier: MIT
"""A task whose module imports numpy."""

from __future__ import annotations

import numpy

from pydra.cluster.tasks import Task


class WithNumpy(Task):
    """Returns a sum."""

    def work(self) -> int:
        """Adds three ones."""
        return int(numpy.ones(3).sum())
