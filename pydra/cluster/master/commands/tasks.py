# SPDX-License-Identifier: MIT
"""What the cluster can run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pydra.cluster.interfaces import Store
from pydra.cluster.master.commands.objects import JSON, as_time
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.packages.content import name_problem
from pydra.model.ids import PackageName
from pydra.model.package import PackageDescription


class TaskCommands:
    """Tasks and packages."""

    def __init__(self, library: PackageLibrary, store: Store) -> None:
        self._library = library
        self._store = store

    async def list_tasks(self, toplevel: bool = True, keys: Sequence[str] | None = None) -> JSON:
        """
        Every task by its key, with description, last run and form.

        ``toplevel`` changes nothing: classes that are only made inside other tasks are not listed by
        themselves. ``keys``, if there are any, restricts.
        """
        last_runs = await self._store.last_runs()
        wanted = set(keys) if keys else None
        return {
            task.key: {
                "description": task.description,
                "last_run": last_runs.get(task.key),
                "form": task.form.html if task.form is not None else None,
            }
            for _, task in self._library.tasks()
            if wanted is None or task.key in wanted
        }

    async def task_form(self, task_key: str) -> JSON | None:
        """The declared arguments of a task; None if it takes what it is given."""
        _, task = self._library.find(task_key)
        if task.form is None:
            return None
        form: JSON = msgspec.to_builtins(task.form)
        return form

    async def package_list(self) -> list[JSON]:
        """
        The current version of each package: its tasks, names and versions of what it depends on, and the
        files that cannot be used and why.
        """
        return [
            {**package_object(description), "uploaded": self._library.is_uploaded(description.package)}
            for description in self._library.packages()
        ]

    async def package_remove(self, package: str) -> bool:
        """Forget an uploaded package; false if none of this name was uploaded. Accepted instances go on."""
        return name_problem(package) is None and await self._library.remove_uploaded(PackageName(package))


def package_object(description: PackageDescription) -> JSON:
    """A version of a package, as it is listed."""
    return {
        "package": description.package,
        "version": description.version,
        "tasks": [task.key for task in description.tasks],
        "errors": [{"file": error.file, "message": error.message} for error in description.errors],
        "dependencies": [list(dependency) for dependency in description.needs.dependencies],
        "described": as_time(description.described or None),
    }
