# SPDX-License-Identifier: MIT
"""
What is in a package: its tasks, and the files that hide themselves by being broken.

Files are imported in forked processes, with a time limit: the first each in one of its own, the many others
of a large package in batches. What does not go well in a batch is looked at again, alone. So a file that
calls ``exit``, kills its process or hangs hides only itself, and says why; and the process that answers never
saw user code. Files that look as if they held tasks come first.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from time import monotonic

import msgpack

from pydra.cluster.tasks.failure import words_of
from pydra.cluster.tasks.parallel import ParallelTask
from pydra.cluster.tasks.task import EXCLUSIVE, ONCE
from pydra.cluster.tasks.unit_failure import FailurePolicy
from pydra.cluster.tasks.unit_loop import check_settings
from pydra.cluster.wire.frames import DESCRIBED
from pydra.cluster.worker.description import ANSWER_SIZE, Answer, read_told
from pydra.cluster.worker.forms import describe_form, text
from pydra.cluster.worker.loader import CodeFault, form_of, is_task, load_module, make_task, open_package
from pydra.cluster.worker.runner import send_answer
from pydra.errors import LoadError, TaskError

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

    from pydra.cluster.tasks.task import Task
    from pydra.cluster.worker.channel import Channel
    from pydra.cluster.worker.description import Told

FILE_S = 5.0
"""How long one file may take."""

SLOW_S = 1.0
"""A file of a batch that takes longer is looked at alone; one that is alone does not keep others waiting."""

PACKAGE_S = 8.5
"""How long all files may take; the master ends a describe worker after 10 s."""

AT_ONCE = 4
"""Processes that are not slow; those of files that hang come on top."""

PROCESSES = 24
"""Processes in all."""

ALONE = 32
"""The files that are looked at first have a process each."""

BATCH = 64
"""Files of which each may have to wait for the others in its process."""

UNSEEN_LIMIT = 100
"""If more files than this were not looked at, that is told of all of them together."""

_BOUNDED = (
    ("time_limit", False, 31_536_000),
    ("retries", True, 1000),
    ("retry_delay", False, 86_400),
)
"""Names of a task class, whether they are whole numbers, and the highest that the model takes."""

SOURCE_SIZE = 256 * 1024
"""Bytes of a file that are read to see whether it looks as if it held a task."""


class FileRun:
    """Files that are imported in one process, and what has come from it."""

    def __init__(self, files: list[str], process: int, pipe: int) -> None:
        self.files = files
        self.process = process
        self.pipe = pipe
        self.since = monotonic()
        self.size = 0
        self.answers: list[bytes] = []
        self._held = bytearray()

    @property
    def is_alone(self) -> bool:
        """One file has the process for itself."""
        return len(self.files) == 1

    @property
    def is_done(self) -> bool:
        """All of it is here, or too much."""
        return len(self.answers) >= len(self.files) or self.size > ANSWER_SIZE

    @property
    def deadline(self) -> float:
        """When the file that it is at has taken too long."""
        return self.since + (FILE_S if self.is_alone else min(SLOW_S, FILE_S))

    def feed(self, data: bytes) -> None:
        """Some bytes have come."""
        self.size += len(data)
        self._held += data
        while (size := int.from_bytes(self._held[:4], "big")) and len(self._held) >= 4 + size:
            self.answers.append(bytes(self._held[4 : 4 + size]))
            del self._held[: 4 + size]
            self.since = monotonic()


class Describer:
    """Looks at all files of one package, or at some."""

    def __init__(
        self,
        channel: Channel,
        packages: str,
        package: str,
        dependencies: Iterable[object] = (),
        files: Sequence[object] = (),
    ) -> None:
        self._channel = channel
        self._packages = packages
        self._package = package
        self._dependencies = dependencies
        self._chosen = files
        self._found: dict[str, Told | str] = {}
        self._waiting: deque[list[str]] = deque()
        self._running: list[FileRun] = []
        self._deadline = monotonic() + PACKAGE_S
        self._is_late = False
        """Some files took too long, or their turn never came."""

    def describe(self) -> dict[str, object]:
        """The tasks and the errors, in the order of the files' names."""
        answer = Answer()
        try:
            names = sorted(os.listdir(os.path.join(self._packages, self._package)))
        except OSError as fault:
            answer.add_error("", f"The package cannot be read: {fault.strerror}.")
            return answer.told()
        files = [
            name
            for name in names
            if name.endswith(".py") and name[:-3].isidentifier() and name != "__init__.py"
        ]
        if self._chosen:
            files = [name for name in files if name in self._chosen]
        self._look_at(files)
        unseen = [file for file in files if file not in self._found]
        for file in files:
            if file in self._found:
                answer.add(file, self._found[file])
            elif len(unseen) <= UNSEEN_LIMIT:
                answer.add_error(file, f"It was not looked at: {_OVER}.")
        if len(unseen) > UNSEEN_LIMIT:
            answer.add_error("", f"{len(unseen):,} files, from {unseen[0]} on, were not looked at: {_OVER}.")
        return {**answer.told(), "late": self._is_late or bool(unseen)}

    def _look_at(self, files: list[str]) -> None:
        """Import them all, or as many as there is time for."""
        directory = os.path.join(self._packages, self._package)
        ranks = {file: _rank(os.path.join(directory, file)) for file in files} if len(files) > ALONE else {}
        files = sorted(files, key=lambda file: ranks.get(file, 0))
        self._waiting += [[file] for file in files[:ALONE]]
        self._waiting += _pieces(files[ALONE:], BATCH)
        while self._waiting or self._running:
            while self._waiting and self._may_start():
                self._start(self._waiting.popleft())
            if not self._running:
                break
            for run in self._ready():
                self._running.remove(run)
                self._end(run)

    def _may_start(self) -> bool:
        now = monotonic()
        quick = sum(now < run.since + SLOW_S for run in self._running)
        return now < self._deadline and quick < AT_ONCE and len(self._running) < PROCESSES

    def _start(self, files: list[str]) -> None:
        pipe, child_pipe = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                os.setpgid(0, 0)
                self._channel.close()
                for opened in (pipe, *(run.pipe for run in self._running)):
                    os.close(opened)
                open_package(self._packages, self._package, self._dependencies)
                look_at_files(self._package, files, child_pipe)
            finally:
                os._exit(3)
        os.close(child_pipe)
        self._running.append(FileRun(files, process, pipe))

    def _ready(self) -> list[FileRun]:
        """Wait for something; the runs that have answered, ended or used up their time."""
        now = monotonic()
        ends = [run.deadline for run in self._running]
        ends += [run.since + SLOW_S for run in self._running if run.since + SLOW_S > now]
        pause = max(0.0, min(self._deadline, *ends) - now)
        readable = select.select([run.pipe for run in self._running], [], [], pause)[0]
        ready = []
        for run in self._running:
            data = os.read(run.pipe, 64 * 1024) if run.pipe in readable else None
            if data:
                run.feed(data)
            if data == b"" or run.is_done or monotonic() >= min(run.deadline, self._deadline):
                ready.append(run)
        return ready

    def _end(self, run: FileRun) -> None:
        """Take what a run told, and look again at what it did not tell; nothing of it is alive after this."""
        reason = self._stop(run)
        told = [read_told(self._package, answer) for answer in run.answers]
        by_file = {each.file: each for each in told if each is not None and each.file in run.files}
        self._found |= by_file
        left = [file for file in run.files if file not in by_file]
        if run.is_alone:
            if left:
                self._found[left[0]] = reason or "It does not tell what it declares."
            return
        # An error may come of the other files that were in the process.
        self._waiting += [[file] for file, each in by_file.items() if each.errors]
        if left:
            self._waiting.extendleft(reversed([left[:1], *_pieces(left[1:], max(1, len(run.files) // 4))]))

    def _stop(self, run: FileRun) -> str:
        """Kill what a run left; why it is not done, in words."""
        now = monotonic()
        is_late = now >= min(run.deadline, self._deadline)
        ending, status = _ended(run.process, 0.0 if is_late or run.is_done else 0.5)
        for kill in (os.killpg, os.kill):
            try:
                kill(run.process, signal.SIGKILL)
            except OSError:
                continue  # it has ended
        if ending == 0:
            _, status = os.waitpid(run.process, 0)
        os.close(run.pipe)
        if run.size > ANSWER_SIZE:
            return "It declares too much to be told."
        if run.is_done:
            return ""
        self._is_late |= is_late and run.is_alone
        if is_late and now >= run.deadline:
            return f"Importing it took longer than {FILE_S:.0f} seconds."
        if is_late:
            return f"It was still being imported after {now - run.since:.1f} s: {_OVER}."
        if os.WIFSIGNALED(status) and ending:
            return f"Importing it killed the process ({signal.Signals(os.WTERMSIG(status)).name})."
        return f"Importing it ended the process{f' with status {os.WEXITSTATUS(status)}' if ending else ''}."


_OVER = f"the {PACKAGE_S:g} seconds for the whole package were over"
"""Why a file was left."""


def _rank(path: str) -> int:
    """How likely a file holds a task, 0 for the likeliest; its text says that, and it is not imported."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            source = os.read(opened, SOURCE_SIZE)
        finally:
            os.close(opened)
    except OSError:
        return 0
    if b"Task" in source or b"pydra" in source:
        return 0
    return 1 if b"class" in source or b"import" in source else 2


def _pieces(files: list[str], size: int) -> list[list[str]]:
    return [files[start : start + size] for start in range(0, len(files), size)]


def describe_package(
    channel: Channel, packages: str, frame: list[object], clock: Callable[[], float]
) -> NoReturn:
    """Answer a DESCRIBE and end the process."""
    _, package, version, *rest = frame
    told = Describer(channel, packages, str(package), *rest).describe()  # type: ignore[arg-type]  # the daemon's own
    answer = {"package": package, "version": version, **told, "described": clock()}
    send_answer(channel, [DESCRIBED], msgpack.packb(answer, use_bin_type=True))
    os._exit(0)


def look_at_files(package: str, files: Iterable[str], pipe: int) -> NoReturn:
    """Import files of an open package, write what each declares to ``pipe``, and end the process."""
    for file in files:
        _write(pipe, msgpack.packb({"file": file, **_look_at_file(package, file)}, use_bin_type=True))
    os._exit(0)


def _look_at_file(package: str, file: str) -> dict[str, object]:
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
    return {"tasks": tasks, "errors": errors}


def _describe_task(task_class: type, key: str, package: str) -> dict[str, object]:
    task = make_task(task_class, key)
    form_class = form_of(task_class, package)
    description = task.description or " ".join(
        str(task_class.__doc__ or "").strip().partition("\n\n")[0].split()
    )
    guarantee = _guarantee(task)
    told: dict[str, object] = {
        "key": key,
        "description": text(description) if description else "",
        "form": None,
        **{name: _bounded(task, name, whole, highest) for name, whole, highest in _BOUNDED},
        "retry": "never" if guarantee & ONCE else "lost",
        "exclusive": bool(guarantee & EXCLUSIVE),
        "unit_retries": _unit_retries(task),
    }
    if guarantee & ONCE and told["retries"]:
        raise CodeFault(f'{key} is never run again (retry = "never"); so it can have no retries.')
    if form_class is not None:
        try:
            told["form"] = describe_form(form_class)
        except BaseException as fault:  # noqa: BLE001 - the form is user code as well
            raise CodeFault(f"The form of {key} cannot be described: {words_of(fault)}") from None
    return told


def _bounded(task: object, name: str, whole: bool, highest: int) -> int | float:
    """A number that the class declares; it is checked here so that its author is told of it by name."""
    value: Any = getattr(task, name)  # the author's, whatever it is
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= highest:
        words = "a whole number" if whole else "seconds"
        is_now = f"{name} of {type(task).__name__} is {value!r}"[:200]
        raise CodeFault(f"{is_now}; it can be {words} from 0 to {highest}.")
    return int(value) if whole else float(value)


def _guarantee(task: Task) -> int:
    try:
        return task._guarantee()
    except TaskError as fault:
        raise CodeFault(str(fault)) from None


def _unit_retries(task: Task) -> int:
    """How often a parallel task runs a failed unit again; `CodeFault` if it cannot run its units at all."""
    if not isinstance(task, ParallelTask):
        return 0
    if task._making is None and type(task).work is not ParallelTask.work:
        return 0  # it may have a way of its own
    try:
        FailurePolicy(task.failure_policy)
        check_settings(task, task.subtask._guarantee())
    except TaskError as fault:
        raise CodeFault(str(fault)) from None
    return min(task.unit_retries, 1000)


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
