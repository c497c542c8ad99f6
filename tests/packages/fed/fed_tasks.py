# SPDX-License-Identifier: MIT
"""Tasks that sessions are opened for."""

import os
import time

from pydra.cluster.tasks import Task


class Double(Task):
    """Twice a number, after a while if it is told to."""

    def work(self, n, seconds=0.0):
        if seconds:
            time.sleep(seconds)
        return 2 * n


class Moody(Task):
    """Does as it is told."""

    def work(self, what, n=0):
        if what == "raise":
            raise ValueError(f"no {n}")
        if what == "die":
            os._exit(3)
        if what == "sleep":
            time.sleep(n)
        if what == "large":
            return b"x" * n
        return what if not isinstance(what, bytes) else len(what)
