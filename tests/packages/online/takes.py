# SPDX-License-Identifier: MIT
"""The same as in ``greedy``, with the network."""

import urllib.request

from pydra.cluster.tasks import Task


class Fetches(Task):
    """Reads a page of this machine."""

    def work(self, url=""):
        with urllib.request.urlopen(url) as opened:
            return opened.read().decode()
