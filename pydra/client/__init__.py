# SPDX-License-Identifier: MIT
"""
Pydra for programs: submit tasks and get their results. Synchronous, and safe to share between threads.

    from pydra.client import Client

    with Client() as cluster:
        instance = cluster.submit("demo.TestTask", {"start": 3})
        print(instance.result())

``client`` has `Client`, ``instance`` has `TaskInstance`; everything else that the master can do is reached
through ``Client.controller``, a `WebController`.
"""

from __future__ import annotations

from pydra.client.client import Client
from pydra.client.instance import Line, TaskInstance

__all__ = ["Client", "Line", "TaskInstance"]
