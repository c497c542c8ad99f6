# SPDX-License-Identifier: MIT
"""
What is in a package: its tasks, and the files that hide themselves by being broken.

Each file is imported in a process forked for it, with a time limit. So a file that calls ``exit``, kills its
process or hangs hides only itself, and says why; and the process that answers never saw user code.
"""

from __future__ import annotations

import os
import select
import signal
from time import monotonic

import msgpack

from pydra.cluster.wire.frames import DESCRIBED
from pydra.cluster.worker.failure import words_of
from pydra.cluster.worker.forms import TEXT_LIMIT, describe_form, text
from pydra.cluster.worker.loader import CodeFault, form_of, is_task, load_module, make_task, open_package
from pydra.cluster.worker.runner import send_answer
from pydra.errors import LoadError

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from typing import NoReturn

    from pydra.cluster.worker.channel import Channel

FILE_S = 5.0
"""How long one file may take."""

PACKAGE_S = 8.5
"""How long all files may take; the master ends a describe worker after 10 s."""

AT_ONCE = 4
"""Files that are looked at together, so that those that hang do so in the same time."""

ANSWER_SIZE = 1024 * 1024 - 16 * 1024
"""Bytes of what may be told of a package."""

FILES_LIMIT = 1000
"""Files with tasks at the root of a package."""


class FileRun:
    """One file in its own process, and what has come from it."""

    def __init__(self, file: str, process: int, pipe: int, deadline: float) -> None:
        self.file = file
        self.process = process
        self.pipe = pipe
        self.deadline = deadline
        self.received = bytearray()

    @property
    def answer(self) -> bytes | None:
        """The whole answer, once it is here."""
        size = int.from_bytes(self.received[:4], "big")
        return bytes(self.received[4 : 4 + size]) if len(self.received) >= 4 + size and size else None


class Describer:
    """Looks at all files of one package."""

    def __init__(
        self,
        channel: Channel,
        packages: str,
        package: str,
        dependencies: Iterable[object] = (),
        only: Container[object] = (),
    ) -> None:
        self._channel = channel
        self._packages = packages
        self._package = package
        self._dependencies = dependencies
        self._only = only
        self._tasks: list[object] = []
        self._errors: list[object] = []
        self._size = 0
        self._deadline = monotonic() + PACKAGE_S

    def describe(self) -> dict[str, object]:
        """The tasks and the errors, in the order of the files' names."""
        files = self._files()
        running: list[FileRun] = []
        answers: dict[str, bytes | str] = {}
        waiting = list(files)
        while waiting or running:
            while waiting and len(running) < AT_ONCE and monotonic() < self._deadline:
                running.append(self._start(waiting.pop(0)))
            if not running:
                break
            for run in self._ready(running):
                answers[run.file] = self._end(run)
                running.remove(run)
        for file in files:
            self._take(file, answers.get(file, "It was not looked at: the files before it took too long."))
        return {"tasks": self._tasks, "errors": self._errors}

    def _files(self) -> list[str]:
        try:
            names = sorted(os.listdir(os.path.join(self._packages, self._package)))
        except OSError as fault:
            self._errors.append({"file": "", "message": f"The package cannot be read: {fault.strerror}."})
            return []
        files = [
            name
            for name in names
            if name.endswith(".py") and name[:-3].isidentifier() and name != "__init__.py"
        ]
        if self._only:
            return [name for name in files if name in self._only]
        if len(files) > FILES_LIMIT:
            self._errors.append(
                {"file": files[FILES_LIMIT], "message": f"Only {FILES_LIMIT} files are looked at."}
            )
        return files[:FILES_LIMIT]

    def _start(self, file: str) -> FileRun:
        pipe, child_pipe = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                os.setpgid(0, 0)
                self._channel.close()
                os.close(pipe)
                open_package(self._packages, self._package, self._dependencies)
                look_at_file(self._package, file, child_pipe)
            finally:
                os._exit(3)
        os.close(child_pipe)
        return FileRun(file, process, pipe, min(monotonic() + FILE_S, self._deadline))

    def _ready(self, running: list[FileRun]) -> list[FileRun]:
        """Wait for something; the runs that have answered, ended or used up their time."""
        pause = max(0.0, min(run.deadline for run in running) - monotonic())
        readable = select.select([run.pipe for run in running], [], [], pause)[0]
        now = monotonic()
        ready = [run for run in running if now >= run.deadline]
        for run in running:
            if run.pipe in readable and run not in ready:
                data = os.read(run.pipe, 64 * 1024)
                run.received += data
                if not data or run.answer is not None or len(run.received) > ANSWER_SIZE:
                    ready.append(run)
        return ready

    def _end(self, run: FileRun) -> bytes | str:
        """The answer of a run, or why there is none; nothing of it is alive after this."""
        late = monotonic() >= run.deadline
        ending, status = _ended(run.process, 0.0 if late or run.answer is not None else 0.5)
        for kill in (os.killpg, os.kill):
            try:
                kill(run.process, signal.SIGKILL)
            except OSError:
                continue  # it has ended
        if ending == 0:
            _, status = os.waitpid(run.process, 0)
        os.close(run.pipe)
        if run.answer is not None:
            return run.answer
        if len(run.received) > ANSWER_SIZE:
            return "It declares too much to be told."
        if late:
            return f"Importing it took longer than {FILE_S:.0f} seconds."
        if os.WIFSIGNALED(status) and ending:
            return f"Importing it killed the process ({signal.Signals(os.WTERMSIG(status)).name})."
        return f"Importing it ended the process{f' with status {os.WEXITSTATUS(status)}' if ending else ''}."

    def _take(self, file: str, answer: bytes | str) -> None:
        if isinstance(answer, str):
            self._errors.append({"file": file, "message": answer})
            return
        prefix = f"{self._package}.{file[:-3]}."
        try:
            told = msgpack.unpackb(answer, raw=False)
            tasks, errors = list(told["tasks"]), [str(message)[:TEXT_LIMIT] for message in told["errors"]]
            fits = all(str(task["key"]).startswith(prefix) for task in tasks)
        except Exception:  # noqa: BLE001 - user code ran in the process that sent this, and may have sent anything
            tasks, errors, fits = [], [], False
        if not fits:
            tasks, errors = [], ["It does not tell what it declares."]
        elif self._size + len(answer) > ANSWER_SIZE:
            tasks, errors = [], ["The files of the package declare too much to be told."]
        else:
            self._size += len(answer)
        self._tasks += tasks
        self._errors += [{"file": file, "message": message} for message in errors]


def describe_package(
    channel: Channel, packages: str, frame: list[object], clock: Callable[[], float]
) -> NoReturn:
    """Answer a DESCRIBE and end the process."""
    _, package, version, *rest = frame
    told = Describer(channel, packages, str(package), *rest).describe()  # type: ignore[arg-type]
    answer = {"package": package, "version": version, **told, "described": clock()}
    send_answer(channel, [DESCRIBED], msgpack.packb(answer, use_bin_type=True))
    os._exit(0)


def look_at_file(package: str, file: str, pipe: int) -> NoReturn:
    """Import a file of an open package, write what it declares to ``pipe``, and end the process."""
    module = file[:-3]
    tasks: list[dict[str, object]] = []
    errors: list[str] = []
    try:
        found = vars(load_module(package, module))
    except LoadError as fault:
        errors.append(str(fault))
        found = {}
    name = f"{package}.{module}"
    for class_name, value in sorted(found.items()):
        if class_name.startswith("_") or not is_task(value) or value.__module__ != name:
            continue
        if value.__name__ != class_name:
            continue  # a second name of a class that is told under its own
        try:
            tasks.append(_describe_task(value, f"{name}.{class_name}", package))
        except BaseException as fault:  # noqa: BLE001 - user code may raise anything, SystemExit included
            errors.append(str(fault) if isinstance(fault, CodeFault) else f"{class_name}: {words_of(fault)}")
    _write(pipe, msgpack.packb({"tasks": tasks, "errors": errors}, use_bin_type=True))
    os._exit(0)


def _describe_task(task_class: type, key: str, package: str) -> dict[str, object]:
    task = make_task(task_class, key)
    form_class = form_of(task_class, package)
    description = task.description
    told: dict[str, object] = {
        "key": key,
        "description": text(description) if description else "",
        "form": None,
    }
    if form_class is not None:
        try:
            told["form"] = describe_form(form_class)
        except BaseException as fault:  # noqa: BLE001 - the form is user code as well
            raise CodeFault(f"The form of {key} cannot be described: {words_of(fault)}") from None
    return told


def _ended(process: int, wait_s: float) -> tuple[int, int]:
    """What waitpid says of a process; one that closed its pipe is given a moment to end."""
    until = monotonic() + wait_s
    ending, status = os.waitpid(process, os.WNOHANG)
    while not ending and monotonic() < until:
        select.select([], [], [], 0.005)
        ending, status = os.waitpid(process, os.WNOHANG)
    return ending, status


def _write(pipe: int, data: bytes) -> None:
    rest = memoryview(len(data).to_bytes(4, "big") + data)
    while rest:
        rest = rest[os.write(pipe, rest) :]
