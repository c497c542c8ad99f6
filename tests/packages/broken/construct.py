# SPDX-License-Identifier: MIT
"""A file with one class that can be made and one that cannot."""

from pydra.cluster.tasks import Task


class CanBeMade(Task):
    """Can be made."""

    def work(self):
        return None


class CannotBeMade(Task):
    """Cannot be made."""

    def __init__(self):
        raise ValueError("not today")

    def work(self):
        return None
