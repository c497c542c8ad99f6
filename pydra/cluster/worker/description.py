# SPDX-License-Identifier: MIT
"""What is told of a package: it is checked file by file, and small enough to be sent."""

from __future__ import annotations

import msgpack

from pydra.cluster.worker.forms import TEXT_LIMIT

ANSWER_SIZE = 1024 * 1024 - 16 * 1024
"""Bytes of what may be told of a package."""

ERRORS_SIZE = 256 * 1024
"""Bytes of the errors among them."""


class Told:
    """What a file declares."""

    def __init__(self, file: str, tasks: list[object], errors: list[str], size: int) -> None:
        self.file = file
        self.tasks = tasks
        self.errors = errors
        self.size = size


class Answer:
    """What is told of a package; it fits into an answer to the master."""

    def __init__(self) -> None:
        self._tasks: list[object] = []
        self._errors: list[object] = []
        self._size = 0
        self._errors_size = 0
        self._left_out = 0

    def add(self, file: str, told: Told | str) -> None:
        """What a file declares, or why that is not known."""
        if isinstance(told, str):
            self.add_error(file, told)
        elif told.tasks and self._size + told.size > ANSWER_SIZE - ERRORS_SIZE:
            self.add_error(file, "The files of the package declare too much to be told.")
        else:
            self._size += told.size if told.tasks else 0
            self._tasks += told.tasks
            for message in told.errors:
                self.add_error(file, message)

    def add_error(self, file: str, message: str) -> None:
        """What is wrong with a file."""
        size = len(file.encode("utf-8", "replace")) + len(message.encode("utf-8", "replace")) + 32
        if file and self._errors_size + size > ERRORS_SIZE:
            self._left_out += 1
        else:
            self._errors_size += size
            self._errors.append({"file": file, "message": message})

    def told(self) -> dict[str, object]:
        """The tasks and the errors."""
        if self._left_out:
            self.add_error("", f"There are {self._left_out:,} more errors in its files than can be told.")
        return {"tasks": self._tasks, "errors": self._errors}


def read_told(package: str, answer: bytes) -> Told | None:
    """What a process told of a file; None if it cannot be believed."""
    try:
        told = msgpack.unpackb(answer, raw=False)
        file, tasks = str(told["file"]), list(told["tasks"])
        errors = [str(message)[:TEXT_LIMIT] for message in told["errors"]]
        prefix = f"{package}.{file[:-3]}."
        fits = all(str(task["key"]).startswith(prefix) for task in tasks)
    except Exception:  # noqa: BLE001 - user code ran in the process that sent this, and may have sent anything
        return None
    return Told(file, tasks, errors, len(answer)) if fits else None
