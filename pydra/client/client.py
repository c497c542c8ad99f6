# SPDX-License-Identifier: MIT
"""The cluster, as a program sees it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pydra.client.instance import TaskInstance
from pydra.client.target import find_target
from pydra.cluster.controller.web.controller import WebController
from pydra.errors import InvalidParameters


class Client:
    """
    Submits tasks to a cluster and finds their instances again.

    Without arguments, the settings file says where the master is and which key to use, or else it is the
    cluster that ``pydra cluster up`` started; each argument takes the place of its setting, and with host,
    port and key no settings are read. Calls raise `ControllerException`.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        key: str | os.PathLike[str] | None = None,
        settings: str | os.PathLike[str] | None = None,
    ) -> None:
        named = None if key is None else os.fspath(key)
        file = None if settings is None else Path(settings)
        found = find_target(host, port, named, os.environ, file)
        self.controller = WebController(found.host, found.port, found.key)
        """All functions of the master, for what this class has no method for."""

    def submit(
        self,
        task_key: str,
        args: Mapping[str, object] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> TaskInstance:
        """
        Queue the task; when this returns, the master has recorded the instance.

        ``options`` say how it is run: ``priority``, ``time_limit``, ``retries``, ``retry_delay``,
        ``retry`` (``"never"`` for at most once), ``exclusive``, ``resources``, ``labels``, and ``after`` and
        ``follow``, each of which takes an instance or its id, a list of them, or a mapping with
        ``instances``, ``mode``, ``success`` and ``failure``.
        `InvalidParameters` says which arguments the task's form refuses, and which options cannot be.
        """
        if options is not None and not isinstance(options, Mapping):
            raise InvalidParameters(errors={"options": ["a mapping of names to values is needed."]})
        wanted = {"options": _plain(options)} if options else {}
        answer = self.controller.queue_task(task_key, dict(args or {}), **wanted)
        if answer.get("errors"):
            raise InvalidParameters(errors=answer["errors"])
        return TaskInstance(self.controller, int(answer["instance_id"]), task_key)

    def instance(self, instance_id: int) -> TaskInstance:
        """The instance with a known id; nothing is asked until one of its methods is called."""
        return TaskInstance(self.controller, instance_id)

    def deploy(self, directory: str | os.PathLike[str], name: str = "") -> dict[str, Any]:
        """
        Send the package in a directory and wait until it is current; it is as ``package_list`` shows it.

        Its name is that of the directory, unless one is given. `PackageRefused` if its files break a rule.
        """
        from pydra.cluster.packages.upload import compress  # noqa: PLC0415 - few programs deploy

        path = Path(directory)
        listed: dict[str, Any] = self.controller.upload_package(name or path.resolve().name, compress(path))
        return listed

    def close(self) -> None:
        """Close the connections that are kept."""
        self.controller.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _plain(options: object) -> object:
    """Options with the ids of instances in the place of these, as JSON."""
    if isinstance(options, TaskInstance):
        return options.id
    if isinstance(options, Mapping):
        return {name: _plain(value) for name, value in options.items()}
    if isinstance(options, list | tuple | set | frozenset):
        return [_plain(value) for value in options]
    return options
