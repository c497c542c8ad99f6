# SPDX-License-Identifier: MIT
"""
`WebController`: the functions of the master as if they were methods.

    controller = WebController(host, port)
    tasks = controller.list_tasks()
    task_id = controller.run_tasks("demo.TestTask", start=3)

Which functions there are is the master's affair: any attribute is one, and calling one that the master does
not have raises `ControllerException` with code -6. Logging in happens by itself, with the key file. In
``run_tasks`` every named argument is the task's own, also one named ``args`` or ``request_key``; only a task
key given by name takes the name ``task_key``, so give it by position.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from pydra.cluster.controller.web.session import Session


class RemoteFunction:
    """A function of the master; see the class that it was got from for what calling it may raise."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.__name__ = name

    def __call__(self, /, *args: object, **kwargs: object) -> Any:  # JSON of any function
        """What the function returned."""
        return self._session.call(self.__name__, args, kwargs)

    def __repr__(self) -> str:
        return f"<function {self.__name__} of the master>"


class WebController:
    """
    A controller of the master at ``host`` and ``port``, with the key in the file ``key``.

    The key is read at the first call, and connections are kept between calls; threads may share one
    controller. Calls raise `ControllerException`, or its `ControllerRemoteException` if the function itself
    refused or failed. An attribute is a function of the master unless it begins with an underscore;
    ``upload_package`` sends a package, ``fetch_result`` gets a result of any size, and ``close`` closes the
    kept connections.
    """

    def __init__(
        self, host: str = "localhost", port: int = 18801, key: str | os.PathLike[str] = "./master.key"
    ) -> None:
        self._session = Session(host, int(port), Path(key))
        self._where = f"{host}:{port}"

    def __getattr__(self, name: str) -> RemoteFunction:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        function = RemoteFunction(self._session, name)
        self.__dict__[name] = function
        return function

    def __dir__(self) -> list[str]:
        return ["close", "fetch_result", "upload_package"]

    def fetch_result(self, task_id: int) -> Any:  # whatever the task returned
        """
        What a task instance that is complete returned, of any size, in Python's own types.

        ``task_result`` shows it as JSON, and not if it is large.
        """
        from pydra.cluster.wire import payload  # noqa: PLC0415 - others need no MessagePack

        answer = self._session.fetch(f"/results/{int(task_id)}")
        return payload.unpack_apart(answer.head, answer.rest)

    def upload_package(self, package: str, packed: bytes) -> Any:  # JSON
        """
        Deploy a package from the bytes that `pydra.cluster.packages.upload.compress` makes of its directory.

        The package as ``package_list`` shows it, once it is described and current.
        """
        return self._session.upload(package, packed)

    def close(self) -> None:
        """Close the connections that are kept; a later call opens a new one."""
        self._session.close()

    def __enter__(self) -> WebController:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<WebController of {self._where}>"
