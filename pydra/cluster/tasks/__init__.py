# SPDX-License-Identifier: MIT
"""
What a task author imports.

``task`` has the class that every task derives from, ``container`` runs tasks one after another or all at
once, ``parallel`` runs one for each item of a ``datasource``. All of them work in a worker and, without any
cluster, in a plain interpreter: ``MyTask().start({"start": 0})`` runs and answers.

What runs elsewhere is a work unit: ``unit_loop`` and ``children`` ask for units, ``units`` knows whom, and
``standalone`` runs them where there is no cluster.
"""

from __future__ import annotations

from pydra.cluster.tasks.container import TaskContainer
from pydra.cluster.tasks.parallel import ParallelTask
from pydra.cluster.tasks.task import Task
from pydra.errors import TaskNotFoundException

__all__ = ["ParallelTask", "Task", "TaskContainer", "TaskNotFoundException"]
