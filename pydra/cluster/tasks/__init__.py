# SPDX-License-Identifier: MIT
"""
What a task author imports.

``task`` has the class that every task derives from, ``container`` runs tasks one after another. Both work in
a worker and, without any cluster, in a plain interpreter: ``MyTask().start({"start": 0})`` runs and answers.
"""

from __future__ import annotations

from pydra.cluster.tasks.container import TaskContainer
from pydra.cluster.tasks.task import Task
from pydra.errors import TaskNotFoundException

__all__ = ["Task", "TaskContainer", "TaskNotFoundException"]
